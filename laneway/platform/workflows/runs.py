"""Runs of workflows: start, signal, cancel and retry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4, uuid5

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.audit_log.recording import parts_of_one_action, record
from laneway.platform.db.models import TaskRun, WorkflowRun, WorkflowSignal, WorkflowStepRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, Conflict, NotFound, PlatformError, WrongState
from laneway.platform.history.task_views import display_state
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.sealing import keyed_digests, stored_digest
from laneway.platform.submission.submit_options import IDEMPOTENCY
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.platform.submission.wakes import submit_wake_if_awaited
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows import transitions
from laneway.platform.workflows.children import StepChildren
from laneway.platform.workflows.definitions import Definitions
from laneway.platform.workflows.errors import (
    DefinitionDoesNotFit,
    NestedTooDeeply,
    UnknownSignal,
    WrongWorkflowState,
)
from laneway.platform.workflows.given import check_signal_data, fingerprint_of
from laneway.platform.workflows.pause import RunPauses
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.redefinition import misfits
from laneway.platform.workflows.step_runner import end_with_signal
from laneway.platform.workflows.transitions import latest_visits, plan_of
from laneway.schemas.task import FINISHED, TaskState
from laneway.schemas.workflow import WorkflowDefinition
from laneway.schemas.workflow_run import (
    RUN_OVER,
    RunState,
    SignalResponse,
    StepState,
    WorkflowCancelResponse,
    WorkflowHandle,
    WorkflowRef,
    WorkflowStepRef,
)

log = logger(__name__)

STOP_ROLE: Final = "stopping workflows"
MAX_DEPTH: Final = 10
"""Workflows of which each was started by a step of the one before."""
MAX_SIGNALS: Final = 1_000
"""Signals that one run may receive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """How to start a run. The same id or idempotency key with the same input is the same run."""

    id: str | None = None
    idempotency_key: str | None = None
    agent_id: str | None = None
    retry_of: str | None = None
    parent: WorkflowStepRef | None = None
    """The visit of a step that starts it."""

    def run_id(self) -> str:
        """Return the caller's id, one derived from the idempotency key, or a new one."""
        if self.id is not None:
            return self.id
        key = self.idempotency_key
        return str(uuid5(IDEMPOTENCY, f"workflow:{key}") if key is not None else uuid4())


