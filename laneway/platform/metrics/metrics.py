"""Reads the metrics of the installation from what all processes share: every process of the API gives the same answer.

| what | where it is counted |
|---|---|
| sizes of queues, ages, what happened to messages | the engine, in the script that makes the change |
| tasks, attempts and durations by name | the recorder of the journals, once for each event (`EventCounter`) |
| outbox, dead letters, workers | rows of the database; the queries have an index and a limit |

So nothing is added up from processes, and nothing is lost with one. The cost of reading depends on the number of
queues and of task names, and not on the number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from laneway.engine import QueueStats
from laneway.engine.event_counts import EventCounts, QueueLags
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.queries import metrics as repository
from laneway.platform.db.queries import queue_limits, task_runs, workers
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError
from laneway.platform.logging import logger
from laneway.platform.metrics.queue_flow import QueueFlow
from laneway.platform.metrics.readings import BrokerReading, DatabaseReading, QueueReading, Readings
from laneway.platform.metrics.task_counts import tasks_of
from laneway.platform.probes import canaries
from laneway.platform.queues import Lane
from laneway.platform.queues import queues as declared
from laneway.schemas.task import TaskState

log = logger(__name__)

COUNTED: Final = 10_000
"""The most rows of the outbox, and of the dead letters of a queue, that are counted. A figure stops there."""
MAX_WORKERS: Final = 200
"""The most workers that are named."""
TOTALS: Final = (
    *("put", "delivered", "acked", "retried", "released", "expired", "buried", "requeued", "discarded", "forgotten"),
    *("cancelled", "purged", "duplicates", "handed_on", "unreadable"),
)
"""The running totals of a queue that are shown."""
_DB_STATES: Final = {
    TaskState.PENDING: "waiting",
    TaskState.SCHEDULED: "scheduled",
    TaskState.PROCESSING: "running",
}


class Metrics:
    """Reads the figures that `/metrics` shows, and the flow of queues for pages that show rates."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def read(self) -> Readings:
        """Everything. What cannot be reached is None, and the reason is logged."""
        began = perf_counter()
        broker = database = None
        try:
            broker = self._read_broker()
        except PlatformError as error:
            log.warning("metrics without the broker", error=str(error))
        try:
            database = self._read_database()
        except PlatformError as error:
            log.warning("metrics without the database", error=str(error))
        return Readings(broker, database, perf_counter() - began)

    def flows(self, queues: Sequence[str] | None = None) -> dict[str, QueueFlow]:
        """Queue → its totals now, of all declared queues by default; empty without the engine.

        Raises BrokerUnavailable.
        """
        engine, names = self._broker.engine, list(queues or self._broker.queues)
        if engine is None:
            return {}
        with self._broker.guarded():
            at, stats = engine.time(), engine.stats(names)
        return {each.queue: QueueFlow.of(each.queue, each.counters, at=at) for each in stats}

    def _read_broker(self) -> BrokerReading:
        engine, names = self._broker.engine, list(self._broker.queues)
        began = perf_counter()
        if engine is None:
            self._broker.ping()
            return BrokerReading(perf_counter() - began, queues=self._queues_in_database())
        with self._broker.guarded():
            now, latency = engine.time(), perf_counter() - began
            used, limit = engine.memory()
            stats, counts = engine.stats(names), EventCounts(engine)
            lags, by_task = counts.lags(names), counts.read(names)
        return BrokerReading(
            latency=latency,
            memory=used,
            memory_limit=limit,
            queues=[_queue(each, lag, now=now) for each, lag in zip(stats, lags, strict=True)],
            tasks=[task for queue, found in zip(names, by_task, strict=True) for task in tasks_of(queue, found)],
        )

    def _queues_in_database(self) -> list[QueueReading]:
        """Without the engine, the rows say how many tasks are in which state."""
        with self._database.reading() as session:
            counts = task_runs.count_by_queue(session, now=clock.now())
            paused = {limit.queue for limit in queue_limits.all_limits(session) if limit.paused}
        return [
            QueueReading(
                queue=queue,
                lane=lane,
                paused=queue in paused,
                tasks={shown: counts.get((queue, state), 0) for state, shown in _DB_STATES.items()},
            )
            for queue, lane in declared.items()
        ]

    def _read_database(self) -> DatabaseReading:
        began, now = perf_counter(), clock.now()
        with self._database.reading() as session:
            alive = [(worker.name, list(worker.queues)) for worker in workers.alive(session, now=now)]
            latency = perf_counter() - began
            known = [worker.name for worker in workers.listing(session, limit=MAX_WORKERS)]
            outbox = repository.outbox(session, limit=COUNTED)
            canary_readings = canaries.read(session, now=now)
            dead = repository.dead_letters(session, list(declared), limit=COUNTED)
        first = min((first for _, first in outbox.values()), default=now)
        return DatabaseReading(
            latency=latency,
            outbox={queue: number for queue, (number, _) in outbox.items() if queue in declared},
            outbox_oldest_seconds=max(0.0, (now - first).total_seconds()),
            dead=dead,
            serving={queue: sum(queue in served for _, served in alive) for queue in declared},
            workers=_named([name for name, _ in alive], known),
            live_workers=len(alive),
            canaries=canary_readings,
        )


def _queue(stats: QueueStats, lags: QueueLags, *, now: float) -> QueueReading:
    return QueueReading(
        queue=stats.queue,
        lane=declared.get(stats.queue, Lane.LOW),
        paused=stats.paused,
        tasks={
            "waiting": stats.ready,
            "scheduled": stats.scheduled,
            "held": stats.held,
            "limited": stats.limited,
            "running": stats.leased,
            "set_aside": stats.set_aside,
        },
        oldest_seconds=_age(lags.ready_since, now=now),
        unread=lags.unread,
        recorder_lag_seconds=_age(lags.unread_since, now=now),
        totals={name: stats.counters.get(name, 0) for name in TOTALS},
    )


def _named(alive: Sequence[str], known: Sequence[str]) -> dict[str, bool]:
    """Name → whether the worker is alive, of at most `MAX_WORKERS`; the live ones come first."""
    live, silent = dict.fromkeys(alive, True), {name: False for name in known if name not in alive}
    return dict(list((live | silent).items())[:MAX_WORKERS])


def _age(since: int | None, *, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since / 1000)
