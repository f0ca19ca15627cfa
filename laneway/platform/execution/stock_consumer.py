"""The consumer of a worker on a broker without the delivery engine: it hands on what it does not know.

Such a broker cannot deliver a message later, and does not count. So the worker itself keeps the message for the delay,
beside its prefetched ones, and then returns it to the queue. Each worker counts for itself, from when it first met the
message. Celery's own consumer would delete a message whose task it does not know.
"""

from __future__ import annotations

import logging
import random
from time import monotonic
from typing import Any, cast
from weakref import WeakSet

from celery.worker import consumer

from laneway.engine.engine import FIRST_HAND_ON
from laneway.platform.current import current_platform
from laneway.platform.errors import PlatformError
from laneway.platform.execution.ledger_attempts import LedgerAttempts
from laneway.platform.history.adoption import payload_of_call
from laneway.worker.hand_on import Unknown, longest_of, report, unknown_task
from laneway.worker.inspect import show_slots
from laneway.worker.masking import mask_stats

logger = logging.getLogger(__name__)

LONGEST_HELD = 5.0
"""The most seconds for which a worker keeps a message, on average. Chance decides who gets it next."""
MOST_REMEMBERED = 10_000
"""Messages that a worker remembers. It then forgets the one that it has not met for the longest time."""


class StockConsumer(consumer.Consumer):
    """Celery's consumer, which keeps a message that it does not know for a while and then returns it."""

    app: Any
    qos: Any
    timer: Any
    hostname: str
    connection_errors: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mask_stats()
        show_slots()
        self._met: dict[str, tuple[float, int]] = {}
        _consumers.add(self)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Hand a message on whose task is not registered here: a newer worker may know it."""
        name = str(exc.args[0] if exc.args else message.headers.get("task"))  # a KeyError
        if not self.hand_on(message, unknown_task(name), name=name):
            super().on_unknown_task(body, message, exc)

    def hand_on(self, message: Any, unknown: Unknown, *, name: str) -> bool:
        """Return the message to its queue after a while. False: that took too long, and its task is a dead letter.

        Then the caller removes the message.
        """
        report(unknown, self.hostname)
        headers: dict[str, Any] = message.headers or {}
        id = str(headers.get("id") or message.payload["id"])
        longest, now = longest_of(self.app), monotonic()
        first, times = self._met.pop(id, (now, 0))
        if now - first >= longest and self._bury(message, unknown, id=id, name=name, longest=longest):
            return False
        self._met[id] = first, times + 1  # the last one: it was met just now
        if len(self._met) > MOST_REMEMBERED:
            del self._met[next(iter(self._met))]
        self.qos.increment_eventually()  # so that others can be fetched meanwhile
        self.timer.call_after(_delay(times), self._give_back, (message,))
        return True

    def _give_back(self, message: Any) -> None:
        self.qos.decrement_eventually()
        message.reject_log_error(logger, self.connection_errors, requeue=True)

    def _bury(self, message: Any, unknown: Unknown, *, id: str, name: str, longest: float) -> bool:
        """Make the task a dead letter in the database. False: the database is away."""
        attempts, info = current_platform().attempts, cast("dict[str, Any]", message.delivery_info or {})
        queue = str(info.get("routing_key") or "")
        if not isinstance(attempts, LedgerAttempts):
            return False
        try:
            payload = payload_of_call(name, *_call(message.payload))
            attempts.bury(
                id, name, payload, queue=queue, reason=unknown.reason, error=unknown.dead_letter(queue, longest)
            )
        except PlatformError as error:
            logger.warning("The dead letter of %s cannot be stored now: %s", id, error)
            return False
        return True


_consumers: WeakSet[StockConsumer] = WeakSet()


def _delay(times: int) -> float:
    """Seconds for which a message is kept. Without chance, the same worker would ask for it first each time."""
    return min(LONGEST_HELD, FIRST_HAND_ON * 2 ** min(times, 32)) * (0.5 + random.random())


def current_consumer() -> StockConsumer | None:
    """The consumer of this process, if it is a worker on a broker without the engine."""
    return next(iter(_consumers), None)


def _call(body: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in the body of a message, of Celery's protocol 2 or 1."""
    names = ("args", "kwargs") if isinstance(body, dict) else (0, 1)
    args, kwargs = cast("tuple[list[Any], dict[str, Any]]", tuple(cast("Any", body)[name] for name in names))
    return list(args), dict(kwargs)
