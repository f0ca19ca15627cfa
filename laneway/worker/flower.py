"""Shows the engine's queues on Flower's page of queues and in its `/api/queues/length`, and results without secrets.

Flower measures Redis lists. The engine uses none, so Flower would show 0 for every queue. Put this into Flower's
configuration file (`flowerconfig.py`, or the file that `--conf` names), which is Python:

    import laneway.worker.flower
    laneway.worker.flower.install()

The two pages then read the engine's numbers over Celery's own broker connection, with its address and options. A
project on another transport keeps Flower's own numbers. No other module imports Flower.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from celery import Celery
from flower.api.tasks import BaseTaskHandler, GetQueueLengths, TaskApply, TaskResult
from flower.urls import handlers
from flower.views import BaseHandler
from flower.views.broker import BrokerView
from tornado.routing import URLSpec

from laneway._masking import masked_repr, without_secrets
from laneway.engine.errors import EngineError
from laneway.engine.replies import QueueStats
from laneway.transport.transport import Transport

CONNECT_SECONDS = 3


def install() -> None:
    """Make Flower show the engine's queues, and results without secrets.

    Call it before Flower starts; a second call does no harm.
    """
    handlers[:] = [_with_our_handler(rule) for rule in handlers]


class EngineBroker:
    """A broker as Flower uses it. `flower` is Flower's application, which knows the workers."""

    def __init__(self, flower: Any) -> None:
        self._flower = flower

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return one row per queue.

        `messages` counts what waits (ready, scheduled, held), `messages_unacknowledged` what is leased.

        Raises Flower's error for a broker that is away (503).
        """
        queues = list(names)
        stats: list[QueueStats] = await self._flower.blocking_runner.run(
            "queue lengths", "broker", _stats, self._flower.capp, queues, connection_errors=(EngineError,)
        )
        consumers = await self._consumers()
        return [_row(queue, consumers.count(queue.queue)) for queue in stats]

    async def _consumers(self) -> list[str]:
        """The queue name of each consumer. Workers that Flower has not inspected yet are inspected now."""
        live = {name for name, worker in self._flower.events.state.workers.items() if worker.alive}
        known = self._flower.workers
        if any("active_queues" not in known.get(name, {}) for name in live):
            await self._flower.update_workers()
        workers = [known.get(name, {}) for name in live]
        return [str(queue["name"]) for worker in workers for queue in worker.get("active_queues", ())]


class _OnEngine(BaseHandler):
    """Gives Flower's handlers the engine as their broker, and also lists queues that no worker consumes."""

    def get_broker(self) -> Any:
        """The engine if the project is on it, else Flower's own broker."""
        if _uses_engine(self.application.capp):
            return EngineBroker(self.application)
        return super().get_broker()

    def get_active_queue_names(self) -> list[str]:
        """The queues that a worker consumes, as in Flower, and all queues that the project declares."""
        names = super().get_active_queue_names()
        app: Celery = self.application.capp
        if not _uses_engine(app):
            return names
        return sorted({*names, *(queue.name for queue in app.conf.task_queues or ())})


class QueuePage(_OnEngine, BrokerView):
    """`/broker`."""


class QueueLengths(_OnEngine, GetQueueLengths):
    """`/api/queues/length`."""


class _WithoutSecrets(BaseTaskHandler):
    """Shows what a task returned or raised without secrets. The events that workers send have none either."""

    def update_response_result(self, response: dict[str, Any], result: Any) -> None:
        """Add the result, or the error and its traceback."""
        super().update_response_result(response, result)
        response["result"] = without_secrets(response["result"], of_text=masked_repr)
        if response.get("traceback"):
            response["traceback"] = masked_repr(str(response["traceback"]))


class ShownResult(_WithoutSecrets, TaskResult):
    """`/api/task/result/ID`."""


class ShownApply(_WithoutSecrets, TaskApply):
    """`/api/task/apply/NAME`."""


_OUR_HANDLERS: dict[Any, Any] = {
    BrokerView: QueuePage,
    GetQueueLengths: QueueLengths,
    TaskResult: ShownResult,
    TaskApply: ShownApply,
}


def _with_our_handler(rule: Any) -> Any:
    """One of Flower's routes, with our handler if there is one."""
    if not isinstance(rule, URLSpec):
        pattern, handler, *more = rule
        return (pattern, _OUR_HANDLERS.get(handler, handler), *more)
    if rule.handler_class not in _OUR_HANDLERS:
        return rule
    pattern = cast("str", rule.regex.pattern)  # pyright: ignore[reportUnknownMemberType] - Tornado types it in part
    return URLSpec(pattern, _OUR_HANDLERS[rule.handler_class], rule.kwargs, rule.name)


def _uses_engine(app: Celery) -> bool:
    with app.connection_for_read() as connection:
        return issubclass(connection.get_transport_cls(), Transport)


def _stats(app: Celery, queues: Sequence[str]) -> list[QueueStats]:
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
        return connection.transport.engine.stats(queues)


def _row(queue: QueueStats, consumers: int) -> dict[str, Any]:
    """The fields of RabbitMQ's management interface, for which Flower's page has columns, and the engine's own."""
    return {
        "name": queue.queue,
        "messages": queue.waiting,
        "messages_ready": queue.ready,
        "messages_unacknowledged": queue.leased,
        "messages_scheduled": queue.scheduled,
        "messages_held": queue.held,
        "messages_limited": queue.limited,
        "messages_dead": queue.dead,
        "consumers": consumers,
        "paused": queue.paused,
    }
