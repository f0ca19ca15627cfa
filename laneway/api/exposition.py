"""The metrics in the OpenMetrics text format (https://prometheus.io/docs/specs/om/open_metrics_spec)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from laneway.platform.metrics.readings import (
    BrokerReading,
    DatabaseReading,
    Histogram,
    QueueReading,
    Readings,
    TaskReading,
)
from laneway.platform.probes.canaries import CanaryReading
from laneway.platform.queues import queues as declared

CONTENT_TYPE: Final = openmetrics.CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric: its name without the suffix of its kind, its labels, and what it says."""

    name: str
    kind: Literal["gauge", "counter", "histogram", "info"]
    labels: tuple[str, ...]
    help: str


QUEUE: Final = ("queue", "lane")
TASK: Final = ("queue", "task")
DEFINITIONS: Final = (
    Definition("laneway_queue_tasks", "gauge", (*QUEUE, "state"), "Tasks in a queue by state"),
    Definition("laneway_queue_oldest_seconds", "gauge", QUEUE, "How long the longest ready task has waited"),
    Definition("laneway_queue_paused", "gauge", QUEUE, "1 while the queue is paused"),
    Definition("laneway_queue_workers", "gauge", QUEUE, "Live workers that serve the queue"),
    Definition("laneway_queue_messages", "counter", (*QUEUE, "event"), "What happened to the messages of a queue"),
    Definition("laneway_leases_lost", "counter", QUEUE, "Leases that ended because their worker did not renew them"),
    Definition("laneway_recorder_unread_events", "gauge", QUEUE, "Events that the history does not have yet"),
    Definition("laneway_recorder_lag_seconds", "gauge", QUEUE, "Age of the first event that the history lacks"),
    Definition("laneway_tasks_enqueued", "counter", TASK, "Tasks that were put into their queue"),
    Definition("laneway_tasks_finished", "counter", (*TASK, "state"), "Tasks that ended, by their final state"),
    Definition("laneway_attempts_started", "counter", TASK, "Attempts that began"),
    Definition("laneway_attempts_ended", "counter", (*TASK, "outcome"), "Attempts that ended, by outcome"),
    Definition("laneway_task_waiting_seconds", "histogram", TASK, "From when a task could start to its start"),
    Definition("laneway_task_running_seconds", "histogram", TASK, "From the start of an attempt to its end"),
    Definition("laneway_outbox_tasks", "gauge", QUEUE, "Accepted tasks that the broker does not have yet"),
    Definition("laneway_outbox_oldest_seconds", "gauge", (), "Age of the first task in the outbox"),
    Definition("laneway_canary_start_seconds", "gauge", QUEUE, "From the submission of the last canary to its start"),
    Definition("laneway_canary_end_seconds", "gauge", QUEUE, "From the submission of the last canary to its end"),
    Definition("laneway_canary_overdue_seconds", "gauge", QUEUE, "Age of the first canary that has not ended"),
    Definition("laneway_workers", "gauge", (), "Live workers"),
    Definition("laneway_worker_up", "gauge", ("worker",), "1 for a worker that lives, 0 for one that is silent"),
    Definition("laneway_broker_up", "gauge", (), "1 if the broker answered"),
    Definition("laneway_broker_latency_seconds", "gauge", (), "How long the broker took to answer"),
    Definition("laneway_broker_memory_bytes", "gauge", (), "Memory that the broker uses"),
    Definition("laneway_broker_memory_limit_bytes", "gauge", (), "The broker's limit of memory; 0 without one"),
    Definition("laneway_database_up", "gauge", (), "1 if the database answered"),
    Definition("laneway_database_latency_seconds", "gauge", (), "How long the database took to answer"),
    Definition("laneway_api_event_loop_lag_seconds", "gauge", (), "Longest delay of the event loop within a minute"),
    Definition("laneway_metrics_seconds", "gauge", (), "How long these figures took to read"),
    Definition("laneway_build", "info", (), "The version of Laneway"),
)
"""All metrics, in the order in which they are shown."""
_BY_NAME: Final = {each.name: each for each in DEFINITIONS}


def exposition(readings: Readings, *, event_loop_lag: float | None) -> bytes:
    """The metrics as text. `event_loop_lag`: of this process, in seconds."""
    untyped: Any = openmetrics
    return untyped.generate_latest(PlatformCollector(readings, event_loop_lag=event_loop_lag))


