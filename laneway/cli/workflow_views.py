"""Tables about workflows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from laneway.cli.tables import Cell, Fields, Grid, ident, number, text, when

if TYPE_CHECKING:
    from laneway.schemas.workflow_run import DefinitionView, StepView, WorkflowSummaryView, WorkflowView

COLOURS: Final = {
    "completed": "green",
    "ok": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "processing": "cyan",
    "paused": "yellow",
    "skipped": "dim",
    "to_come": "dim",
}


def definition_table(definitions: Sequence[DefinitionView]) -> Grid:
    """Workflow types, one per line."""
    table = Grid(ident("type"), number("version"), text("steps"), text("description"))
    for view in definitions:
        table.add(
            view.workflow_type, view.version, ", ".join(str(step["name"]) for step in view.steps), view.description
        )
    return table


def run_table(runs: Sequence[WorkflowSummaryView]) -> Grid:
    """Workflows, one per line."""
    table = Grid(ident("workflow id"), text("type"), "state", "accepted", number("seconds"), text("error"))
    for run in runs:
        table.add(
            run.workflow_id,
            run.workflow_type,
            _state("paused" if run.paused_at is not None else run.state.value),
            when(run.accepted_at),
            _seconds(run.duration_seconds),
            run.error,
        )
    return table


def run_details(run: WorkflowView) -> RenderableType:
    """One workflow: its fields, then its steps."""
    head = Fields()
    head.add("workflow", run.workflow_id)
    head.add("type", f"{run.workflow_type}, version {run.version}")
    head.add("state", _state(run.state.value))
    head.add("accepted", when(run.accepted_at))
    if run.paused_at is not None:
        head.add("paused", when(run.paused_at))
        head.add("paused by", run.paused_by)
    for name, value in (
        ("agent", run.agent_id),
        ("error", run.error),
        ("retry of", run.retry_of),
        ("parent", run.parent_id),
    ):
        if value:
            head.add(name, value)
    for name, value in (run.model_extra or {}).items():
        if value is not None:
            head.add(name.replace("_", " "), _extra_field(value))
    for waiting in run.waiting_for:
        head.add("waits for", waiting)
    steps = Grid(
        ident("step"), number("visit"), "state", number("attempts"), number("seconds"), text("output or error")
    )
    for step in run.steps:
        steps.add(
            step.step,
            step.visit or "",
            _state(step.state),
            step.attempts or "",
            _duration(step),
            step.error or (json.dumps(step.output, ensure_ascii=False) if step.output else ""),
        )
    return Lines(head, Text(), steps)


def _extra_field(value: object) -> str:
    """A field that the application adds to its workflows."""
    data: object = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    if not isinstance(data, dict):
        return str(data)
    items = cast("dict[str, Any]", data).items()
    return ", ".join(f"{name} {item:.2f}" if isinstance(item, float) else f"{name} {item}" for name, item in items)


def _duration(step: StepView) -> str:
    if not (step.started_at and step.finished_at):
        return ""
    return _seconds((step.finished_at - step.started_at).total_seconds())


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _state(name: str) -> Cell:
    return Cell(name, COLOURS.get(name, ""))
