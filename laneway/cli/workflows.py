"""`laneway workflows`: start workflows, follow, signal, stop and repeat them."""

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
from laneway.cli.base import Json, make_services, out, print_json
from laneway.platform.db.queries.workflows import RunFilter
from laneway.platform.schemas.workflow_run import RunState, StepView, WorkflowHandle, WorkflowSummaryView, WorkflowView
from laneway.platform.workflows.runs import StartOptions
from laneway.platform.workflows.views import definition_view

workflows = typer.Typer(no_args_is_help=True, help="Workflows: start them, follow them, stop them, go on with them.")

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


@workflows.command("list")
def listing(
    state: Annotated[list[RunState] | None, typer.Option(help="May be given several times.")] = None,
    type: Annotated[str | None, typer.Option(help="Of this definition.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Workflows, newest first."""
    page = make_services().workflow_views.page(RunFilter(tuple(state or ()), type), limit=limit)
    if as_json:
        return print_json([run.model_dump(mode="json") for run in page.workflows])
    out.print(run_table(page.workflows) if page.workflows else "None.")
    return None


@workflows.command()
def definitions(as_json: Json = False) -> None:
    """What can be started."""
    known = make_services().workflows.definitions
    found = [definition_view(known, plan) for plan in known.plans]
    if as_json:
        return print_json([view.model_dump(mode="json") for view in found])
    table = Table("type", "version", "steps", "description", box=None, header_style="bold")
    for view in found:
        steps = ", ".join(str(step["name"]) for step in view.steps)
        table.add_row(view.workflow_type, str(view.version), steps, view.description)
    out.print(table)
    return None


@workflows.command()
def show(id: RunId, as_json: Json = False) -> None:
    """One workflow: its steps with their states and outputs, what it saves, and why it waits."""
    found = make_services().workflow_views.view(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    out.print(run_details(found))
    return None


@workflows.command()
def start(
    type: Annotated[str, typer.Argument(help="Of this definition, see `laneway workflows definitions`.")],
    given: Annotated[str, typer.Option("--input", help="Its input, a JSON object.")] = "{}",
    id: Annotated[str | None, typer.Option(help="Its id; the same one again is the same workflow.")] = None,
    as_json: Json = False,
) -> None:
    """Start a workflow."""
    accepted = make_services().workflows.start(type, _object(given, "--input"), options=StartOptions(id=id))
    _tell(accepted, "Accepted" if accepted.created else "Accepted before", as_json=as_json)


@workflows.command()
def cancel(id: RunId, as_json: Json = False) -> None:
    """Stop a workflow: steps that wait never start, running ones are asked to stop."""
    answer = make_services().workflows.cancel(id)
    if as_json:
        return print_json(answer.model_dump(mode="json"))
    out.print("Cancelled." + (f" Asked to stop: {', '.join(answer.stopping)}" if answer.stopping else ""))
    return None


@workflows.command()
def retry(
    id: RunId,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="A new workflow like it, from the beginning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go on with a workflow from the steps that failed or were cancelled; what is done stays done."""
    services = make_services()
    accepted = services.workflows.restart(id) if from_start else services.workflows.retry(id)
    _tell(accepted, "Started anew" if from_start else "Goes on", as_json=as_json)


@workflows.command()
def signal(
    id: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    data: Annotated[str, typer.Option(help="What the step is given, a JSON object.")] = "{}",
    key: Annotated[str, typer.Option("--id", help="For further signals of the same name.")] = "",
    as_json: Json = False,
) -> None:
    """Send a signal to a workflow; one that comes before its step waits for it is kept."""
    answer = make_services().workflows.signal(id, name, data=_object(data, "--data"), key=key)
    if as_json:
        return print_json(answer.model_dump(mode="json"))
    out.print("The step goes on." if answer.delivered else "Kept until its step waits for it.")
    return None


def run_table(runs: list[WorkflowSummaryView]) -> Table:
    """Runs, one a line."""
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
            views.moment(run.accepted_at),
            _seconds(run.duration_seconds),
            (run.error or "")[:60],
        )
    return table


def run_details(run: WorkflowView) -> RenderableType:
    """One run: its head, then its steps."""
    head = Table.grid(padding=(0, 2))
    head.add_row("workflow", run.workflow_id)
    head.add_row("type", f"{run.workflow_type}, version {run.version}")
    head.add_row("state", _state(run.state.value))
    for name, value in (("agent", run.agent_id), ("error", run.error), ("retry of", run.retry_of)):
        if value:
            head.add_row(name, value)
    for name, value in (run.model_extra or {}).items():
        if value is not None:
            head.add_row(name.replace("_", " "), _figure(value))
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
            _took(step),
            (step.error or (json.dumps(step.output) if step.output else ""))[:100],
        )
    return Lines(head, Text(), steps)


def _figure(value: object) -> str:
    """One of the application's own figures, for a person."""
    data: object = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    if not isinstance(data, dict):
        return str(data)
    parts = cast("dict[str, Any]", data).items()
    return ", ".join(f"{name} {part:.2f}" if isinstance(part, float) else f"{name} {part}" for name, part in parts)


def _took(step: StepView) -> str:
    if not (step.started_at and step.finished_at):
        return ""
    return _seconds((step.finished_at - step.started_at).total_seconds())


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _state(name: str) -> Text:
    return Text(name, style=COLOURS.get(name, ""))


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} must be a JSON object")
    return cast("dict[str, Any]", value)


def _tell(accepted: WorkflowHandle, what: str, *, as_json: bool) -> None:
    if as_json:
        return print_json(accepted.model_dump(mode="json"))
    out.print(f"{what}: {accepted.workflow_id} (task {accepted.task_id}, {accepted.status.value})")
    return None