class Workflows:
    """Starts, cancels and retries runs, and sends them signals."""

    def __init__(self, database: Database, tasks: TaskManager, definitions: Definitions) -> None:
        self._database, self._tasks = database, tasks
        self.definitions, self.pauses = definitions, RunPauses(tasks)
        self._children = StepChildren(database, tasks, lambda: self)

    def start(self, type: str, input: dict[str, Any], *, options: StartOptions | None = None) -> WorkflowHandle:
        """Start a run of a definition: its row and the tasks of its first steps are stored in one transaction.

        Raises UnknownWorkflowType, InvalidInput, Conflict (same id, other input), QueueFull; nothing is stored then.
        """
        plan = self.definitions.plan(type)
        return self.start_plan(plan, self.definitions.validated_input(plan, input), options=options or StartOptions())

    def start_plan(self, plan: Plan, input: dict[str, Any], *, options: StartOptions) -> WorkflowHandle:
        """Start a run of any plan; see `start`."""
        definition, now, id = plan.definition, clock.now(), options.run_id()
        fingerprint = fingerprint_of(definition.name, input)
        values = {
            "id": id,
            "type": definition.name,
            "version": definition.version,
            "input": input,
            "definition": _stored(definition),
            "fingerprint": stored_digest(fingerprint),
            "agent_id": options.agent_id,
            "retry_of": options.retry_of,
            "parent_id": options.parent.run_id if options.parent else None,
            "parent_step": options.parent.step if options.parent else None,
            "state": RunState.PENDING,
            "accepted_at": now,
        }
        with self._tasks.transaction(bounded=options.parent is None) as unit:
            run = repository.add(unit.session, **values)
            if run is None:
                return _existing_run(unit.session, id, fingerprint=fingerprint)
            transitions.start_run(unit, run, plan, now=now)
            if options.retry_of is not None:
                record(unit.session, "workflow.restart", ("workflow", options.retry_of), after={"workflow": id})
        first = unit.handles[0]
        log.info("workflow accepted", workflow=id, type=definition.name, status=first.state)
        return WorkflowHandle(workflow_id=id, task_id=first.task_id, status=first.state, created=True)

    def start_child(self, id: str, type: str, input: dict[str, Any], *, parent: WorkflowStepRef) -> None:
        """Start a run for a step of another one, unless it was started before. Raises as `start`, NestedTooDeeply."""
        with self._database.reading() as session:
            depth = repository.depth(session, parent.run_id, most=MAX_DEPTH)
        if depth >= MAX_DEPTH:
            raise NestedTooDeeply(type, MAX_DEPTH)
        self.start(type, input, options=StartOptions(id=id, parent=parent))

    # --- signals

    def signal(self, id: str, name: str, *, data: dict[str, Any], key: str = "") -> SignalResponse:
        """Store a signal, and let the step that waits for it continue. Sending the same signal again changes nothing.

        Raises NotFound, UnknownSignal, WrongWorkflowState when the run is over, Conflict for other data under this key.
        """
        with self._tasks.transaction() as unit:
            run = _lock_run(unit.session, id)
            plan = plan_of(run)
            if name not in plan.signals:
                raise UnknownSignal(name, sorted(plan.signals))
            known = repository.signal(unit.session, id, name, key)
            if known is not None:
                return _repeated_signal(known, data)
            _check_signal_allowed(unit.session, run)
            check_signal_data(name, data)
            sent = WorkflowSignal(run_id=id, name=name, key=key, data=data, received_at=clock.now())
            unit.session.add(sent)
            unit.session.flush()
            waiting = latest_visits(repository.steps(unit.session, id)).get(plan.signals[name])
            if waiting is None or waiting.state != StepState.OPEN:
                _record_signal(unit.session, run, sent)
                return SignalResponse(workflow_id=id, signal=name, created=True, delivered=False)
            end_with_signal(unit, run, waiting, plan.steps[waiting.step])
            _record_signal(unit.session, run, sent)
        with parts_of_one_action():
            self._cancel_tasks([waiting], require_broker=False)  # the task is only the timer of the wait
        return SignalResponse(workflow_id=id, signal=name, created=True, delivered=True)

    # --- cancel

    def cancel(self, id: str) -> WorkflowCancelResponse:
        """Cancel a run: waiting steps never start, and running steps are asked to stop. A repeat asks again.

        Raises NotFound, WrongWorkflowState when the run is over.
        """
        with self._tasks.transaction() as unit:
            run = _lock_run(unit.session, id)
            if run.state in (RunState.COMPLETED, RunState.FAILED):
                raise WrongWorkflowState(id, run.state, "cancelled")
            now, before = clock.now(), _state(run)
            for row in repository.open_steps(unit.session, id):
                row.state, row.finished_at = StepState.CANCELLED, row.finished_at or now
            run.state, run.finished_at = RunState.CANCELLED, run.finished_at or now
            run.paused_at = run.paused_by = None
            submit_wake_if_awaited(unit, WaitKind.WORKFLOW, id)
            record(unit.session, "workflow.cancel", ("workflow", id), before=before, after=_state(run))
        log.info("workflow cancelled", workflow=id)
        try:
            with parts_of_one_action():
                stopping = self.stop_steps(id)
        except BrokerUnavailable:  # waiting steps never start in any case; this task stops the running ones later
            stopping = []
            self._tasks.submit(registry.by_role(STOP_ROLE), WorkflowRef(run_id=id))
        return WorkflowCancelResponse(workflow_id=id, state=RunState.CANCELLED, stopping=stopping)

    def stop_steps(self, id: str) -> list[str]:
        """Cancel the tasks of a cancelled run; return the steps that were running. Raises BrokerUnavailable."""
        with self._database.reading() as session:
            run = repository.find(session, id)
            if run is None or run.state != RunState.CANCELLED:
                return []
            rows = [row for row in repository.open_steps(session, id) if row.state == StepState.CANCELLED]
        stopping = self._cancel_tasks(rows, require_broker=True)
        self._children.stop([row.task_id for row in rows if row.task_id])
        return stopping

    def _cancel_tasks(self, rows: Sequence[WorkflowStepRun], *, require_broker: bool) -> list[str]:
        """Cancel the tasks of these visits that have not ended; return the steps that were running.

        A task that cannot be cancelled now is left as it is. With `require_broker`, BrokerUnavailable is raised.
        """
        stopping: list[str] = []
        for row in rows:
            try:
                response = self._tasks.cancel(row.task_id or "")
            except BrokerUnavailable:
                if require_broker:
                    raise
            except PlatformError as error:
                log.debug("step's task not cancelled", task_id=row.task_id, error=str(error))
            else:
                stopping += [] if response.cancelled else [row.step]
        return stopping

    # --- retry

    def retry(self, id: str, *, newest: bool = False) -> WorkflowHandle:
        """Continue a failed or cancelled run from its failed and cancelled steps; completed steps stay completed.

        `newest`: with the newest definition of its workflow instead of the one that it was started with. Then also
        raises UnknownWorkflowType, BrokenWorkflowType, InvalidInput, and DefinitionDoesNotFit.

        The tasks of these steps run again under their ids; a task that was deleted is submitted again. If the last
        running steps succeeded in spite of a cancel, the steps after them start. Raises NotFound, WrongWorkflowState,
        and WrongState when a task has not ended yet.
        """
        with self._tasks.transaction() as unit:
            run = _lock_run(unit.session, id)
            before = _state(run)
            if newest and run.state != RunState.COMPLETED:
                self._take_newest_definition(unit.session, run)
            rows = self._visits_to_retry(unit.session, run)
            for row in rows:
                if row.state != StepState.OPEN:
                    transitions.revive_visit(unit, run, row, now=clock.now())
            if not rows:
                transitions.resume_run(unit, run, now=clock.now())
            kept = [row for row in rows if self._prepare_task(unit, run, row)]
            record(unit.session, "workflow.retry", ("workflow", id), before=before, after=_state(run))
        with parts_of_one_action():
            self._retry_tasks(kept)
        with self._database.reading() as session:
            shown = rows[0] if rows else [row for row in repository.steps(session, id) if row.task_id][-1]
            return _handle(session, shown, created=True)

    def restart(self, id: str, *, new_id: str | None = None, newest: bool = False) -> WorkflowHandle:
        """Start a new run with the definition and input of this one, which stays. Raises NotFound, Conflict.

        `newest`: with the newest definition of its workflow. Then also raises as `start`.
        """
        with self._database.reading() as session:
            run = repository.find(session, id)
            if run is None:
                raise NotFound("workflow", id)
        options = StartOptions(id=new_id, agent_id=run.agent_id, retry_of=id)
        if newest:
            return self.start(run.type, run.input, options=options)
        return self.start_plan(plan_of(run), run.input, options=options)

    def _take_newest_definition(self, session: Session, run: WorkflowRun) -> None:
        """Let the run continue with the newest definition, if what it has done fits."""
        plan = self.definitions.plan(run.type)
        rows = repository.steps(session, run.id)
        problems = list(misfits(plan_of(run), plan, rows))
        if problems:
            raise DefinitionDoesNotFit(run.id, plan.definition.version, problems)
        for row in rows:
            if row.step not in plan.steps:  # it was skipped
                session.delete(row)
        run.input = self.definitions.validated_input(plan, run.input)
        run.definition, run.version = _stored(plan.definition), plan.definition.version

    def _visits_to_retry(self, session: Session, run: WorkflowRun) -> list[WorkflowStepRun]:
        """Return the visits from which the run continues, those of detour steps first.

        While a detour step is open, the step that it leads back to does not start. In a run that has not ended, these
        are the open visits whose task has ended. Raises WrongWorkflowState, WrongState.
        """
        if run.state == RunState.COMPLETED:
            raise WrongWorkflowState(run.id, run.state, "retried")
        plan = plan_of(run)
        rows = _unsuccessful_visits(plan, repository.steps(session, run.id))
        tasks = repository.tasks_of(session, [row.task_id or "" for row in rows])
        if run.state in (RunState.PENDING, RunState.RUNNING):
            rows = [row for row in rows if row.state == StepState.OPEN and _is_over(tasks.get(row.task_id or ""))]
            if not rows:
                raise WrongWorkflowState(run.id, run.state, "retried while it goes on")
        running = [task for task in tasks.values() if task.id in {row.task_id for row in rows} and not _is_over(task)]
        if running:
            raise WrongState(running[0].id, running[0].state, "retried")
        return sorted(rows, key=lambda row: row.step not in plan.detour_of)

    def _prepare_task(self, unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun) -> bool:
        """Prepare the task of a visit to run again; False when it was deleted: then it is submitted as a new one."""
        ref = WorkflowStepRef(run_id=run.id, step=row.step, visit=row.visit)
        task = repository.tasks_of(unit.session, [ref.task_id]).get(ref.task_id)
        if task is None:
            transitions.submit_step(unit, ref, plan_of(run).steps[row.step], due=row.due_at, now=clock.now())
            return False
        task.payload = ref.model_dump(mode="json")  # retention may have erased it
        return True

    def _retry_tasks(self, rows: Sequence[WorkflowStepRun]) -> None:
        for row in rows:
            try:
                handle = self._tasks.retry(row.task_id or "")
            except WrongState as error:  # somebody else retried it at the same moment
                log.info("step not retried", workflow=row.run_id, step=row.step, error=str(error))
            else:
                log.info("step retried", workflow=row.run_id, step=row.step, task_id=handle.task_id)


