"""What a worker does with a step: begin it, run its handler, settle it; and settle what could not settle itself.

Crashes: before the settling, the task is delivered again, and its handler called again; behind it, the repeat finds the
visit settled, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laneway.platform import clock
from laneway.platform.db.models import TaskRun, WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, TaskCancelled, TaskSnoozed
from laneway.platform.logging import logger
from laneway.platform.payload import EndedTask
from laneway.platform.schemas.task import FINISHED, TaskState
from laneway.platform.schemas.workflow import Outcome, StepDefinition, StepKind
from laneway.platform.schemas.workflow_run import RunState, StepState, WorkflowStepRef
from laneway.platform.submission.outbox import SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows import transitions
from laneway.platform.workflows.errors import UnknownHandler
from laneway.platform.workflows.handlers import Handler, Running, StepCall, StepResult, result_of
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.transitions import plan_of

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A visit that is to be worked on."""

    run: WorkflowRun
    step: StepDefinition
    outputs: dict[str, dict[str, Any]]
    at: datetime


class StepRunner:
    """Runs steps, each as one task."""

    def __init__(self, database: Database, tasks: TaskManager, handlers: Mapping[str, Handler]) -> None:
        self._database, self._tasks, self._handlers = database, tasks, handlers

    def run(self, ref: WorkflowStepRef, task: Running) -> dict[str, Any]:
        """All of one visit; what its task gives back.

        Raises what the handler raises; NotFound for a visit that is none, or another task's; UnknownHandler,
        OutputTooLarge; TaskCancelled when the run was cancelled; TaskSnoozed while a signal is waited for,
        or a timer is not over.
        """
        begun = self._begin(ref, task)
        if isinstance(begun, WorkflowStepRun):
            log.info("step was settled before", workflow=ref.run_id, step=ref.step, visit=ref.visit)
            return transitions.told(begun)
        if begun.step.kind is StepKind.SIGNAL:
            return self._look_for_signal(ref, begun)
        result = self._wait(ref) if begun.step.kind is StepKind.WAIT else self._work(ref, begun, task)
        return self._settle(ref, result, started_at=begun.at)

    def settle_ended(self, ended: EndedTask) -> dict[str, Any]:
        """Settle a visit whose task ended for good without doing so: it failed, died, ran too long, was cancelled.

        Nothing is done when it was settled, or when its task has been sent again since.
        """
        with self._tasks.transaction() as unit:
            row = repository.step_of_task(unit.session, ended.task_id)
            if row is None:
                return {"settled": False}
            run = self._locked(unit, row.run_id)
            unit.session.refresh(row)  # as it is now that nobody else may change it
            task = task_runs.find(unit.session, ended.task_id, lock=True)
            if row.state != StepState.OPEN or (task is not None and not _ended_badly(task)):
                return {"settled": False}
            result = StepResult(outcome=Outcome.FAILED, reason=_why(task) if task else "its task was deleted")
            settled = transitions.settle(
                unit,
                run,
                row,
                result,
                now=clock.now(),
                started_at=task.started_at if task else None,
                error_type=task.error_type or task.state if task else "deleted",
            )
        return {"settled": settled, **transitions.told(row)}

    def _begin(self, ref: WorkflowStepRef, task: Running) -> _Begun | WorkflowStepRun:
        now = clock.now()
        with self._database.reading() as session:
            run, row = repository.find(session, ref.run_id), repository.step(session, ref.run_id, ref.step, ref.visit)
            if run is None or row is None or row.task_id != task.id:
                raise NotFound("workflow step", task.id)
            rows = repository.steps(session, ref.run_id)
        if row.state != StepState.OPEN and not self._revived(ref, task):
            return row
        if run.state == RunState.PENDING:
            with self._database.transaction() as session:
                repository.begin(session, ref.run_id, now=now)
        plan = plan_of(run)
        return _Begun(run, plan.steps[ref.step], _outputs(plan, ref.step, rows), now)

    def _revived(self, ref: WorkflowStepRef, task: Running) -> bool:
        """Whether the run goes on with a visit that was over, because somebody had its task run again by hand."""
        with self._tasks.transaction() as unit:
            run = self._locked(unit, ref.run_id)
            row = repository.step(unit.session, ref.run_id, ref.step, ref.visit)
            if row is None or row.state == StepState.OPEN:
                return row is not None
            if run.state == RunState.CANCELLED:
                raise TaskCancelled
            if repository.times_sent_by_hand(unit.session, task.id) <= row.retries_seen:
                return False
            return transitions.revive(unit, run, row, now=clock.now())

    def _work(self, ref: WorkflowStepRef, begun: _Begun, task: Running) -> StepResult:
        handler = self._handler(begun.step)
        call = StepCall(
            task=task,
            run_id=ref.run_id,
            workflow_type=begun.run.type,
            step=ref.step,
            visit=ref.visit,
            input=begun.run.input,
            options=handler.options.model_validate(begun.step.options),
            outputs=begun.outputs,
        )
        result = result_of(handler.work(call))
        transitions.check_output(ref.step, result)
        return result

    def _handler(self, step: StepDefinition) -> Handler:
        name = step.handler or ""
        if name not in self._handlers:
            raise UnknownHandler(name)
        return self._handlers[name]

    def _settle(self, ref: WorkflowStepRef, result: StepResult, *, started_at: datetime) -> dict[str, Any]:
        with self._tasks.transaction() as unit:
            run = self._locked(unit, ref.run_id)
            row = self._row(unit, ref)
            transitions.settle(unit, run, row, result, now=clock.now(), started_at=started_at)
        return transitions.told(row)

    def _wait(self, ref: WorkflowStepRef) -> StepResult:
        """Nothing, when the timer is over: the task of one that is gone on with is sent at once."""
        with self._database.reading() as session:
            row = repository.step(session, ref.run_id, ref.step, ref.visit)
        left = (row.due_at - clock.now()).total_seconds() if row and row.due_at else 0
        if left > 0:
            raise TaskSnoozed(left, "its timer is not over")
        return StepResult()

    def _look_for_signal(self, ref: WorkflowStepRef, begun: _Begun) -> dict[str, Any]:
        now = clock.now()
        with self._tasks.transaction() as unit:
            run = self._locked(unit, ref.run_id)
            row = self._row(unit, ref)
            if row.state != StepState.OPEN:
                return transitions.told(row)
            if not take_signal(unit, run, row, begun.step):
                left = (row.due_at - now).total_seconds() if row.due_at else 0
                if left > 0:
                    raise TaskSnoozed(left, f"it waits for the signal {begun.step.signal_name!r}")
                reason = f"no signal {begun.step.signal_name!r} within {begun.step.timeout:g} s"
                result = StepResult(outcome=begun.step.on_timeout, reason=reason)
                transitions.settle(unit, run, row, result, now=now, started_at=begun.at, error_type="TimedOut")
        return transitions.told(row)

    def _locked(self, unit: SubmissionTransaction, id: str) -> WorkflowRun:
        run = repository.find(unit.session, id, lock=True)
        if run is None:
            raise NotFound("workflow", id)
        return run

    def _row(self, unit: SubmissionTransaction, ref: WorkflowStepRef) -> WorkflowStepRun:
        row = repository.step(unit.session, ref.run_id, ref.step, ref.visit)
        if row is None:
            raise NotFound("workflow step", ref.task_id)
        return row


def take_signal(unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun, step: StepDefinition) -> bool:
    """Give a visit that waits for a signal the oldest one that is kept; False when there is none."""
    signal = repository.next_signal(unit.session, run.id, step.signal_name)
    if signal is None:
        return False
    signal.visit = row.visit
    output = {"data": signal.data, "received_at": signal.received_at.isoformat()}
    transitions.settle(unit, run, row, StepResult(output), now=clock.now(), started_at=row.created_at)
    return True


def _outputs(plan: Plan, step: str, rows: Sequence[WorkflowStepRun]) -> dict[str, dict[str, Any]]:
    """The newest outputs of what a step comes after."""
    wanted = plan.known_to(step)
    newest = sorted((row for row in rows if row.step in wanted and row.output is not None), key=lambda row: row.visit)
    return {row.step: row.output for row in newest if row.output is not None}


def _ended_badly(task: TaskRun) -> bool:
    return task.state in FINISHED and task.state != TaskState.COMPLETED


def _why(task: TaskRun) -> str:
    if task.error:
        return task.error
    return {TaskState.CANCELLED: "its task was cancelled", TaskState.EXPIRED: "its task expired"}.get(
        TaskState(task.state), f"its task is {task.state}"
    )
