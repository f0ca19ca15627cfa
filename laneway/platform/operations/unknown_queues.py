"""Finds messages in queues of the broker that the application does not declare: nobody here would ever see them.

A queue was renamed and still held tasks, or another program sends to a name that no worker serves. To find such queues
takes a scan over the keys of the broker's database. So the answer is kept for a while, and a request costs no scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Final

from laneway.engine import Engine, MessageInfo, MessageState, QueueStats
from laneway.platform.broker import Broker
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.registry import registry
from laneway.schemas.queue import UnknownQueue

KEPT_SECONDS: Final = 30.0
"""How long an answer is kept."""
MOST_QUEUES: Final = 100
"""Queues that are listed, those with the most messages first."""
PAGE: Final = 200
"""Messages of each state that are looked at for their age and the names of their tasks."""
NAMES: Final = 5
"""Names of tasks that are listed for a queue."""
DRILL_QUEUES: Final = "laneway-drill-"
"""How the queue of a drill begins. The drill removes it."""
LOOKED_AT: Final = (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED)


class UnknownQueues:
    """The queues of the broker that hold messages and that the application does not declare."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._kept: tuple[float, list[UnknownQueue]] | None = None
        self._lock = Lock()

    def listing(self) -> list[UnknownQueue]:
        """What the last look found, if that is not older than 30 s; else look again.

        Empty without the delivery engine, and while the broker cannot be reached.
        """
        kept = self._kept
        if kept is not None and monotonic() - kept[0] < KEPT_SECONDS:
            return kept[1]
        if not self._lock.acquire(blocking=False):  # another thread looks
            return kept[1] if kept is not None else []
        try:
            return self.look()
        except BrokerUnavailable:
            return kept[1] if kept is not None else []
        finally:
            self._lock.release()

    def look(self) -> list[UnknownQueue]:
        """Look now. Raises BrokerUnavailable."""
        engine = self._broker.engine
        found: list[UnknownQueue] = []
        if engine is not None:
            with self._broker.guarded():
                names = [
                    name for name in engine.queue_names() if name not in self._broker.queues and is_task_queue(name)
                ]
                stats = sorted(engine.stats(names) if names else (), key=_size, reverse=True)
                found = [_describe(engine, each) for each in stats[:MOST_QUEUES] if _size(each)]
        self._kept = monotonic(), found
        return found


def is_task_queue(name: str) -> bool:
    """False for the queues of Celery's remote control and events, which hold no tasks, and for those of drills."""
    return not (name.endswith(".pidbox") or name.startswith(("celeryev.", DRILL_QUEUES)))


def _size(stats: QueueStats) -> int:
    return stats.waiting + stats.leased + stats.dead + stats.set_aside


def _describe(engine: Engine, stats: QueueStats) -> UnknownQueue:
    pages = [engine.peek(stats.queue, state, limit=PAGE, bodies=False) for state in LOOKED_AT]
    messages = [info for page in pages for info in page]
    names = sorted({info.stored.message.name for info in messages if info.stored.message.name})
    known = [name for name in names if name in registry]
    return UnknownQueue(
        queue=stats.queue,
        waiting=stats.waiting,
        running=stats.leased,
        dead=stats.dead,
        oldest_at=_oldest(messages),
        tasks=[*known, *(name for name in names if name not in known)][:NAMES],
        advice=_advice(stats, known),
    )


def _oldest(messages: Sequence[MessageInfo]) -> datetime | None:
    at = min((info.stored.enqueued_at for info in messages), default=None)
    return None if at is None else datetime.fromtimestamp(at / 1000, UTC)


def _advice(stats: QueueStats, known: Sequence[str]) -> str:
    if stats.leased:
        return "A worker of another application takes its messages; if that is meant, declare the queue here as well."
    if known:
        return (
            f"`laneway queues take-in {stats.queue}` queues the tasks that this application has. If the queue was "
            "renamed, its old senders still use this name; `laneway queues routes` prints the queues of all tasks."
        )
    return (
        "This application has none of its tasks. Start the worker that serves the queue, or correct its senders; "
        f"`laneway flush {stats.queue}` deletes what waits."
    )
