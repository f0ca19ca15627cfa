"""Runs a step on a worker: begins its visit, calls its handler, and ends the visit.

After a crash before the end is stored, the task is delivered again, and the handler is called again. After a crash
later than that, the repeated task finds that the visit has ended, and changes nothing. If a task ends without ending
its visit, another task ends the visit (`settle_ended_task`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from laneway.engine.engine import FIRST_HAND_ON, LONGEST_HAND_ON
from laneway.platform import clock, tracing
from laneway.platform.db.models import TaskRun, WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import task_events, task_runs
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PermanentError, TaskCancelled, TaskSnoozed
from laneway.platform.logging import logger
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows import transitions
from laneway.platform.workflows.child_plans import Scope, as_json, chosen, items_of, planned
from laneway.platform.workflows.children import ChildRuns, StepChildren
from laneway.platform.workflows.errors import ItemFailed, UnknownHandler
from laneway.platform.workflows.handlers import (
    Children,
    Handler,
    Returned,
    StepCall,
    StepResult,
    StepTask,
    result_of,
)
from laneway.platform.workflows.pause import raise_if_paused
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.transitions import VisitEnd, plan_of
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import FINISHED, TaskState
from laneway.schemas.workflow import Outcome, StepDefinition, StepKind
from laneway.schemas.workflow_run import RunState, StepState, WorkflowItemRef, WorkflowStepRef

log = logger(__name__)

CHILDREN: Final = "workflow children"
"""The name under which the children that a handler chose are stored, among the results of steps of its task."""


@dataclass(frozen=True, slots=True)
class _StartedVisit:
    """A visit whose work is to be done."""

    run: WorkflowRun
    step: StepDefinition
    outputs: dict[str, dict[str, Any]]
    """The outputs of other steps that the step gets."""
    created_at: datetime
    started_at: datetime


class StepRunner:
    """Runs steps, each as one task."""

    def __init__(
        self,
        database: Database,
        tasks: TaskManager,
        handlers: Mapping[str, Handler],
        *,
        hand_on_seconds: float,
        runs: Callable[[], ChildRuns],
    ) -> None:
        """`hand_on_seconds`: how long a step whose handler is not known here waits for a worker that knows it.

        `runs`: returns the workflows of the platform.
        """
        self._database, self._tasks, self._handlers = database, tasks, handlers
        self._hand_on_seconds = hand_on_seconds
        self.children = StepChildren(database, tasks, runs)

    def run(self, ref: WorkflowStepRef, task: StepTask) -> dict[str, Any]:
        """Run one visit of a step, and return the result of its task.

        Raises what the handler raises; NotFound for an unknown visit, or when the visit has another task;
        OutputTooLarge; TaskCancelled when the run was cancelled; TaskSnoozed while the step waits for a signal, its
        timer, its paused run to be resumed, or a worker that knows its handler, and UnknownHandler when it has waited
        too long for that.
        """
        started = self._begin_visit(ref, task)
        if isinstance(started, WorkflowStepRun):
            log.info("step not run again: it had ended", workflow=ref.run_id, step=ref.step, visit=ref.visit)
            return transitions.visit_summary(started)
        if started.step.kind is StepKind.SIGNAL:
            return self._wait_for_signal(ref, started)
        result = self._wait_for_timer(ref) if started.step.kind is StepKind.WAIT else self._result(ref, started, task)
        with self._tasks.transaction() as unit:
            run, row = self._lock_run(unit, ref.run_id), self._visit(unit, ref)
            end = VisitEnd(result=result, at=clock.now(), started_at=started.started_at)
            transitions.end_visit(unit, run, row, end)
        return transitions.visit_summary(row)

    def settle_ended_task(self, ended: EndedTask) -> dict[str, Any]:
        """End the visit of a task that ended for good without doing so: it failed, died, timed out or was cancelled.

        Nothing changes if the visit has ended, or if its task was sent again since.
        """
        with self._tasks.transaction() as unit:
            row = repository.step_of_task(unit.session, ended.task_id)
            if row is None:
                return {"settled": False}
            run = self._lock_run(unit, row.run_id)
            unit.session.refresh(row)  # read it again, now that nobody else can change it
            task = task_runs.find(unit.session, ended.task_id, lock=True)
            if row.state != StepState.OPEN or (task is not None and not _ended_without_success(task)):
                return {"settled": False}
            settled = transitions.end_visit(unit, run, row, _failure_of(task))
        self.children.stop([ended.task_id])
        return {"settled": settled, **transitions.visit_summary(row)}

    def _begin_visit(self, ref: WorkflowStepRef, task: StepTask) -> _StartedVisit | WorkflowStepRun:
        """Return the visit whose work is to be done, or the row of a visit that has ended before."""
        now = clock.now()
        with self._database.reading() as session:
            run, row = repository.find(session, ref.run_id), repository.step(session, ref.run_id, ref.step, ref.visit)
            if run is None or row is None or row.task_id != task.id:
                raise NotFound("workflow step", task.id)
            rows = repository.steps(session, ref.run_id)
        if row.state != StepState.OPEN and not self._revive_if_retried(ref, task):
            return row
        raise_if_paused(run, task.id, self._database, self._tasks)
        if run.state == RunState.PENDING:
            with self._database.transaction() as session:
                repository.begin(session, ref.run_id, now=now)
        plan = plan_of(run)
        return _StartedVisit(run, plan.steps[ref.step], _visible_outputs(plan, ref.step, rows), row.created_at, now)

    def _revive_if_retried(self, ref: WorkflowStepRef, task: StepTask) -> bool:
        """Reopen an ended visit if an operator retried its task; False when the visit stays as it is."""
        with self._tasks.transaction() as unit:
            run = self._lock_run(unit, ref.run_id)
            row = repository.step(unit.session, ref.run_id, ref.step, ref.visit)
            if row is None or row.state == StepState.OPEN:
                return row is not None
            if run.state == RunState.CANCELLED:
                raise TaskCancelled
            if repository.times_sent_by_hand(unit.session, task.id) <= row.retries_seen:
                return False
            return transitions.revive_visit(unit, run, row, now=clock.now())

    # --- the kinds of steps

    def _result(self, ref: WorkflowStepRef, started: _StartedVisit, task: StepTask) -> StepResult:
        """The result of a step that is done by its handler, or by its children; raises TaskSnoozed while these run."""
        scope = Scope(started.run.input, started.outputs)
        if started.step.has_children:
            return self._checked(ref, self.children.settle(ref, task, planned(ref, started.step, scope)))
        with self._database.reading() as session:
            stored = task_events.step(session, task.id, CHILDREN)
        if stored is None:
            returned = self._work(ref, started, task)
            if not isinstance(returned, Children):
                return self._checked(ref, result_of(returned))
            task.step(CHILDREN, as_json, ref.step, returned)
        chosen_children = task.step(CHILDREN, dict)
        return self._checked(ref, self.children.settle(ref, task, chosen(chosen_children)))

    def run_item(self, ref: WorkflowItemRef, task: StepTask) -> dict[str, Any]:
        """Run the handler of a step for one item, and return its output.

        Raises what the handler raises; ItemFailed when it returns a failure; TaskCancelled when the step is over.
        """
        with self._database.reading() as session:
            run, row = repository.find(session, ref.run_id), repository.step(session, ref.run_id, ref.step, ref.visit)
            rows = repository.steps(session, ref.run_id)
        if run is None or row is None:
            raise NotFound("workflow step", ref.task_id)
        if row.state != StepState.OPEN or run.state == RunState.CANCELLED:
            raise TaskCancelled
        plan = plan_of(run)
        step, outputs = plan.steps[ref.step], _visible_outputs(plan, ref.step, rows)
        items = items_of(step, Scope(run.input, outputs))
        started = _StartedVisit(run, step, outputs, row.created_at, clock.now())
        returned = self._work(ref, started, task, item=items[ref.index], index=ref.index)
        if isinstance(returned, Children):
            raise PermanentError(f"The step {ref.step!r} runs for each item of a list: its items have no children.")
        result = self._checked(ref, result_of(returned))
        if result.outcome is Outcome.FAILED:
            raise ItemFailed(result.reason or "no reason was given")
        return result.output

    def _checked(self, ref: WorkflowStepRef, result: StepResult) -> StepResult:
        transitions.check_output(ref.step, result)
        return result

    def _work(
        self,
        ref: WorkflowStepRef,
        started: _StartedVisit,
        task: StepTask,
        *,
        item: Any = None,
        index: int | None = None,
    ) -> Returned:
        handler = self._handler(started)
        call = StepCall(
            item=item,
            index=index,
            task=task,
            run_id=ref.run_id,
            workflow_type=started.run.type,
            step=ref.step,
            visit=ref.visit,
            input=started.run.input,
            options=handler.options.model_validate(started.step.options),
            outputs=started.outputs,
        )
        work = handler.work
        if (spans := tracing.active) is not None:
            names = {"laneway.workflow.id": ref.run_id, "laneway.workflow.name": started.run.type}
            step = {"laneway.workflow.step": ref.step, "laneway.workflow.visit": ref.visit}
            work = spans.traced(f"workflow step {ref.step}", work, attributes={**names, **step})
        return work(call)

    def _handler(self, started: _StartedVisit) -> Handler:
        """The handler of a step. Raises TaskSnoozed while a worker of another version may know it, then UnknownHandler.

        The step waits as long as it has waited already, at most `LONGEST_HAND_ON`: the delay doubles.
        """
        name = started.step.handler or ""
        if name in self._handlers:
            return self._handlers[name]
        waited = (clock.now() - started.created_at).total_seconds()
        if waited >= self._hand_on_seconds:
            raise UnknownHandler(name)
        delay = min(max(waited, FIRST_HAND_ON), LONGEST_HAND_ON)
        raise TaskSnoozed(delay, f"this worker does not know the step handler {name!r}, and leaves it to another one")

    def _wait_for_timer(self, ref: WorkflowStepRef) -> StepResult:
        """Return an empty result when the timer is over; otherwise raise TaskSnoozed.

        The task may start early, because the task of a revived visit is sent at once.
        """
        with self._database.reading() as session:
            row = repository.step(session, ref.run_id, ref.step, ref.visit)
        left = (row.due_at - clock.now()).total_seconds() if row and row.due_at else 0
        if left > 0:
            raise TaskSnoozed(left, "its timer is not over")
        return StepResult()

    def _wait_for_signal(self, ref: WorkflowStepRef, started: _StartedVisit) -> dict[str, Any]:
        """End the visit with its signal, or when its time is over; otherwise raise TaskSnoozed."""
        now, step = clock.now(), started.step
        with self._tasks.transaction() as unit:
            run, row = self._lock_run(unit, ref.run_id), self._visit(unit, ref)
            if row.state != StepState.OPEN:
                return transitions.visit_summary(row)
            if not end_with_signal(unit, run, row, step):
                left = (row.due_at - now).total_seconds() if row.due_at else 0
                if left > 0:
                    raise TaskSnoozed(left, f"it waits for the signal {step.signal_name!r}")
                reason = f"no signal {step.signal_name!r} within {step.timeout:g} s"
                result = StepResult(outcome=step.on_timeout, reason=reason)
                end = VisitEnd(result=result, at=now, started_at=started.started_at, error_type="TimedOut")
                transitions.end_visit(unit, run, row, end)
        return transitions.visit_summary(row)

    # --- rows

    def _lock_run(self, unit: SubmissionTransaction, id: str) -> WorkflowRun:
        run = repository.find(unit.session, id, lock=True)
        if run is None:
            raise NotFound("workflow", id)
        return run

    def _visit(self, unit: SubmissionTransaction, ref: WorkflowStepRef) -> WorkflowStepRun:
        row = repository.step(unit.session, ref.run_id, ref.step, ref.visit)
        if row is None:
            raise NotFound("workflow step", ref.task_id)
        return row


def end_with_signal(unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun, step: StepDefinition) -> bool:
    """End a visit that waits for a signal with the oldest stored signal; False when there is none."""
    signal = repository.next_signal(unit.session, run.id, step.signal_name)
    if signal is None:
        return False
    signal.visit = row.visit
    output = {"data": signal.data, "received_at": signal.received_at.isoformat()}
    end = VisitEnd(result=StepResult(output), at=clock.now(), started_at=row.created_at)
    transitions.end_visit(unit, run, row, end)
    return True


def _visible_outputs(plan: Plan, step: str, rows: Sequence[WorkflowStepRun]) -> dict[str, dict[str, Any]]:
    """Return the newest output of each step whose output this step gets."""
    visible = plan.visible_to(step)
    newest_last = sorted(
        (row for row in rows if row.step in visible and row.output is not None), key=lambda row: row.visit
    )
    return {row.step: row.output for row in newest_last if row.output is not None}


def _ended_without_success(task: TaskRun) -> bool:
    return task.state in FINISHED and task.state != TaskState.COMPLETED


def _failure_of(task: TaskRun | None) -> VisitEnd:
    """Return the end of a visit whose task ended without success, or was deleted."""
    reason = _failure_reason(task) if task else "its task was deleted"
    return VisitEnd(
        result=StepResult(outcome=Outcome.FAILED, reason=reason),
        at=clock.now(),
        started_at=task.started_at if task else None,
        error_type=task.error_type or task.state if task else "deleted",
    )


def _failure_reason(task: TaskRun) -> str:
    if task.error:
        return task.error
    return {TaskState.CANCELLED: "its task was cancelled", TaskState.EXPIRED: "its task expired"}.get(
        TaskState(task.state), f"its task is {task.state}"
    )