def _state(run: WorkflowRun) -> dict[str, Any]:
    """What the audit log says of a run."""
    return {"type": run.type, "version": run.version, "state": run.state}


def _record_signal(session: Session, run: WorkflowRun, sent: WorkflowSignal) -> None:
    """Record a signal without its data, which may be about a person."""
    session.flush()
    record(session, "workflow.signal", ("workflow", run.id), before=_state(run), after={"signal": sent.name})


def _stored(definition: WorkflowDefinition) -> dict[str, Any]:
    return definition.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _unsuccessful_visits(plan: Plan, rows: Sequence[WorkflowStepRun]) -> list[WorkflowStepRun]:
    """Return the latest visits that count, have a task, and did not succeed."""
    states = (StepState.FAILED, StepState.CANCELLED, StepState.OPEN)
    latest = latest_visits(rows).values()
    found = [row for row in latest if row.superseded_by is None and row.task_id and row.state in states]
    failed = {row.step for row in found if row.state == StepState.FAILED}
    origins = {plan.detour_of[name].origin for name in failed if name in plan.detour_of}
    # A detour step that failed runs again. The origin of its loop then runs after it, as a new visit.
    return [row for row in found if row.step not in origins]


def _lock_run(session: Session, id: str) -> WorkflowRun:
    run = repository.find(session, id, lock=True)
    if run is None:
        raise NotFound("workflow", id)
    return run


