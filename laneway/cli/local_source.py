"""The platform of the project: its database and its broker, used in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import typer

from laneway._printable import printable
from laneway.cli.missing import say_missing
from laneway.cli.source import LIMITS_UNKNOWN, DeadLetterFilter, FeedPart, Figures, TaskFilter
from laneway.platform.db.queries.search import Filter
from laneway.platform.history.task_views import describe_attempt, describe_event
from laneway.platform.operations.dead_letter_views import (
    bulk_action_view,
    dead_letter_view,
    group_view,
    part_of,
    selection_of,
)
from laneway.platform.operations.dead_letters import DEAD
from laneway.platform.operations.fresh_alerts import sweep_now
from laneway.platform.submission.outside import outside_submission
from laneway.platform.submission.requests import with_present_name
from laneway.schemas.history import OpenAlertView
from laneway.schemas.queue import QueueLimitsListResponse
from laneway.schemas.task import TaskState

if TYPE_CHECKING:
    from laneway.cli.batch_source import BatchSource
    from laneway.cli.limit_source import LimitSource
    from laneway.cli.schedule_source import ScheduleSource
    from laneway.cli.source_parts import Access, Maintenance, Webhooks
    from laneway.platform.platform import Platform
    from laneway.schemas.alert import AlertView, ReceiverAnswer
    from laneway.schemas.feed import FeedEvent
    from laneway.schemas.history import (
        BulkActionResponse,
        DeadLetterGroupView,
        DeadLetterSelection,
        DeadLetterView,
        TaskRequest,
    )
    from laneway.schemas.queue import QueueLimits, QueueLimitsResponse
    from laneway.schemas.task import AttemptView, CancelResponse, EventView, TaskDetails, TaskHandle, TaskStatus
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

POLL_SECONDS: Final = 2.0
"""`follow` reads the history at least this often, even without a wake-up."""


class LocalSource:
    """Asks the services of the platform."""

    def __init__(self, platform: Platform, *, description: str) -> None:
        self._platform, self._description = platform, description

    @property
    def description(self) -> str:
        return self._description

    @property
    def access(self) -> Access:
        from laneway.cli.local_access import LocalAccess

        return LocalAccess(self._platform)

    @property
    def webhooks(self) -> Webhooks:
        from laneway.cli.local_webhooks import LocalWebhooks

        return LocalWebhooks(self._platform)

    @property
    def maintenance(self) -> Maintenance:
        from laneway.cli.local_maintenance import LocalMaintenance

        return LocalMaintenance(self._platform)

    # --- tasks

    def submit(self, request: TaskRequest) -> TaskHandle:
        submission = outside_submission(request)
        handle = self._platform.tasks.submit(submission.task, submission.payload, options=submission.options)
        return with_present_name(handle, request.task)

    def search(self, which: TaskFilter, *, limit: int) -> list[TaskStatus]:
        return self._platform.tasks.search(Filter(**asdict(which)), limit=limit)[0]

    def show(self, id: str) -> TaskDetails:
        return self._platform.tasks.status(id)

    def why(self, id: str) -> WhyResponse:
        return self._platform.tasks.why(id)

    def attempts(self, id: str) -> list[AttemptView]:
        return [describe_attempt(attempt) for attempt in self._platform.event_stream.attempts(id)]

    def events(self, id: str, *, after: int = 0) -> Iterator[EventView]:
        while page := self._platform.event_stream.events(id, after=after):
            after = page[-1].seq
            yield from map(describe_event, page)

    def follow(self, id: str) -> Iterator[EventView]:
        self._platform.tasks.current(id)  # an unknown id is an error now, not at the first event
        return self._follow(id)

    def _follow(self, id: str) -> Iterator[EventView]:
        stream, recorder = self._platform.event_stream, self._platform.recorder
        news, after, ended, told = Event(), 0, False, False
        with stream.subscribe(id, news.set):
            while not ended:
                news.clear()
                page, ended = stream.new_events(id, after=after)
                after = page[-1].seq if page else after
                yield from map(describe_event, page)
                if recorder.problem is not None and not told:
                    told = True
                    typer.echo(printable(f"Waiting: {recorder.problem}"), err=True)
                if not ended:
                    news.wait(POLL_SECONDS)

    def feed(self, part: FeedPart) -> Iterator[FeedEvent]:
        from laneway.cli.local_feed import local_feed

        return local_feed(self._platform, part)

    def cancel(self, id: str) -> CancelResponse:
        return self._platform.tasks.cancel(id)

    def signal(self, id: str, name: str, *, data: dict[str, Any], key: str) -> TaskSignalResponse:
        return self._platform.tasks.signal(id, name, data, key=key)

    def retry(self, id: str) -> TaskHandle:
        return self._platform.tasks.retry(id)

    # --- operations

    def figures(self, window: float, *, queue: str | None, name: str | None) -> Figures:
        self._sweep_alerts()
        return self._figures(window, queue=queue, name=name)

    def overview(self, window: float) -> Figures:
        return self._figures(window, queue=None, name=None)

    def alerts(self, *, closed: bool) -> list[AlertView]:
        self._sweep_alerts()
        return self._platform.alerts.views(closed=closed)

    def test_alerts(self) -> list[ReceiverAnswer]:
        return self._platform.receivers.test()

    def _sweep_alerts(self) -> None:
        if (problem := sweep_now(self._platform.alerts)) is not None:
            say_missing(problem)

    def _figures(self, window: float, *, queue: str | None, name: str | None) -> Figures:
        return Figures(
            self._platform.tasks.queues(),
            self._platform.unknown_queues.listing(),
            [
                OpenAlertView(message=alert.message, opened_at=alert.opened_at)
                for alert in self._platform.alerts.listing()
            ],
            self._platform.statistics.window(window, queue=queue, name=name),
        )

    def workers(self) -> list[WorkerView]:
        return self._platform.tasks.workers()

    def limits(self) -> QueueLimitsListResponse:
        limits = self._platform.queue_limits.listing()
        if self._platform.broker.engine is not None and any(queue.in_force is None for queue in limits):
            say_missing(LIMITS_UNKNOWN)
        return QueueLimitsListResponse(queues=limits, unknown=self._platform.unknown_queues.listing())

    def limits_of(self, queue: str) -> QueueLimitsResponse:
        return self._platform.queue_limits.of(queue)

    def set_limits(self, queue: str, limits: QueueLimits) -> QueueLimitsResponse:
        return self._platform.queue_limits.put(queue, limits)

    def dead_letters(self, which: DeadLetterFilter, *, limit: int) -> list[DeadLetterView]:
        given = asdict(which)
        states = DEAD if given.pop("failed") else (TaskState.DEAD_LETTER,)
        page = self._platform.dead_letters.page(Filter(states=states, **given), limit=limit)
        return [dead_letter_view(run) for run in page]

    def dead_letter_groups(self, *, failed: bool) -> list[DeadLetterGroupView]:
        states = DEAD if failed else (TaskState.DEAD_LETTER,)
        return [group_view(group) for group in self._platform.dead_letters.groups(Filter(states=states))]

    def dead_letter(self, id: str) -> DeadLetterView:
        return dead_letter_view(self._platform.dead_letters.show(id))

    def change_dead_letters(self, action: str, selected: DeadLetterSelection) -> BulkActionResponse:
        change = getattr(self._platform.dead_letters, action)
        return bulk_action_view(change(selection_of(selected), dry_run=selected.dry_run, part=part_of(selected)))

    def named_limits(self) -> LimitSource:
        from laneway.cli.limit_source import LocalLimits

        return LocalLimits(self._platform)

    def batches(self) -> BatchSource:
        from laneway.cli.batch_source import LocalBatches

        return LocalBatches(self._platform)

    def schedules(self) -> ScheduleSource:
        from laneway.cli.schedule_source import LocalSchedules

        return LocalSchedules(self._platform)

    # --- workflows

    def workflows(self, states: tuple[RunState, ...], *, type: str | None, limit: int) -> list[WorkflowSummaryView]:
        from laneway.platform.db.queries.workflows import RunFilter

        return self._platform.workflow_views.page(RunFilter(states, type), limit=limit).workflows

    def definitions(self) -> DefinitionsResponse:
        from laneway.platform.workflows.views import definitions_view

        return definitions_view(self._platform.workflow_definitions)

    def workflow(self, id: str) -> WorkflowView:
        return self._platform.workflow_views.view(id)

    def start_workflow(self, type: str, input: dict[str, Any], *, id: str | None) -> WorkflowHandle:
        from laneway.platform.workflows.runs import StartOptions

        return self._platform.workflows.start(type, input, options=StartOptions(id=id))

    def cancel_workflow(self, id: str) -> WorkflowCancelResponse:
        return self._platform.workflows.cancel(id)

    def pause_workflow(self, id: str) -> WorkflowPauseResponse:
        return self._platform.workflows.pauses.pause(id)

    def resume_workflow(self, id: str) -> WorkflowPauseResponse:
        return self._platform.workflows.pauses.resume(id)

    def retry_workflow(self, id: str, *, from_start: bool, newest: bool) -> WorkflowHandle:
        workflows = self._platform.workflows
        return workflows.restart(id, newest=newest) if from_start else workflows.retry(id, newest=newest)

    def signal_workflow(self, id: str, name: str, *, data: dict[str, Any], key: str) -> SignalResponse:
        return self._platform.workflows.signal(id, name, data=data, key=key)
