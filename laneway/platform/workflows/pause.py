"""Pauses and resumes runs.

A paused run goes on being settled: a step that runs ends, and what follows it is submitted. But no step starts: its
task finds the run paused, ends its attempt, and is woken when the run is resumed. So a pause costs no slot, and a crash
at any point leaves a run that is paused, or one that goes on.
"""

from __future__ import annotations

from typing import Any, Final

from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import TaskWait, WorkflowRun
from laneway.platform.db.queries import task_waits
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, TaskSnoozed
from laneway.platform.logging import logger
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.platform.submission.wakes import submit_wake
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows.errors import WrongWorkflowState
from laneway.schemas.workflow_run import RUN_OVER, RunState, WorkflowPauseResponse

log = logger(__name__)

LONGEST_NAME: Final = 200


class RunPauses:
    """Pauses and resumes runs."""

    def __init__(self, tasks: TaskManager) -> None:
        self._tasks = tasks

    def pause(self, id: str) -> WorkflowPauseResponse:
        """Let no further step of a run start; running ones end. A second pause changes nothing.

        Raises NotFound, WrongWorkflowState when the run is over.
        """
        with self._tasks.transaction() as unit:
            run = _lock_run(unit, id, action="paused")
            changed = run.paused_at is None
            if changed:
                before = _state(run)
                run.paused_at, run.paused_by = clock.now(), current_caller().name[:LONGEST_NAME]
                record(unit.session, "workflow.pause", ("workflow", id), before=before, after=_state(run))
            response = _response(run, changed=changed)
        log.info("workflow paused", workflow=id, changed=changed)
        return response

    def resume(self, id: str) -> WorkflowPauseResponse:
        """Let a paused run go on. Timers that ended meanwhile fire now. A second resume changes nothing.

        Raises NotFound, WrongWorkflowState when the run is over.
        """
        with self._tasks.transaction() as unit:
            run = _lock_run(unit, id, action="resumed")
            changed = run.paused_at is not None
            if changed:
                before = _state(run)
                run.paused_at = run.paused_by = None
                submit_wake(unit, WaitKind.RESUME, id)
                record(unit.session, "workflow.resume", ("workflow", id), before=before, after=_state(run))
            response = _response(run, changed=changed)
        log.info("workflow resumed", workflow=id, changed=changed)
        return response


def raise_if_paused(run: WorkflowRun, task_id: str, database: Database, tasks: TaskManager) -> None:
    """Raise TaskSnoozed in the task of a step whose run is paused."""
    if run.paused_at is None:
        return
    with database.transaction() as session:
        if task_waits.find(session, task_id, WaitKind.RESUME) is None:
            row = {"task_id": task_id, "name": WaitKind.RESUME, "kind": WaitKind.RESUME, "target": run.id}
            session.add(TaskWait(**row, created_at=clock.now()))
    with database.reading() as session:  # again: who resumed it before the commit may have seen no row
        found = repository.find(session, run.id)
    if found is not None and found.paused_at is not None:
        raise TaskSnoozed(tasks.waker.look_again, f"it waits for {reason(found)}")


def reason(run: WorkflowRun) -> str:
    """What a step of a paused run waits for."""
    return f"its workflow to be resumed: {run.paused_by} paused it at {run.paused_at:%F %T} UTC"


def _lock_run(unit: SubmissionTransaction, id: str, *, action: str) -> WorkflowRun:
    run = repository.find(unit.session, id, lock=True)
    if run is None:
        raise NotFound("workflow", id)
    if run.state in RUN_OVER:
        raise WrongWorkflowState(id, run.state, action)
    return run


def _state(run: WorkflowRun) -> dict[str, Any]:
    """What the audit log says of a run."""
    return {"type": run.type, "version": run.version, "state": run.state, "paused": run.paused_at is not None}


def _response(run: WorkflowRun, *, changed: bool) -> WorkflowPauseResponse:
    return WorkflowPauseResponse(
        workflow_id=run.id,
        state=RunState(run.state),
        paused_at=run.paused_at,
        paused_by=run.paused_by,
        changed=changed,
    )
