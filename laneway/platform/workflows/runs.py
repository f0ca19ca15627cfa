"""What callers do with workflows: start, signal, cancel, retry."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4, uuid5

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import TaskRun, WorkflowRun, WorkflowSignal, WorkflowStepRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, Conflict, NotFound, PlatformError, WrongState
from laneway.platform.history.task_views import display_state
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.schemas.task import FINISHED, TaskState
from laneway.platform.schemas.workflow_run import (
    RUN_OVER,
    RunState,
    SignalResponse,
    StepState,
    WorkflowCancelResponse,
    WorkflowHandle,
    WorkflowRef,
    WorkflowStepRef,
)
from laneway.platform.submission.acceptance import IDEMPOTENCY
from laneway.platform.submission.outbox import SubmissionTransaction
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows import transitions
from laneway.platform.workflows.definitions import Definitions
from laneway.platform.workflows.errors import InvalidInput, InvalidSignal, UnknownSignal, WrongWorkflowState
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.step_runner import take_signal
from laneway.platform.workflows.transitions import OUTPUT_LIMIT, json_text, latest_of, plan_of

log = logger(__name__)

STOP_ROLE: Final = "stopping workflows"
MAX_SIGNALS: Final = 1_000
"""Of one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a run is to be started. The same id or idempotency key again, with the same input, is the same run."""

    id: str | None = None
    idempotency_key: str | None = None
    agent_id: str | None = None
    retry_of: str | None = None

    def run_id(self) -> str:
        """The caller's, one made from the idempotency key, or a new one."""
        if self.id is not None:
            return self.id
        key = self.idempotency_key
        return str(uuid5(IDEMPOTENCY, f"workflow:{key}") if key is not None else uuid4())


