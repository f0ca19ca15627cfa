"""Views of runs: what the API and the command line show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from laneway.platform.db.models import TaskRun, WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import workflows as repository
from laneway.platform.db.queries.workflows import RunFilter
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound, PlatformError
from laneway.platform.history.task_views import display_state
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows import pause
from laneway.platform.workflows.definitions import Definitions
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.transitions import plan_of
from laneway.schemas.task import FINISHED, WAITING, TaskState
from laneway.schemas.workflow import StepKind
from laneway.schemas.workflow_run import (
    BrokenDefinitionView,
    DefinitionsResponse,
    DefinitionView,
    RunState,
    StepState,
    StepView,
    WorkflowPage,
    WorkflowSummaryView,
    WorkflowView,
)

MAX_REASONS: Final = 10
"""Most waiting tasks of one view for which the reason is looked up."""

Figures = Callable[[dict[str, int]], dict[str, Any]]
"""Makes the application's own fields of a view from the metrics of a run."""


def _no_figures(metrics: dict[str, int]) -> dict[str, Any]:
    del metrics
    return {}


class WorkflowViews:
    """Makes views of runs."""

    def __init__(self, database: Database, tasks: TaskManager, *, figures: Figures = _no_figures) -> None:
        """`figures`: makes further fields of a view from the metrics that the steps of the run stored."""
        self._database, self._tasks, self._figures = database, tasks, figures

    def view(self, id: str) -> WorkflowView:
        """Return one run with its steps. Raises NotFound."""
        with self._database.reading() as session:
            settled = repository.settled(session, id)
        if not settled:
            self._tasks.runs([])  # brings the history up to date: the end of a step is stored before that of its task
        with self._database.reading() as session:
            run = repository.find(session, id)
            if run is None:
                raise NotFound("workflow", id)
            rows = repository.steps(session, id)
            metrics = repository.metrics(session, [id]).get(id, {})
            tasks = repository.tasks_of(session, [row.task_id for row in rows if row.task_id])
        plan = plan_of(run)
        reasons = self._waiting_reasons(run, rows, tasks)
        steps = [
            _step_view(plan, row, tasks.get(row.task_id or ""), waiting_for=reasons.get(row.task_id or ""))
            for row in rows
        ]
        reached = {row.step for row in rows}
        steps += [_unreached_step_view(plan, name) for name in plan.steps if name not in reached]
        waiting = [f"{step.step}: {step.waiting_for}" for step in steps if step.waiting_for]
        return WorkflowView(
            **_summary_fields(run),
            **self._figures(metrics),
            input=run.input,
            output=run.output,
            metrics=metrics,
            waiting_for=waiting,
            steps=steps,
        )

    def page(self, which: RunFilter, *, before: int | None = None, limit: int = 50) -> WorkflowPage:
        """Return a page of runs, newest first."""
        with self._database.reading() as session:
            runs = repository.page(session, which, before=before, limit=limit)
            metrics = repository.metrics(session, [run.id for run in runs])
        summaries = [
            WorkflowSummaryView(**_summary_fields(run), **self._figures(metrics.get(run.id, {}))) for run in runs
        ]
        return WorkflowPage(workflows=summaries, next=runs[-1].seq if len(runs) == limit else None)

    def _waiting_reasons(
        self, run: WorkflowRun, rows: Sequence[WorkflowStepRun], tasks: dict[str, TaskRun]
    ) -> dict[str, str]:
        """Return task id → why its step waits."""
        plan, reasons = plan_of(run), dict[str, str]()
        for row in rows:
            task = tasks.get(row.task_id or "")
            if task is None or row.state != StepState.OPEN:
                continue
            step = plan.steps[row.step]
            if run.paused_at is not None and task.state in WAITING:
                reasons[task.id] = pause.reason(run)
            elif step.kind is StepKind.SIGNAL:
                until = f", until {row.due_at:%F %T} UTC" if row.due_at else ""
                reasons[task.id] = f"the signal {step.signal_name!r}{until}"
            elif task.state == TaskState.SCHEDULED and step.has_children and task.error:
                reasons[task.id] = task.error.removeprefix("it waits for ")
            elif task.state in WAITING and len(reasons) < MAX_REASONS:
                with suppress(PlatformError):
                    reasons[task.id] = self._tasks.status(task.id).waiting_for or ""
            elif task.state in FINISHED:
                reasons[task.id] = f"its task, which is {task.state}, to be settled"
        return {id: reason for id, reason in reasons.items() if reason}


def definition_view(definitions: Definitions, plan: Plan) -> DefinitionView:
    """Return one definition, with the JSON schema of its input."""
    definition, model = plan.definition, definitions.input_type(plan)
    return DefinitionView(
        workflow_type=definition.name,
        version=definition.version,
        description=definition.description,
        input=model.model_json_schema(mode="validation") if model else None,
        signals=sorted(plan.signals),
        steps=[step.model_dump(mode="json", by_alias=True, exclude_defaults=True) for step in definition.steps],
    )


def definitions_view(known: Definitions) -> DefinitionsResponse:
    """Return the definitions that can be started, and those that are broken."""
    return DefinitionsResponse(
        definitions=[definition_view(known, plan) for plan in known.plans],
        broken=[
            BrokenDefinitionView(workflow_type=each.name, file=each.file, problems=list(each.problems))
            for each in known.broken
        ],
    )


def _summary_fields(run: WorkflowRun) -> dict[str, Any]:
    end = run.finished_at
    return {
        "workflow_id": run.id,
        "workflow_type": run.type,
        "version": run.version,
        "state": RunState(run.state),
        "agent_id": run.agent_id,
        "retry_of": run.retry_of,
        "parent_id": run.parent_id,
        "parent_step": run.parent_step,
        "error": run.error,
        "accepted_at": run.accepted_at,
        "started_at": run.started_at,
        "finished_at": end,
        "paused_at": run.paused_at,
        "paused_by": run.paused_by,
        "duration_seconds": (end - run.accepted_at).total_seconds() if end else None,
    }


def _step_view(plan: Plan, row: WorkflowStepRun, task: TaskRun | None, *, waiting_for: str | None) -> StepView:
    state = display_state(task).value if task is not None and row.state == StepState.OPEN else row.state
    return StepView(
        step=row.step,
        kind=plan.steps[row.step].kind,
        visit=row.visit,
        state=state,
        superseded=row.superseded_by is not None,
        task_id=row.task_id,
        attempts=task.attempts_before + task.attempts if task else None,
        output=row.output,
        error=row.error,
        error_type=row.error_type,
        waiting_for=waiting_for,
        created_at=row.created_at,
        started_at=row.started_at or (task.started_at if task else None),
        finished_at=row.finished_at,
        due_at=row.due_at,
    )


def _unreached_step_view(plan: Plan, name: str) -> StepView:
    return StepView(
        step=name,
        kind=plan.steps[name].kind,
        visit=0,
        state="to_come",
        superseded=False,
        task_id=None,
        attempts=None,
        output=None,
        error=None,
        error_type=None,
        waiting_for=None,
        created_at=None,
        started_at=None,
        finished_at=None,
        due_at=None,
    )
