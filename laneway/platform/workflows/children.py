"""Steps whose work is done by other tasks or workflows, their children. The step's own task waits without a slot.

Each time it is woken it looks at all children, starts further ones, and ends its attempt. The last time it collects the
results, in the order of the items. What it waits for is stored before a child starts, so no end of a child is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import TaskRun, TaskWait, WorkflowRun
from laneway.platform.db.queries import task_waits
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PlatformError, TaskCancelled, TaskSnoozed
from laneway.platform.logging import logger
from laneway.platform.sealing import opened
from laneway.platform.submission.transaction import Submission, SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows.handlers import StepResult, StepTask
from laneway.schemas.task import FINISHED, TaskState
from laneway.schemas.workflow import Failures, Outcome
from laneway.schemas.workflow_run import RUN_OVER, RunState, StepState, WorkflowStepRef

log = logger(__name__)

CHUNK: Final = 500
RUN_ID: Final = 96
MOST_NAMED: Final = 5
"""Failed items that the reason of a failure names."""
OK: Final = frozenset({TaskState.COMPLETED.value, RunState.COMPLETED.value})
ENDED: Final = frozenset({*(state.value for state in FINISHED), *(state.value for state in RUN_OVER)})


class ChildRuns(Protocol):
    """What a step needs of the workflows that it starts."""

    def start_child(self, id: str, type: str, input: dict[str, Any], *, parent: WorkflowStepRef) -> None:
        """Start a run, unless it was started before."""
        ...

    def retry(self, id: str) -> Any:
        """Continue a failed or cancelled run."""
        ...

    def cancel(self, id: str) -> Any:
        """Cancel a run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPlan:
    """The children of one visit of a step."""

    kind: WaitKind
    """TASK or WORKFLOW."""
    count: int
    submission: Callable[[int, str], Submission]
    """Index and id → the submission of a child that is a task."""
    run: Callable[[int], tuple[str, dict[str, Any]]]
    """Index → the type and the input of a child that is a workflow."""
    at_once: int = 1
    failures: Failures = Failures.FAIL
    is_list: bool = True
    """False: there is one child, and its result is the output of the step."""


