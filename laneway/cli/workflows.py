"""`laneway workflows`: start, list, show, signal, cancel and retry workflows."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

import typer
from pydantic import BaseModel
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from laneway.cli import views
from laneway.cli.base import Json, make_services, out, print_json, say_missing
from laneway.schemas.workflow_run import RunState, StepView, WorkflowHandle, WorkflowSummaryView, WorkflowView

commands = typer.Typer(
    name="workflows", no_args_is_help=True, help="Workflows: start, show, signal, cancel and retry them."
)

RunId = Annotated[str, typer.Argument(help="The workflow's id.")]
COLOURS = {
    "completed": "green",
    "ok": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "processing": "cyan",
    "skipped": "dim",
    "to_come": "dim",
}


@commands.command("list")
def listing(
    state: Annotated[list[RunState] | None, typer.Option(help="Only workflows in this state; repeatable.")] = None,
    type: Annotated[str | None, typer.Option(help="Only workflows of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most workflows to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the workflows, newest first."""
    from laneway.platform.db.queries.workflows import RunFilter

    page = make_services().workflow_views.page(RunFilter(tuple(state or ()), type), limit=limit)
    if as_json:
        return print_json([run.model_dump(mode="json") for run in page.workflows])
    out.print(run_table(page.workflows) if page.workflows else "None.")
    return None


@commands.command()
def definitions(as_json: Json = False) -> None:
    """List the workflow types that can be started, with their steps, and name the files that are not valid.

    Exit code 1: a file is not valid.
    """
    from laneway.platform.workflows.views import definition_view

    known = make_services().workflow_definitions
    for broken in known.broken:
        say_missing(f"{broken}. The workflow {broken.name!r} cannot be started until the file is corrected.")
    found = [definition_view(known, plan) for plan in known.plans]
    if as_json:
        return print_json([view.model_dump(mode="json") for view in found])
    table = Table("type", "version", "steps", "description", box=None, header_style="bold")
    for view in found:
        steps = ", ".join(str(step["name"]) for step in view.steps)
        table.add_row(view.workflow_type, str(view.version), steps, view.description)
    out.print(table)
    return None


@commands.command()
def show(id: RunId, as_json: Json = False) -> None:
    """Show one workflow: its steps with their states and outputs, its results, and why it waits."""
    found = make_services().workflow_views.view(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    out.print(run_details(found))
    return None


@commands.command()
def start(
    type: Annotated[str, typer.Argument(help="The type of workflow, see `laneway workflows definitions`.")],
    input_json: Annotated[str, typer.Option("--input", help="The input, a JSON object.")] = "{}",
    id: Annotated[
        str | None, typer.Option(help="The workflow's id. A second start with the same id starts nothing.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a workflow."""
    from laneway.platform.workflows.runs import StartOptions

    accepted = make_services().workflows.start(
        type, _parse_object(input_json, option="--input"), options=StartOptions(id=id)
    )
    _print_accepted(accepted, "Accepted" if accepted.created else "Already accepted", as_json=as_json)


@commands.command()
def cancel(id: RunId, as_json: Json = False) -> None:
    """Cancel a workflow. Waiting steps never start; running steps are asked to stop."""
    response = make_services().workflows.cancel(id)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Cancelled." + (f" Asked to stop: {', '.join(response.stopping)}" if response.stopping else ""))
    return None


@commands.command()
def retry(
    id: RunId,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Start a new workflow with the same input instead.")
    ] = False,
    newest: Annotated[
        bool, typer.Option("--newest", help="Use the newest definition, not the one that it was started with.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Continue a workflow with the steps that failed or were cancelled. Completed steps do not run again."""
    workflows = make_services().workflows
    accepted = workflows.restart(id, newest=newest) if from_start else workflows.retry(id, newest=newest)
    _print_accepted(accepted, "Started again" if from_start else "Continued", as_json=as_json)


@commands.command()
def signal(
    id: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    data: Annotated[str, typer.Option(help="The data for the step, a JSON object.")] = "{}",
    key: Annotated[str, typer.Option("--id", help="Distinguishes several signals of the same name.")] = "",
    as_json: Json = False,
) -> None:
    """Send a signal to a workflow. It is kept until the step waits for it."""
    response = make_services().workflows.signal(id, name, data=_parse_object(data, option="--data"), key=key)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Delivered: the step continues." if response.delivered else "Kept until the step waits for it.")
    return None


def run_table(runs: list[WorkflowSummaryView]) -> Table:
    """Workflows, one per line."""
    table = Table(
        Column("workflow id", overflow="fold", min_width=36),
        "type",
        "state",
        "accepted",
        Column("seconds", justify="right"),
        "error",
        box=None,
        header_style="bold",
    )
    for run in runs:
        table.add_row(
            run.workflow_id,
            run.workflow_type,
            _state(run.state.value),
            views.timestamp(run.accepted_at),
            _seconds(run.duration_seconds),
            (run.error or "")[:60],
        )
    return table


def run_details(run: WorkflowView) -> RenderableType:
    """One workflow: its fields, then its steps."""
    head = Table.grid(padding=(0, 2))
    head.add_row("workflow", run.workflow_id)
    head.add_row("type", f"{run.workflow_type}, version {run.version}")
    head.add_row("state", _state(run.state.value))
    for name, value in (("agent", run.agent_id), ("error", run.error), ("retry of", run.retry_of)):
        if value:
            head.add_row(name, value)
    for name, value in (run.model_extra or {}).items():
        if value is not None:
            head.add_row(name.replace("_", " "), _extra_field(value))
    for waiting in run.waiting_for:
        head.add_row("waits for", waiting)
    steps = Table(
        "step",
        "visit",
        "state",
        "attempts",
        Column("seconds", justify="right"),
        "output or error",
        box=None,
        header_style="bold",
    )
    for step in run.steps:
        steps.add_row(
            step.step,
            str(step.visit or ""),
            _state(step.state),
            str(step.attempts or ""),
            _duration(step),
            (step.error or (json.dumps(step.output) if step.output else ""))[:100],
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


def _state(name: str) -> Text:
    return Text(name, style=COLOURS.get(name, ""))


def _parse_object(text: str, *, option: str) -> dict[str, Any]:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} must be a JSON object")
    return cast("dict[str, Any]", value)


def _print_accepted(accepted: WorkflowHandle, action: str, *, as_json: bool) -> None:
    if as_json:
        return print_json(accepted.model_dump(mode="json"))
    out.print(f"{action}: {accepted.workflow_id} (task {accepted.task_id}, {accepted.status.value})")
    return None