class Workflows:
    """Starts runs and answers for them."""

    def __init__(self, database: Database, tasks: TaskManager, known: Definitions) -> None:
        self._database, self._tasks = database, tasks
        self.definitions = known

    def start(self, type: str, given: dict[str, Any], *, launch: Launch | None = None) -> WorkflowHandle:
        """Accept a run of a definition: its row and its first steps' tasks are one transaction.

        Raises UnknownWorkflowType, InvalidInput, Conflict (same id, other input), QueueFull: nothing is accepted.
        """
        plan = self.definitions.plan(type)
        return self.start_plan(plan, self.definitions.checked_input(plan, given), launch=launch or Launch())

    def start_plan(self, plan: Plan, given: dict[str, Any], *, launch: Launch) -> WorkflowHandle:
        """The same for any plan."""
        definition, now, id = plan.definition, clock.now(), launch.run_id()
        fingerprint = _fingerprint(definition.name, given)
        values = {
            "id": id,
            "type": definition.name,
            "version": definition.version,
            "input": given,
            "definition": definition.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "fingerprint": fingerprint,
            "agent_id": launch.agent_id,
            "retry_of": launch.retry_of,
            "state": RunState.PENDING,
            "accepted_at": now,
        }
        with self._tasks.transaction(bounded=True) as unit:
            run = repository.add(unit.session, **values)
            if run is None:
                return self._known(unit.session, id, fingerprint=fingerprint)
            transitions.begin_run(unit, run, plan, now=now)
        first = unit.handles[0]
        log.info("workflow accepted", workflow=id, type=definition.name, status=first.state)
        return WorkflowHandle(workflow_id=id, task_id=first.task_id, status=first.state, created=True)

    def signal(self, id: str, name: str, *, data: dict[str, Any], key: str = "") -> SignalResponse:
        """Keep a signal, and let the step that waits for it go on. The same again changes nothing.

        Raises NotFound, UnknownSignal, WrongWorkflowState when the run is over, Conflict for other data under this key.
        """
        with self._tasks.transaction() as unit:
            run = _locked(unit.session, id)
            plan = plan_of(run)
            if name not in plan.signals:
                raise UnknownSignal(name, sorted(plan.signals))
            known = repository.signal(unit.session, id, name, key)
            if known is not None:
                return _repeated(known, data)
            if run.state in RUN_OVER:
                raise WrongWorkflowState(id, run.state, "sent a signal")
            if repository.count_signals(unit.session, id) >= MAX_SIGNALS:
                raise Conflict(f"Workflow {id!r} has been sent {MAX_SIGNALS} signals, which is the limit.")
            _check_signal(name, data)
            sent = WorkflowSignal(run_id=id, name=name, key=key, data=data, received_at=clock.now())
            unit.session.add(sent)
            unit.session.flush()
            waiting = latest_of(repository.steps(unit.session, id)).get(plan.signals[name])
            if waiting is None or waiting.state != StepState.OPEN:
                return SignalResponse(workflow_id=id, signal=name, created=True, delivered=False)
            take_signal(unit, run, waiting, plan.steps[waiting.step])
        self._stop([waiting])  # its timer
        return SignalResponse(workflow_id=id, signal=name, created=True, delivered=True)

    def cancel(self, id: str) -> WorkflowCancelResponse:
        """Stop a run: steps that wait never start, running ones are asked to stop. A repeat asks again.

        Raises NotFound, WrongWorkflowState when it is over already.
        """
        with self._tasks.transaction() as unit:
            run = _locked(unit.session, id)
            if run.state in (RunState.COMPLETED, RunState.FAILED):
                raise WrongWorkflowState(id, run.state, "cancelled")
            now = clock.now()
            for row in repository.open_steps(unit.session, id):
                row.state, row.finished_at = StepState.CANCELLED, row.finished_at or now
            run.state, run.finished_at = RunState.CANCELLED, run.finished_at or now
        log.info("workflow cancelled", workflow=id)
        try:
            stopping = self.stop_steps(id)
        except BrokerUnavailable:  # what has not begun never will; what runs is told when the broker is back
            stopping = []
            self._tasks.submit(registry.by_role(STOP_ROLE), WorkflowRef(run_id=id))
        return WorkflowCancelResponse(workflow_id=id, state=RunState.CANCELLED, stopping=stopping)

    def stop_steps(self, id: str) -> list[str]:
        """Cancel the tasks of a cancelled run; gives back the steps that were running. Raises BrokerUnavailable."""
        with self._database.reading() as session:
            run = repository.find(session, id)
            if run is None or run.state != RunState.CANCELLED:
                return []
            rows = [row for row in repository.open_steps(session, id) if row.state == StepState.CANCELLED]
        return self._stop(rows, patient=False)

    def retry(self, id: str) -> WorkflowHandle:
        """Go on with a run that failed or was cancelled, from its failed and cancelled steps; what is done stays done.

        Where a running step was done in spite of the cancel, what comes after it is started. The tasks of these steps
        are run again under their ids; one that is no longer kept is submitted again. Raises
        NotFound; WrongWorkflowState; WrongState when a task is not over yet.
        """
        with self._tasks.transaction() as unit:
            run = _locked(unit.session, id)
            rows = self._to_retry(unit.session, run)
            for row in rows:
                if row.state != StepState.OPEN:
                    transitions.revive(unit, run, row, now=clock.now())
            if not rows:
                transitions.resume(unit, run, now=clock.now())
            again = [row for row in rows if self._kept(unit, run, row)]
        self._run_again(again)
        with self._database.reading() as session:
            newest = rows[0] if rows else [row for row in repository.steps(session, id) if row.task_id][-1]
            return _accepted(session, newest, created=True)

    def _run_again(self, rows: Sequence[WorkflowStepRun]) -> None:
        for row in rows:
            try:
                handle = self._tasks.retry(row.task_id or "")
            except WrongState as error:  # somebody else did at this very moment
                log.info("step not retried", workflow=row.run_id, step=row.step, error=str(error))
            else:
                log.info("step retried", workflow=row.run_id, step=row.step, task_id=handle.task_id)

    def restart(self, id: str, *, new_id: str | None = None) -> WorkflowHandle:
        """Start a new run like this one, from the beginning; the old one stays as it is. Raises NotFound, Conflict."""
        with self._database.reading() as session:
            run = repository.find(session, id)
            if run is None:
                raise NotFound("workflow", id)
        return self.start_plan(plan_of(run), run.input, launch=Launch(id=new_id, agent_id=run.agent_id, retry_of=id))

    def _known(self, session: Session, id: str, *, fingerprint: str) -> WorkflowHandle:
        run = repository.find(session, id)
        if run is None:
            raise NotFound("workflow", id)  # deleted at this very moment
        if run.fingerprint != fingerprint:
            raise Conflict(f"The id {id!r} was used before for another workflow or another input.")
        first = next(row for row in repository.steps(session, id) if row.task_id)
        return _accepted(session, first, created=False)

    def _to_retry(self, session: Session, run: WorkflowRun) -> list[WorkflowStepRun]:
        """The visits to go on from, whose tasks must be over. Of a run that goes on: those that nobody runs."""
        if run.state == RunState.COMPLETED:
            raise WrongWorkflowState(run.id, run.state, "retried")
        plan, latest = plan_of(run), latest_of(repository.steps(session, run.id))
        rows = [
            row
            for row in latest.values()
            if row.superseded_by is None
            and row.task_id
            and row.state in (StepState.FAILED, StepState.CANCELLED, StepState.OPEN)
        ]
        failed = {row.step for row in rows if row.state == StepState.FAILED}
        repaired = {plan.aside_of[name].origin for name in failed if name in plan.aside_of}
        rows = [row for row in rows if row.step not in repaired]  # the aside failed, not again its origin
        tasks = repository.tasks_of(session, [row.task_id or "" for row in rows])
        if run.state in (RunState.PENDING, RunState.RUNNING):
            rows = [row for row in rows if row.state == StepState.OPEN and _is_over(tasks.get(row.task_id or ""))]
            if not rows:
                raise WrongWorkflowState(run.id, run.state, "retried while it goes on")
        running = [task for task in tasks.values() if task.id in {row.task_id for row in rows} and not _is_over(task)]
        if running:
            raise WrongState(running[0].id, running[0].state, "retried")
        return sorted(rows, key=lambda row: row.step not in plan.aside_of)  # they hold the step that they lead back to

    def _kept(self, unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun) -> bool:
        """Whether the visit's task is still there to be run again; one that was deleted is submitted like a new one."""
        ref = WorkflowStepRef(run_id=run.id, step=row.step, visit=row.visit)
        task = repository.tasks_of(unit.session, [ref.task_id]).get(ref.task_id)
        if task is None:
            transitions.submit_step(unit, ref, plan_of(run).steps[row.step], due=row.due_at, now=clock.now())
            return False
        task.payload = ref.model_dump(mode="json")  # of one that ended long ago it has been blanked
        return True

    def _stop(self, rows: Sequence[WorkflowStepRun], *, patient: bool = True) -> list[str]:
        """Cancel the tasks of these visits, as far as they are not over; `patient`: those that cannot be are left."""
        stopping: list[str] = []
        for row in rows:
            try:
                answer = self._tasks.cancel(row.task_id or "")
            except BrokerUnavailable:
                if not patient:
                    raise
            except PlatformError as error:
                log.debug("step's task not cancelled", task_id=row.task_id, error=str(error))
            else:
                stopping += [] if answer.cancelled else [row.step]
        return stopping