def _existing_run(session: Session, id: str, *, fingerprint: str) -> WorkflowHandle:
    run = repository.find(session, id)
    if run is None:
        raise NotFound("workflow", id)  # it was deleted at this very moment
    if run.fingerprint not in (fingerprint, *keyed_digests(fingerprint)):
        raise Conflict(f"The id {id!r} was used before for another workflow or another input.")
    first = next(row for row in repository.steps(session, id) if row.task_id)
    return _handle(session, first, created=False)


def _handle(session: Session, row: WorkflowStepRun, *, created: bool) -> WorkflowHandle:
    id = row.task_id or ""
    task = repository.tasks_of(session, [id]).get(id)
    return WorkflowHandle(
        workflow_id=row.run_id, task_id=id, status=display_state(task) if task else TaskState.COMPLETED, created=created
    )


def _is_over(task: TaskRun | None) -> bool:
    return task is not None and task.state in FINISHED


def _repeated_signal(known: WorkflowSignal, data: dict[str, Any]) -> SignalResponse:
    if known.data != data:
        raise Conflict(f"The signal {known.name!r} was sent before with other data; a further one needs an id.")
    return SignalResponse(workflow_id=known.run_id, signal=known.name, created=False, delivered=known.visit is not None)


def _check_signal_allowed(session: Session, run: WorkflowRun) -> None:
    if run.state in RUN_OVER:
        raise WrongWorkflowState(run.id, run.state, "sent a signal")
    if repository.count_signals(session, run.id) >= MAX_SIGNALS:
        raise Conflict(f"Workflow {run.id!r} has been sent {MAX_SIGNALS} signals, which is the limit.")
