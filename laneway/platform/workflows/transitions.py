"""Writes down what was decided: rows and submissions, in the transaction in which the run is locked.

Each function here is called with the run's row locked, so that of two steps that end at the same moment the second one
sees what the first one did: no join is missed, and nothing is started twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, cast

from sqlalchemy.orm import Session

from laneway.platform.db.models import WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.errors import Conflict
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.schemas.workflow import StepDefinition, StepKind, WorkflowDefinition
from laneway.platform.schemas.workflow_run import RunState, StepState, WorkflowStepRef
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.outbox import SubmissionTransaction
from laneway.platform.workflows.errors import OutputTooLarge
from laneway.platform.workflows.handlers import StepResult
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.state_machine import AS_STATE, Change, Decision, Event, Mark, decide

log = logger(__name__)

STEP_ROLE: Final = "workflow steps"
OUTPUT_LIMIT: Final = 250_000
"""Characters of JSON that one step may give back."""
MOST_NESTED: Final = 100
"""Objects and lists within each other: more could be stored, and not be shown (Pydantic's limit is 255)."""
ERROR_LIMIT: Final = 4_000
REASON: Final = "Found"
"""The `error_type` of a step that failed by value."""


def plan_of(run: WorkflowRun) -> Plan:
    """The plan of a run, from the definition that it was accepted with."""
    return _plan(json.dumps(run.definition, sort_keys=True))


@lru_cache(maxsize=64)
def _plan(definition: str) -> Plan:
    return Plan(WorkflowDefinition.model_validate_json(definition))


def latest_of(rows: Sequence[WorkflowStepRun]) -> dict[str, WorkflowStepRun]:
    """Step → its latest visit."""
    return {row.step: row for row in sorted(rows, key=lambda row: row.visit)}


def begin_run(unit: SubmissionTransaction, run: WorkflowRun, plan: Plan, *, now: datetime) -> None:
    """Start the first steps."""
    _write(unit, run, plan, {}, Event(Change.STARTED), decide(plan, {}, Event(Change.STARTED)), now=now)


def settle(
    unit: SubmissionTransaction,
    run: WorkflowRun,
    row: WorkflowStepRun,
    result: StepResult,
    *,
    now: datetime,
    started_at: datetime | None = None,
    error_type: str = REASON,
) -> bool:
    """Keep what came of a visit, and start what follows; False when it was settled before, and nothing changed.

    In a run that was cancelled what a step did all the same is kept, and nothing follows.
    """
    plan, event = plan_of(run), Event(Change.SETTLED, row.step, row.visit, result.outcome)
    if run.state == RunState.CANCELLED:
        if row.state != StepState.CANCELLED:
            return False
        _close(unit.session, row, result, now=now, started_at=started_at, error_type=error_type)
        return True
    rows = repository.steps(unit.session, run.id)
    decision = _decided(plan, rows, event)
    if decision.heard:
        _close(unit.session, row, result, now=now, started_at=started_at, error_type=error_type)
        _write(unit, run, plan, latest_of(rows), event, decision, now=now)
    return decision.heard


def revive(unit: SubmissionTransaction, run: WorkflowRun, row: WorkflowStepRun, *, now: datetime) -> bool:
    """Go on with a visit that had failed or was cancelled; False when it is none that the run waits for."""
    plan, event = plan_of(run), Event(Change.REVIVED, row.step, row.visit)
    rows = repository.steps(unit.session, run.id)
    decision = _decided(plan, rows, event)
    if decision.heard:
        row.state, row.error, row.error_type, row.output, row.finished_at = StepState.OPEN, None, None, None, None
        row.due_at = _due(plan.steps[row.step], now) if row.due_at else None
        _reopen(run)
        _write(unit, run, plan, latest_of(rows), event, decision, now=now)
    return decision.heard


def resume(unit: SubmissionTransaction, run: WorkflowRun, *, now: datetime) -> None:
    """Go on with a cancelled run whose last steps ended well all the same: start what follows, or end it."""
    plan, event, rows = plan_of(run), Event(Change.STARTED), repository.steps(unit.session, run.id)
    _reopen(run)
    _write(unit, run, plan, latest_of(rows), event, _decided(plan, rows, event), now=now)


def json_text(data: dict[str, Any]) -> str:
    """As strict JSON that any database and any answer takes. Raises TypeError, ValueError: NaN, half a character."""
    level: list[Any] = [data]
    for _ in range(MOST_NESTED):
        level = [part for whole in level for part in _parts(whole)]
    if level:
        raise ValueError(f"it is nested more than {MOST_NESTED} times")
    text = json.dumps(data, sort_keys=True, allow_nan=False, ensure_ascii=False)
    text.encode()
    return text


def _parts(whole: Any) -> Iterable[Any]:
    if isinstance(whole, dict):
        return cast("dict[Any, Any]", whole).values()
    return cast("Sequence[Any]", whole) if isinstance(whole, list | tuple) else ()


def check_output(step: str, result: StepResult) -> None:
    """Raise OutputTooLarge, or TypeError and ValueError for what is no JSON."""
    size = len(json_text(result.output))
    if size > OUTPUT_LIMIT:
        raise OutputTooLarge(step, size, OUTPUT_LIMIT)


def _decided(plan: Plan, rows: Sequence[WorkflowStepRun], event: Event) -> Decision:
    marks = {
        name: Mark(row.visit, StepState(row.state), row.superseded_by is not None)
        for name, row in latest_of(rows).items()
    }
    jumps = sum(row.step == row.superseded_by == event.step for row in rows)
    return decide(plan, marks, event, jumps=jumps)


def _reopen(run: WorkflowRun) -> None:
    run.state, run.error, run.output, run.finished_at = RunState.RUNNING, None, None, None


def _write(
    unit: SubmissionTransaction,
    run: WorkflowRun,
    plan: Plan,
    latest: Mapping[str, WorkflowStepRun],
    event: Event,
    decision: Decision,
    *,
    now: datetime,
) -> None:
    loop = plan.aside_of.get(event.step)
    for name in decision.supersede:
        latest[name].superseded_by = loop.origin if loop else event.step
    for name in decision.restore:
        latest[name].superseded_by = None
    for name, visit in decision.skip:
        unit.session.add(
            WorkflowStepRun(
                run_id=run.id,
                step=name,
                visit=visit,
                state=StepState.SKIPPED,
                retries_seen=0,
                created_at=now,
                finished_at=now,
            )
        )
    for name, visit in decision.start:
        _start(unit, run, plan.steps[name], visit, now=now)
    if decision.outcome is not None:
        unit.session.flush()
        _finish(unit.session, run, plan, decision, now=now)


def _start(unit: SubmissionTransaction, run: WorkflowRun, step: StepDefinition, visit: int, *, now: datetime) -> None:
    ref = WorkflowStepRef(run_id=run.id, step=step.name, visit=visit)
    unit.session.add(
        WorkflowStepRun(
            run_id=run.id,
            step=step.name,
            visit=visit,
            state=StepState.OPEN,
            task_id=ref.task_id,
            retries_seen=0,
            created_at=now,
            due_at=_due(step, now),
        )
    )
    submit_step(unit, ref, step, due=_due(step, now), now=now)


def submit_step(
    unit: SubmissionTransaction, ref: WorkflowStepRef, step: StepDefinition, *, due: datetime | None, now: datetime
) -> None:
    """Submit the task of a visit, as its step says. Raises Conflict when one of its id is there: it would not run."""
    kept = step.kind is StepKind.SIGNAL and repository.next_signal(unit.session, ref.run_id, step.signal_name)
    delay = 0 if due is None or kept else max(0, (due - now).total_seconds())
    limit = step.timeout if step.kind is StepKind.TASK else None
    options = SubmitOptions(
        id=ref.task_id, queue=step.queue, delay=delay, max_retries=step.max_retries, time_limit=limit
    )
    if not unit.submit(registry.by_role(STEP_ROLE), ref, options=options).created:
        raise Conflict(f"A task {ref.task_id!r} is kept that is not of this workflow. Delete it, or choose another id.")


def _due(step: StepDefinition, now: datetime) -> datetime | None:
    seconds = {StepKind.WAIT: step.seconds, StepKind.SIGNAL: step.timeout}.get(step.kind)
    return None if seconds is None else now + timedelta(seconds=seconds)


def _close(
    session: Session,
    row: WorkflowStepRun,
    result: StepResult,
    *,
    now: datetime,
    started_at: datetime | None,
    error_type: str,
) -> None:
    row.state, row.output, row.finished_at = AS_STATE[result.outcome], result.output, now
    row.started_at = started_at or row.started_at
    if row.state == StepState.FAILED:  # what was ok is never gone on with
        row.retries_seen = repository.times_sent_by_hand(session, row.task_id or "")
        row.error_type, row.error = error_type, (result.reason or "no reason was given")[:ERROR_LIMIT]


def _finish(session: Session, run: WorkflowRun, plan: Plan, decision: Decision, *, now: datetime) -> None:
    rows = latest_of(repository.steps(session, run.id))
    last = [name for name in plan.order if not plan.successors[name]]
    run.output = {name: rows[name].output for name in last if rows[name].state == StepState.OK}
    run.state, run.finished_at = str(decision.outcome), now
    run.error = "; ".join(f"{name}: {rows[name].error}" for name in decision.failed)[:ERROR_LIMIT] or None
    figures = {
        "duration_ms": round((now - run.accepted_at).total_seconds() * 1000),
        "completed": int(decision.outcome is RunState.COMPLETED),
    }
    repository.set_metrics(session, run.id, figures, at=now)
    log.info("workflow ended", workflow=run.id, type=run.type, state=run.state, error=run.error)


def told(row: WorkflowStepRun) -> dict[str, Any]:
    """What the task of a visit gives back."""
    return {"workflow_id": row.run_id, "step": row.step, "visit": row.visit, "state": row.state, "error": row.error}
