"""Tries the runs of workflows that are not over: each goes on with the definition with which it was accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from laneway.platform.db.models import WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import unfinished
from laneway.platform.db.session import Database
from laneway.platform.gate.findings import GateReport, Kind, Problem
from laneway.platform.workflows.definitions import Definitions, step_problems
from laneway.platform.workflows.errors import BrokenWorkflowType, InvalidDefinition, UnknownWorkflowType
from laneway.platform.workflows.handlers import Handler
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.redefinition import ENDED
from laneway.platform.workflows.transitions import latest_visits, plan_of

STATE = "running"


class WorkflowRuns:
    """Tries the runs, and says which definitions differ from those of this code."""

    def __init__(self, database: Database, definitions: Definitions, handlers: Mapping[str, Handler]) -> None:
        self._database, self._definitions, self._handlers = database, definitions, handlers
        self._changed = Counter[str]()
        """Note → how many runs it is about."""

    def try_all(self, report: GateReport) -> None:
        """Try every run that is not over, and the definitions of this code. Raises DatabaseUnavailable."""
        for broken in self._definitions.broken:
            problem = f"No run can be started: {broken}."
            report.add(Problem(Kind.WORKFLOW, broken.name, problem), id=broken.file, state="definition")
        for page in unfinished.open_runs(self._database):
            for run, rows in page:
                report.count("workflow runs")
                for text in dict.fromkeys(self._problems(run, rows)):
                    report.add(Problem(Kind.WORKFLOW, run.type, text), id=run.id, state=STATE)
        for note, number in self._changed.items():
            report.notes.append(f"{number} {'run' if number == 1 else 'runs'} {note}")

    def _problems(self, run: WorkflowRun, rows: Sequence[WorkflowStepRun]) -> Iterator[str]:
        try:
            plan = plan_of(run)
        except (ValidationError, InvalidDefinition):
            yield f"The definition with which the run was started (version {run.version}) cannot be read by this code."
            return
        self._note_change(run, plan)
        for name in sorted(_steps_to_run(plan, rows)):
            for problem in step_problems(plan.steps[name], self._handlers):
                yield f"{problem}."

    def _note_change(self, run: WorkflowRun, plan: Plan) -> None:
        of = f"of the workflow {run.type!r} (version {run.version})"
        try:
            now = self._definitions.plan(run.type).definition
        except UnknownWorkflowType:
            self._changed[f"{of}: this code has no such workflow; they go on with their own definition."] += 1
        except BrokenWorkflowType:
            return
        else:
            if now != plan.definition:
                note = f"{of}: this code has another definition (version {now.version}); they go on with their own."
                self._changed[note] += 1


def _steps_to_run(plan: Plan, rows: Sequence[WorkflowStepRun]) -> set[str]:
    """The steps that may still run: those that are not done, and those that a loop may run again."""
    done = {name for name, row in latest_visits(rows).items() if row.superseded_by is None and row.state in ENDED}
    again = {step for loop in plan.loops.values() if loop.origin not in done for step in (*loop.body, *loop.detour)}
    return (set(plan.steps) - done) | again
