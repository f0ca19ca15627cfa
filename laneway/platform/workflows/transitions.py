"""Transitions of a run: store what the state machine decides, as rows and submissions of step tasks.

The caller of each function has locked the run's row in the same transaction. So if two steps end at the same moment,
the second one sees what the first one stored: no join is missed, and no step is started twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.platform.db.models import WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.errors import Conflict
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.strict_json import strict_json
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.platform.submission.wakes import submit_wake_if_awaited
from laneway.platform.workflows.errors import OutputTooLarge
from laneway.platform.workflows.handlers import StepResult
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.state_machine import STATE_OF, Decision, RunEvent, RunEventKind, Visit, decision_after
from laneway.schemas.workflow import StepDefinition, StepKind, WorkflowDefinition
from laneway.schemas.workflow_run import RunState, StepState, WorkflowStepRef

log = logger(__name__)

STEP_ROLE: Final = "workflow steps"
OUTPUT_LIMIT: Final = 250_000
"""Characters of JSON that a step may return."""
ERROR_LIMIT: Final = 4_000
FAILED_BY_RESULT: Final = "Found"
"""The `error_type` of a step whose handler returned `failed(...)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitEnd:
    """How a visit of a step ended."""

    result: StepResult
    at: datetime
    started_at: datetime | None = None
    error_type: str = FAILED_BY_RESULT
    """Used if the result is a failure."""


def plan_of(run: WorkflowRun) -> Plan:
    """Return the plan of a run, from the definition with which it was accepted."""
    return _cached_plan(json.dumps(run.definition, sort_keys=True))


@lru_cache(maxsize=64)
def _cached_plan(definition: str) -> Plan:
    return Plan(WorkflowDefinition.model_validate_json(definition))


def latest_visits(rows: Sequence[WorkflowStepRun]) -> dict[str, WorkflowStepRun]:
    """Return step → its latest visit."""
    return {row.step: row for row in sorted(rows, key=lambda row: row.visit)}


def visit_summary(row: WorkflowStepRun) -> dict[str, Any]:
    """Return the result of a step's task: the visit and its state."""
    return {"workflow_id": row.run_id, "step": row.step, "visit": row.visit, "state": row.state, "error": row.error}


# --- events


def start_run(unit: SubmissionTransaction, run: WorkflowRun, plan: Plan, *, now: datetime) -> None:
    """Start the first steps of a new run."""
    event = RunEvent(RunEventKind.STARTED)
    _store_decision(unit, run, rows=[], event=event, decision=decision_after(plan, {}, event), now=now)


def end_visit(unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun, end: VisitEnd) -> bool:
    """Store how a visit ended, and start the steps that follow. Returns False, and changes nothing, if it had ended.

    In a cancelled run the result of a step that finished in spite of the cancel is stored, and nothing is started.
    """
    if run.state == RunState.CANCELLED:
        if row.state != StepState.CANCELLED:
            return False
        _store_end(unit.session, row, end)
        return True
    event = RunEvent(RunEventKind.ENDED, row.step, row.visit, end.result.outcome)
    rows = repository.steps(unit.session, run.id)
    decision = _decision(plan_of(run), rows, event)
    if decision.applies:
        _store_end(unit.session, row, end)
        _store_decision(unit, run, rows=rows, event=event, decision=decision, now=end.at)
    return decision.applies


def revive_visit(unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun, *, now: datetime) -> bool:
    """Reopen a failed or cancelled visit; False when the run does not depend on it any more."""
    plan, event = plan_of(run), RunEvent(RunEventKind.REVIVED, row.step, row.visit)
    rows = repository.steps(unit.session, run.id)
    decision = _decision(plan, rows, event)
    if decision.applies:
        row.state, row.error, row.error_type, row.output, row.finished_at = StepState.OPEN, None, None, None, None
        row.due_at = _due_at(plan.steps[row.step], now) if row.due_at else None
        _reopen(run)
        _store_decision(unit, run, rows=rows, event=event, decision=decision, now=now)
    return decision.applies


def resume_run(unit: SubmissionTransaction, run: WorkflowRun, *, now: datetime) -> None:
    """Continue a cancelled run whose last steps succeeded in spite of the cancel: start what follows, or end it."""
    event, rows = RunEvent(RunEventKind.STARTED), repository.steps(unit.session, run.id)
    _reopen(run)
    decision = _decision(plan_of(run), rows, event)
    _store_decision(unit, run, rows=rows, event=event, decision=decision, now=now)


def submit_step(
    unit: SubmissionTransaction, ref: WorkflowStepRef, step: StepDefinition, *, due: datetime | None, now: datetime
) -> None:
    """Submit the task of a visit. Raises Conflict when a task with its id exists: the step would never run."""
    received = step.kind is StepKind.SIGNAL and repository.next_signal(unit.session, ref.run_id, step.signal_name)
    delay = 0 if due is None or received else max(0, (due - now).total_seconds())
    limit = step.timeout if step.kind is StepKind.TASK else None
    options = SubmitOptions(
        id=ref.task_id, queue=step.queue, delay=delay, max_retries=step.max_retries, time_limit=limit
    )
    if not unit.submit(registry.by_role(STEP_ROLE), ref, options=options).created:
        raise Conflict(
            f"A task {ref.task_id!r} is kept that does not belong to this workflow. Delete it, or choose another id."
        )


# --- JSON


def check_output(step: str, result: StepResult) -> None:
    """Raise OutputTooLarge for an output beyond `OUTPUT_LIMIT`, and what `strict_json` raises."""
    size = len(strict_json(result.output))
    if size > OUTPUT_LIMIT:
        raise OutputTooLarge(step, size, OUTPUT_LIMIT)


# --- storing


def _decision(plan: Plan, rows: Sequence[WorkflowStepRun], event: RunEvent) -> Decision:
    visits = {
        name: Visit(row.visit, StepState(row.state), row.superseded_by is not None)
        for name, row in latest_visits(rows).items()
    }
    rounds = sum(row.step == row.superseded_by == event.step for row in rows)
    return decision_after(plan, visits, event, rounds=rounds)


def _reopen(run: WorkflowRun) -> None:
    run.state, run.error, run.output, run.finished_at = RunState.RUNNING, None, None, None


def _store_decision(
    unit: SubmissionTransaction,
    run: WorkflowRun,
    *,
    rows: Sequence[WorkflowStepRun],
    event: RunEvent,
    decision: Decision,
    now: datetime,
) -> None:
    plan, latest = plan_of(run), latest_visits(rows)
    _store_superseded(plan, latest, event, decision)
    for name, number in decision.skip:
        _add_visit(unit, run, name, number, state=StepState.SKIPPED, now=now)
    for name, number in decision.start:
        _start_visit(unit, run, plan.steps[name], number, now=now)
    if decision.outcome is not None:
        unit.session.flush()
        _finish_run(unit, run, plan, decision, now=now)


def _store_superseded(plan: Plan, latest: Mapping[str, WorkflowStepRun], event: RunEvent, decision: Decision) -> None:
    loop = plan.detour_of.get(event.step)
    for name in decision.supersede:
        latest[name].superseded_by = loop.origin if loop else event.step
    for name in decision.restore:
        latest[name].superseded_by = None


def _add_visit(
    unit: SubmissionTransaction,
    run: WorkflowRun,
    step: str,
    number: int,
    *,
    state: StepState,
    now: datetime,
    task_id: str | None = None,
    due_at: datetime | None = None,
) -> None:
    unit.session.add(
        WorkflowStepRun(
            run_id=run.id,
            step=step,
            visit=number,
            state=state,
            task_id=task_id,
            retries_seen=0,
            created_at=now,
            finished_at=now if state is StepState.SKIPPED else None,
            due_at=due_at,
        )
    )


def _start_visit(
    unit: SubmissionTransaction, run: WorkflowRun, step: StepDefinition, number: int, *, now: datetime
) -> None:
    ref, due = WorkflowStepRef(run_id=run.id, step=step.name, visit=number), _due_at(step, now)
    _add_visit(unit, run, step.name, number, state=StepState.OPEN, now=now, task_id=ref.task_id, due_at=due)
    submit_step(unit, ref, step, due=due, now=now)


def _due_at(step: StepDefinition, now: datetime) -> datetime | None:
    """Return when a timer is over, or when the wait for a signal times out; None for other steps."""
    seconds = {StepKind.WAIT: step.seconds, StepKind.SIGNAL: step.timeout}.get(step.kind)
    return None if seconds is None else now + timedelta(seconds=seconds)


def _store_end(session: Session, row: WorkflowStepRun, end: VisitEnd) -> None:
    row.state, row.output, row.finished_at = STATE_OF[end.result.outcome], end.result.output, end.at
    row.started_at = end.started_at or row.started_at
    if row.state == StepState.FAILED:  # a visit that succeeded is never revived
        row.retries_seen = repository.times_sent_by_hand(session, row.task_id or "")
        row.error_type, row.error = end.error_type, (end.result.reason or "no reason was given")[:ERROR_LIMIT]


def _finish_run(
    unit: SubmissionTransaction, run: WorkflowRun, plan: Plan, decision: Decision, *, now: datetime
) -> None:
    session = unit.session
    rows = latest_visits(repository.steps(session, run.id))
    last = [name for name in plan.order if not plan.successors[name]]
    run.output = {name: rows[name].output for name in last if rows[name].state == StepState.OK}
    run.state, run.finished_at = str(decision.outcome), now
    run.paused_at = run.paused_by = None
    run.error = "; ".join(f"{name}: {rows[name].error}" for name in decision.failed)[:ERROR_LIMIT] or None
    figures = {
        "duration_ms": round((now - run.accepted_at).total_seconds() * 1000),
        "completed": int(decision.outcome is RunState.COMPLETED),
    }
    repository.set_metrics(session, run.id, figures, at=now)
    submit_wake_if_awaited(unit, WaitKind.WORKFLOW, run.id)
    log.info("workflow ended", workflow=run.id, type=run.type, state=run.state, error=run.error)
