"""What the metrics show, as values. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from laneway.platform.probes.canaries import CanaryReading


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations. `buckets`: upper bound in seconds, as text, and the number of durations up to it; the last is +Inf."""

    buckets: Sequence[tuple[str, float]]
    sum: float


@dataclass(frozen=True, slots=True)
class QueueReading:
    """A declared queue. `tasks`: state → number. `totals`: what happened to its messages → how often.

    `oldest_seconds`: how long the task has waited that has been ready for the longest time. `unread`: events that the
    history does not have yet; `recorder_lag_seconds`: the age of the first of them. None without the engine.
    """

    queue: str
    lane: str
    paused: bool
    tasks: Mapping[str, int]
    oldest_seconds: float = 0.0
    unread: int | None = None
    recorder_lag_seconds: float = 0.0
    totals: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class TaskReading:
    """The tasks of one name in one queue, counted from the recorded events. `ended`: attempts, `finished`: tasks."""

    queue: str
    task: str
    enqueued: int
    started: int
    ended: Mapping[str, int]
    finished: Mapping[str, int]
    waited: Histogram | None
    ran: Histogram | None


@dataclass(frozen=True, slots=True)
class BrokerReading:
    """The broker: how long it took to answer, its memory in bytes, the queues and the tasks.

    `memory_limit`: 0 if it has none, or hides it.
    """

    latency: float
    memory: int = 0
    memory_limit: int = 0
    queues: Sequence[QueueReading] = ()
    tasks: Sequence[TaskReading] = ()


@dataclass(frozen=True, slots=True)
class DatabaseReading:
    """The database: how long it took to answer, and what only its rows say.

    `outbox`: queue → accepted tasks that the broker does not have yet. `dead`: queue → dead letters. Both stop at
    `COUNTED`. `serving`: queue → live workers. `workers`: name → whether it is alive, of those that have not signed
    off, at most `MAX_WORKERS`; `live_workers`: how many are alive, whatever their number.
    """

    latency: float
    outbox: Mapping[str, int]
    outbox_oldest_seconds: float
    dead: Mapping[str, int]
    serving: Mapping[str, int]
    workers: Mapping[str, bool]
    live_workers: int
    canaries: Sequence[CanaryReading] = ()


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything at about one moment. `broker`, `database`: None if it did not answer. `seconds`: for reading it."""

    broker: BrokerReading | None
    database: DatabaseReading | None
    seconds: float