def _locked(session: Session, id: str) -> WorkflowRun:
    run = repository.find(session, id, lock=True)
    if run is None:
        raise NotFound("workflow", id)
    return run


def _repeated(known: WorkflowSignal, data: dict[str, Any]) -> SignalResponse:
    if known.data != data:
        raise Conflict(f"The signal {known.name!r} was sent before with other data; a further one needs an id.")
    return SignalResponse(workflow_id=known.run_id, signal=known.name, created=False, delivered=known.visit is not None)


def _accepted(session: Session, row: WorkflowStepRun, *, created: bool) -> WorkflowHandle:
    id = row.task_id or ""
    task = repository.tasks_of(session, [id]).get(id)
    return WorkflowHandle(
        workflow_id=row.run_id, task_id=id, status=display_state(task) if task else TaskState.COMPLETED, created=created
    )


def _is_over(task: TaskRun | None) -> bool:
    return task is not None and task.state in FINISHED


def _check_signal(name: str, data: dict[str, Any]) -> None:
    try:
        size = len(json_text(data))
    except ValueError as error:
        raise InvalidSignal(name, f"its data is no JSON: {error}") from None
    if size > OUTPUT_LIMIT:
        raise InvalidSignal(name, f"its data has {size} characters of JSON, more than {OUTPUT_LIMIT}")


def _fingerprint(name: str, given: dict[str, Any]) -> str:
    try:
        text = json_text(given)
    except ValueError as error:
        raise InvalidInput(name, [f"it is no JSON: {error}"]) from None
    return hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