@dataclass(frozen=True, slots=True)
class _Child:
    """What is known of a child that was started."""

    state: str
    error: str | None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class StepChildren:
    """Starts the children of steps, and waits for them."""

    def __init__(self, database: Database, tasks: TaskManager, runs: Callable[[], ChildRuns]) -> None:
        self._database, self._tasks, self._runs = database, tasks, runs

    def settle(self, ref: WorkflowStepRef, task: StepTask, plan: ChildPlan) -> StepResult:
        """The result of a step when all its children have ended; raises TaskSnoozed before.

        Raises TaskCancelled when the run was cancelled, and what starting a child raises.
        """
        ids = [child_id(ref, index, plan.kind) for index in range(plan.count)]
        with self._database.reading() as session:
            times = repository.times_sent_by_hand(session, task.id)
        if times:
            task.step(f"children retried {times}", self._retry_failed, task.id, ids, plan.kind)
        found = self._look(ids, plan.kind)
        failed = [index for index, id in enumerate(ids) if id in found and _has_failed(found[id])]
        stops = bool(failed) and plan.failures is Failures.STOP
        running = [id for id in ids if id in found and not found[id].has_ended]
        missing = [] if stops else [index for index, id in enumerate(ids) if id not in found]
        self._forget_ended(task.id, running)
        if missing and len(running) < plan.at_once:
            started = missing[: plan.at_once - len(running)]
            self._start(ref, task, plan, {index: ids[index] for index in started})
        elif stops and running:
            self._cancel(plan.kind, running)
        if running or missing:
            ended = len(found) - len(running)
            raise TaskSnoozed(self._tasks.waker.look_again, f"it waits for its children: {ended} of {plan.count} ended")
        return self._result(ids, plan, found, failed)

    def stop(self, task_ids: Sequence[str]) -> None:
        """Cancel the children of steps that were cancelled or have failed, as far as they have not ended."""
        if not task_ids:
            return
        with self._database.reading() as session:
            conditions = (TaskWait.task_id.in_(task_ids), TaskWait.kind.in_([WaitKind.TASK, WaitKind.WORKFLOW]))
            rows = [(row.kind, row.target) for row in session.scalars(select(TaskWait).where(*conditions))]
        for kind, target in rows:
            self._cancel(WaitKind(kind), [target])

    def _start(self, ref: WorkflowStepRef, task: StepTask, plan: ChildPlan, ids: Mapping[int, str]) -> None:
        """Start these children. The run is locked, so that a cancel finds each of them, or none is started."""
        task.raise_if_cancelled()
        with self._tasks.transaction() as unit:
            _require_open(unit, ref)
            self._watch(unit.session, task.id, plan.kind, list(ids.values()))
            if plan.kind is WaitKind.TASK:
                unit.session.flush()
                unit.submit_many([plan.submission(index, id) for index, id in ids.items()])
        if plan.kind is WaitKind.WORKFLOW:
            for index, id in ids.items():
                self._runs().start_child(id, *plan.run(index), parent=ref)

    def _watch(self, session: Session, task_id: str, kind: WaitKind, ids: Sequence[str]) -> None:
        known = {row.name for row in task_waits.of_task(session, task_id, limit=10 * CHUNK)}
        for id in ids:
            if (name := _wait_name(id)) not in known:
                values: dict[str, Any] = {"task_id": task_id, "name": name, "kind": kind, "target": id}
                session.add(TaskWait(**values, created_at=clock.now()))

    def _forget_ended(self, task_id: str, running: Sequence[str]) -> None:
        with self._database.reading() as session:
            rows = task_waits.of_task(session, task_id, limit=10 * CHUNK)
        kinds = (WaitKind.TASK, WaitKind.WORKFLOW)
        ended = [row.name for row in rows if row.kind in kinds and row.target not in running]
        if ended:
            with self._database.transaction() as session:
                of_these = (TaskWait.task_id == task_id, TaskWait.name.in_(ended))
                session.execute(delete(TaskWait).where(*of_these))

    def _look(self, ids: Sequence[str], kind: WaitKind) -> dict[str, _Child]:
        table = TaskRun if kind is WaitKind.TASK else WorkflowRun
        found: dict[str, _Child] = {}
        with self._database.reading() as session:
            for first in range(0, len(ids), CHUNK):
                chunk = ids[first : first + CHUNK]
                rows = session.execute(select(table.id, table.state, table.error).where(table.id.in_(chunk)))
                found |= {id: _Child(state, error) for id, state, error in rows}
        return found

    def _retry_failed(self, task_id: str, ids: Sequence[str], kind: WaitKind) -> int:
        """Run the children again that did not succeed; return their number."""
        failed = [id for id, child in self._look(ids, kind).items() if _has_failed(child)]
        with self._database.transaction() as session:
            self._watch(session, task_id, kind, failed)
        for id in failed:
            try:
                self._tasks.retry(id) if kind is WaitKind.TASK else self._runs().retry(id)
            except PlatformError as error:  # somebody else has retried it, or its payload is not kept any more
                log.info("child not retried", child=id, error=str(error))
        return len(failed)

    def _cancel(self, kind: WaitKind, ids: Sequence[str]) -> None:
        for id in ids:
            try:
                self._tasks.cancel(id) if kind is WaitKind.TASK else self._runs().cancel(id)
            except PlatformError as error:
                log.debug("child not cancelled", child=id, error=str(error))

    def _result(
        self, ids: Sequence[str], plan: ChildPlan, found: Mapping[str, _Child], failed: Sequence[int]
    ) -> StepResult:
        results = self._results([id for id in ids if id in found and not _has_failed(found[id])], plan.kind)
        errors = [{"index": index, "error": _error(found[ids[index]])} for index in failed]
        if not plan.is_list:
            if failed:
                return StepResult({}, Outcome.FAILED, f"{ids[0]}: {_error(found[ids[0]])}")
            return StepResult(results.get(ids[0]) or {})
        output = {"results": [results.get(id) for id in ids], "failed": errors}
        if not failed or plan.failures is Failures.ALLOW:
            return StepResult(output)
        named = "; ".join(f"item {each['index']}: {each['error']}" for each in errors[:MOST_NAMED])
        return StepResult(output, Outcome.FAILED, f"{len(failed)} of {plan.count} items failed: {named}")

    def _results(self, ids: Sequence[str], kind: WaitKind) -> dict[str, Any]:
        value = TaskRun.result if kind is WaitKind.TASK else WorkflowRun.output
        key = TaskRun.id if kind is WaitKind.TASK else WorkflowRun.id
        found: dict[str, Any] = {}
        with self._database.reading() as session:
            for first in range(0, len(ids), CHUNK):
                rows = session.execute(select(key, value).where(key.in_(ids[first : first + CHUNK])))
                found |= {id: opened(result) for id, result in rows}
        return found


def child_id(ref: WorkflowStepRef, index: int, kind: WaitKind) -> str:
    """The id of a child: the same in every attempt."""
    id = f"{ref.task_id}:{index}"
    return id if kind is WaitKind.TASK or len(id) <= RUN_ID else str(uuid5(NAMESPACE_OID, id))


def _wait_name(id: str) -> str:
    return f"child {id}"


def _has_failed(child: _Child) -> bool:
    return child.has_ended and child.state not in OK


def _error(child: _Child) -> str:
    return child.error or child.state


def _require_open(unit: SubmissionTransaction, ref: WorkflowStepRef) -> None:
    """Raise TaskCancelled unless the visit is open in a run that goes on; lock the run."""
    run = repository.find(unit.session, ref.run_id, lock=True)
    if run is None:
        raise NotFound("workflow", ref.run_id)
    row = repository.step(unit.session, ref.run_id, ref.step, ref.visit)
    if run.state in RUN_OVER or row is None or row.state != StepState.OPEN:
        raise TaskCancelled
