"""What the commands ask of a platform. There are three sources: the platform of the project in this process,
the same through its API on this machine, and one at a URL.

All return the same schemas, so that each command has one view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from laneway.cli.batch_source import BatchSource
    from laneway.cli.limit_source import LimitSource
    from laneway.cli.schedule_source import ScheduleSource
    from laneway.cli.source_parts import Access, Maintenance, Webhooks
    from laneway.schemas.alert import AlertView, ReceiverAnswer
    from laneway.schemas.feed import FeedEvent
    from laneway.schemas.history import (
        BulkActionResponse,
        DeadLetterGroupView,
        DeadLetterSelection,
        DeadLetterView,
        OpenAlertView,
        TaskRequest,
    )
    from laneway.schemas.queue import QueueLimits, QueueLimitsListResponse, QueueLimitsResponse, UnknownQueue
    from laneway.schemas.statistics import Window
    from laneway.schemas.task import (
        AttemptView,
        CancelResponse,
        EventView,
        QueueFigures,
        TaskDetails,
        TaskHandle,
        TaskState,
        TaskStatus,
    )
    from laneway.schemas.task_signal import TaskSignalResponse
    from laneway.schemas.waiting import WhyResponse
    from laneway.schemas.worker import WorkerView
    from laneway.schemas.workflow_run import (
        DefinitionsResponse,
        RunState,
        SignalResponse,
        WorkflowCancelResponse,
        WorkflowHandle,
        WorkflowPauseResponse,
        WorkflowSummaryView,
        WorkflowView,
    )

LIMITS_UNKNOWN: Final = "These are the limits as they were set. The broker cannot be asked whether they are in force."


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Selects tasks; a field that is not set selects all."""

    states: tuple[TaskState, ...] = ()
    name: str | None = None
    queue: str | None = None
    key: str | None = None
    tag: str | None = None
    batch: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ended_since: datetime | None = None
    ended_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Selects dead letters; a field that is not set selects all."""

    failed: bool = False
    trashed: bool = False
    group: str | None = None
    name: str | None = None
    queue: str | None = None
    tag: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPart:
    """Selects events of a feed, and says where to begin; a field that is not set selects all."""

    queue: str | None = None
    name: str | None = None
    tag: str | None = None
    workflow: str | None = None
    batch: str | None = None
    kinds: tuple[str, ...] = ()
    after: int | None = None
    last: int = 0
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What `stats` shows."""

    queues: dict[str, QueueFigures]
    unknown_queues: Sequence[UnknownQueue]
    alerts: Sequence[OpenAlertView]
    window: Window


class Tasks(Protocol):
    """Tasks of a platform."""

    def submit(self, request: TaskRequest) -> TaskHandle: ...

    def search(self, which: TaskFilter, *, limit: int) -> list[TaskStatus]: ...

    def show(self, id: str) -> TaskDetails: ...

    def why(self, id: str) -> WhyResponse: ...

    def attempts(self, id: str) -> list[AttemptView]: ...

    def events(self, id: str, *, after: int = 0) -> Iterator[EventView]:
        """The events that exist now, after this one."""
        ...

    def follow(self, id: str) -> Iterator[EventView]:
        """The events as they come, until the task ends."""
        ...

    def feed(self, part: FeedPart) -> Iterator[FeedEvent]:
        """The events of many tasks; those to come, too, if `part.follow` says so."""
        ...

    def cancel(self, id: str) -> CancelResponse: ...

    def signal(self, id: str, name: str, *, data: dict[str, Any], key: str) -> TaskSignalResponse: ...

    def retry(self, id: str) -> TaskHandle: ...


class Operations(Protocol):
    """Queues, workers and dead letters of a platform."""

    def figures(self, window: float, *, queue: str | None, name: str | None) -> Figures: ...

    def overview(self, window: float) -> Figures:
        """The figures of all tasks, with the alerts of the last sweep."""
        ...

    def alerts(self, *, closed: bool) -> Sequence[AlertView]: ...

    def test_alerts(self) -> Sequence[ReceiverAnswer]: ...

    def workers(self) -> list[WorkerView]: ...

    def limits(self) -> QueueLimitsListResponse: ...

    def limits_of(self, queue: str) -> QueueLimitsResponse: ...

    def set_limits(self, queue: str, limits: QueueLimits) -> QueueLimitsResponse: ...

    def dead_letters(self, which: DeadLetterFilter, *, limit: int) -> list[DeadLetterView]: ...

    def dead_letter_groups(self, *, failed: bool) -> list[DeadLetterGroupView]: ...

    def dead_letter(self, id: str) -> DeadLetterView: ...

    def change_dead_letters(self, action: str, selected: DeadLetterSelection) -> BulkActionResponse:
        """`requeue`, `discard` or `restore` the selected ones."""
        ...

    def named_limits(self) -> LimitSource:
        """The limits that tasks share."""
        ...

    def batches(self) -> BatchSource:
        """The batches."""
        ...

    def schedules(self) -> ScheduleSource:
        """The schedules."""
        ...


class WorkflowRuns(Protocol):
    """Workflows of a platform."""

    def workflows(self, states: tuple[RunState, ...], *, type: str | None, limit: int) -> list[WorkflowSummaryView]: ...

    def definitions(self) -> DefinitionsResponse: ...

    def workflow(self, id: str) -> WorkflowView: ...

    def start_workflow(self, type: str, input: dict[str, Any], *, id: str | None) -> WorkflowHandle: ...

    def cancel_workflow(self, id: str) -> WorkflowCancelResponse: ...

    def pause_workflow(self, id: str) -> WorkflowPauseResponse: ...

    def resume_workflow(self, id: str) -> WorkflowPauseResponse: ...

    def retry_workflow(self, id: str, *, from_start: bool, newest: bool) -> WorkflowHandle: ...

    def signal_workflow(self, id: str, name: str, *, data: dict[str, Any], key: str) -> SignalResponse: ...


class Source(Tasks, Operations, WorkflowRuns, Protocol):
    """A platform."""

    @property
    def access(self) -> Access: ...

    @property
    def webhooks(self) -> Webhooks: ...

    @property
    def maintenance(self) -> Maintenance: ...

    @property
    def description(self) -> str:
        """Whose platform it is, in a few words."""
        ...