class PlatformCollector(Collector):
    """Gives prometheus-client the metrics of readings. It cannot count them itself: they are those of all processes."""

    def __init__(self, readings: Readings, *, event_loop_lag: float | None) -> None:
        self._readings, self._lag = readings, event_loop_lag
        self._families: dict[str, Metric] = {}

    def collect(self) -> Iterable[Metric]:
        """The metrics that have values."""
        self._families = {}
        readings = self._readings
        self._add("laneway_broker_up", readings.broker is not None)
        self._add("laneway_database_up", readings.database is not None)
        self._add("laneway_metrics_seconds", readings.seconds)
        self._add("laneway_build", version("laneway"))
        if self._lag is not None:
            self._add("laneway_api_event_loop_lag_seconds", self._lag)
        if readings.broker is not None:
            self._add_broker(readings.broker)
        if readings.database is not None:
            self._add_database(readings.database)
        return [self._families[each.name] for each in DEFINITIONS if each.name in self._families]

    def _add(self, name: str, value: float | str | Histogram, *labels: str) -> None:
        family = self._families.setdefault(name, _family(_BY_NAME[name]))
        match family, value:
            case InfoMetricFamily(), str():
                family.add_metric(labels, {"version": value})
            case HistogramMetricFamily(), Histogram():
                family.add_metric(labels, list(value.buckets), value.sum)
            case ((GaugeMetricFamily() | CounterMetricFamily()), (int() | float())):
                family.add_metric(labels, float(value))
            case _:
                raise TypeError(f"{name} cannot have the value {value!r}")

    def _add_broker(self, broker: BrokerReading) -> None:
        self._add("laneway_broker_latency_seconds", broker.latency)
        self._add("laneway_broker_memory_bytes", broker.memory)
        self._add("laneway_broker_memory_limit_bytes", broker.memory_limit)
        for queue in broker.queues:
            self._add_queue(queue)
        for task in broker.tasks:
            self._add_task(task)

    def _add_queue(self, queue: QueueReading) -> None:
        labels = queue.queue, queue.lane
        for state, number in queue.tasks.items():
            self._add("laneway_queue_tasks", number, *labels, state)
        self._add("laneway_queue_paused", queue.paused, *labels)
        if queue.unread is None:  # without the engine nobody knows the rest
            return
        self._add("laneway_queue_oldest_seconds", queue.oldest_seconds, *labels)
        for event, number in queue.totals.items():
            self._add("laneway_queue_messages", number, *labels, event)
        self._add("laneway_leases_lost", queue.totals.get("expired", 0), *labels)
        self._add("laneway_recorder_unread_events", queue.unread, *labels)
        self._add("laneway_recorder_lag_seconds", queue.recorder_lag_seconds, *labels)

    def _add_task(self, task: TaskReading) -> None:
        labels = task.queue, task.task
        self._add("laneway_tasks_enqueued", task.enqueued, *labels)
        self._add("laneway_attempts_started", task.started, *labels)
        for state, number in task.finished.items():
            self._add("laneway_tasks_finished", number, *labels, state)
        for outcome, number in task.ended.items():
            self._add("laneway_attempts_ended", number, *labels, outcome)
        if task.waited is not None:
            self._add("laneway_task_waiting_seconds", task.waited, *labels)
        if task.ran is not None:
            self._add("laneway_task_running_seconds", task.ran, *labels)

    def _add_database(self, database: DatabaseReading) -> None:
        self._add("laneway_database_latency_seconds", database.latency)
        self._add("laneway_outbox_oldest_seconds", database.outbox_oldest_seconds)
        self._add("laneway_workers", database.live_workers)
        for queue, lane in declared.items():
            self._add("laneway_queue_tasks", database.dead.get(queue, 0), queue, lane, "dead")
            self._add("laneway_queue_workers", database.serving.get(queue, 0), queue, lane)
            self._add("laneway_outbox_tasks", database.outbox.get(queue, 0), queue, lane)
        for canary in database.canaries:
            self._add_canary(canary)
        for worker, is_up in database.workers.items():
            self._add("laneway_worker_up", is_up, worker)

    def _add_canary(self, canary: CanaryReading) -> None:
        labels = canary.queue, str(declared[canary.queue])
        if canary.start is not None:
            self._add("laneway_canary_start_seconds", canary.start, *labels)
        if canary.end is not None:
            self._add("laneway_canary_end_seconds", canary.end, *labels)
        self._add("laneway_canary_overdue_seconds", canary.overdue, *labels)


def _family(definition: Definition) -> Metric:
    match definition.kind:
        case "gauge":
            return GaugeMetricFamily(definition.name, definition.help, labels=definition.labels)
        case "counter":
            return CounterMetricFamily(definition.name, definition.help, labels=definition.labels)
        case "histogram":
            return HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
        case "info":
            return InfoMetricFamily(definition.name, definition.help, labels=definition.labels)
