"""A platform that is asked through its API: it needs neither the database nor the broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laneway.cli.api_calls import pages
from laneway.cli.source import DeadLetterFilter, Figures, TaskFilter
from laneway.client import calls, operator_calls

if TYPE_CHECKING:
    from laneway.cli.api_calls import Api
    from laneway.cli.batch_source import BatchSource
    from laneway.cli.limit_source import LimitSource
    from laneway.cli.schedule_source import ScheduleSource
    from laneway.cli.source_parts import Access, Maintenance, Webhooks
    from laneway.schemas.alert import AlertView, ReceiverAnswer
    from laneway.schemas.history import (
        BulkActionResponse,
        DeadLetterGroupView,
        DeadLetterSelection,
        DeadLetterView,
        StatsResponse,
        TaskRequest,
    )
    from laneway.schemas.queue import QueueLimits, QueueLimitsListResponse, QueueLimitsResponse
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


class ApiSource:
    """Asks the API of a platform for everything but the events to come."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @property
    def access(self) -> Access:
        from laneway.cli.api_access import ApiAccess

        return ApiAccess(self._api)

    @property
    def webhooks(self) -> Webhooks:
        from laneway.cli.api_webhooks import ApiWebhooks

        return ApiWebhooks(self._api)

    @property
    def maintenance(self) -> Maintenance:
        from laneway.cli.api_maintenance import ApiMaintenance

        return ApiMaintenance(self._api)

    # --- tasks

    def submit(self, request: TaskRequest) -> TaskHandle:
        return self._api.send(calls.submit(request))

    def search(self, which: TaskFilter, *, limit: int) -> list[TaskStatus]:
        given = asdict(which)
        given["state"] = given.pop("states")

        def page(before: int | None, size: int) -> tuple[list[TaskStatus], int | None]:
            found = self._api.send(operator_calls.search(**given, before=before, limit=size))
            return found.tasks, found.next

        return pages(page, limit)

    def show(self, id: str) -> TaskDetails:
        return self._api.send(calls.get(id))

    def why(self, id: str) -> WhyResponse:
        return self._api.send(operator_calls.why(id))

    def attempts(self, id: str) -> list[AttemptView]:
        return self._api.send(operator_calls.attempts(id))

    def events(self, id: str, *, after: int = 0) -> Iterator[EventView]:
        return self._api.events(id, after=after, follow=False)

    def cancel(self, id: str) -> CancelResponse:
        return self._api.send(calls.cancel(id))

    def signal(self, id: str, name: str, *, data: dict[str, Any], key: str) -> TaskSignalResponse:
        return self._api.send(calls.signal(id, name, data=data, key=key or None))

    def retry(self, id: str) -> TaskHandle:
        return self._api.send(calls.retry(id))

    # --- operations

    def figures(self, window: float, *, queue: str | None, name: str | None) -> Figures:
        return figures_of(self._api.send(operator_calls.stats(window=window, queue=queue, name=name)))

    def overview(self, window: float) -> Figures:
        return figures_of(self._api.send(operator_calls.stats(window=window)))

    def alerts(self, *, closed: bool) -> list[AlertView]:
        return self._api.send(operator_calls.alerts(closed=closed)).alerts

    def test_alerts(self) -> list[ReceiverAnswer]:
        return self._api.send(operator_calls.test_alerts()).receivers

    def workers(self) -> list[WorkerView]:
        return self._api.send(operator_calls.workers()).workers

    def limits(self) -> QueueLimitsListResponse:
        return self._api.send(operator_calls.queue_limits())

    def limits_of(self, queue: str) -> QueueLimitsResponse:
        return self._api.send(operator_calls.limits_of(queue))

    def set_limits(self, queue: str, limits: QueueLimits) -> QueueLimitsResponse:
        return self._api.send(operator_calls.set_limits(queue, limits))

    def dead_letters(self, which: DeadLetterFilter, *, limit: int) -> list[DeadLetterView]:
        def page(before: int | None, size: int) -> tuple[list[DeadLetterView], int | None]:
            found = self._api.send(operator_calls.dead_letters(**asdict(which), before=before, limit=size))
            return found.dead_letters, found.next

        return pages(page, limit)

    def dead_letter_groups(self, *, failed: bool) -> list[DeadLetterGroupView]:
        return self._api.send(operator_calls.dead_letter_groups(failed=failed)).groups

    def dead_letter(self, id: str) -> DeadLetterView:
        return self._api.send(operator_calls.dead_letter(id))

    def change_dead_letters(self, action: str, selected: DeadLetterSelection) -> BulkActionResponse:
        return self._api.send(operator_calls.change_dead_letters(action, selected))

    def named_limits(self) -> LimitSource:
        from laneway.cli.limit_source import ApiLimits

        return ApiLimits(self._api)

    def batches(self) -> BatchSource:
        from laneway.cli.batch_source import ApiBatches

        return ApiBatches(self._api)

    def schedules(self) -> ScheduleSource:
        from laneway.cli.schedule_source import ApiSchedules

        return ApiSchedules(self._api)

    # --- workflows

    def workflows(self, states: tuple[RunState, ...], *, type: str | None, limit: int) -> list[WorkflowSummaryView]:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.workflows(state=states, type=type, limit=limit)).workflows

    def definitions(self) -> DefinitionsResponse:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.workflow_definitions())

    def workflow(self, id: str) -> WorkflowView:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.workflow(id))

    def start_workflow(self, type: str, input: dict[str, Any], *, id: str | None) -> WorkflowHandle:
        from laneway.client import workflow_calls
        from laneway.schemas.workflow_run import WorkflowRequest

        request = WorkflowRequest.model_validate({"workflow_type": type, "input": input, "id": id})
        return self._api.send(workflow_calls.start_workflow(request))

    def cancel_workflow(self, id: str) -> WorkflowCancelResponse:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.cancel_workflow(id))

    def pause_workflow(self, id: str) -> WorkflowPauseResponse:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.pause_workflow(id))

    def resume_workflow(self, id: str) -> WorkflowPauseResponse:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.resume_workflow(id))

    def retry_workflow(self, id: str, *, from_start: bool, newest: bool) -> WorkflowHandle:
        from laneway.client import workflow_calls
        from laneway.schemas.workflow_run import RetryDefinition, RetryFrom

        start = RetryFrom.START if from_start else RetryFrom.FAILED
        definition = RetryDefinition.NEWEST if newest else RetryDefinition.STARTED
        return self._api.send(workflow_calls.retry_workflow(id, start, definition))

    def signal_workflow(self, id: str, name: str, *, data: dict[str, Any], key: str) -> SignalResponse:
        from laneway.client import workflow_calls

        return self._api.send(workflow_calls.signal_workflow(id, name, data=data, key=key or None))


def figures_of(found: StatsResponse) -> Figures:
    """What `stats` shows of an answer."""
    return Figures(found.queues, found.unknown_queues, found.alerts, found.window)
