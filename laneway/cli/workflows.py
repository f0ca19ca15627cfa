"""`laneway workflows`: start, list, show, signal, pause, resume, cancel and retry workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway.cli.base import Json, out, parse_object, print_json, print_models, source
from laneway.cli.completion import complete
from laneway.cli.missing import say_missing
from laneway.schemas.choices import RunState

if TYPE_CHECKING:
    from laneway.schemas.workflow_run import WorkflowHandle

commands = typer.Typer(
    name="workflows",
    no_args_is_help=True,
    add_completion=False,
    help="Workflows: start, show, signal, pause, cancel and retry them.",
)

RunId = Annotated[str, typer.Argument(help="The workflow's id.", autocompletion=complete("workflows"))]


@commands.command("list")
def listing(
    state: Annotated[list[RunState] | None, typer.Option(help="Only workflows in this state; repeatable.")] = None,
    type: Annotated[str | None, typer.Option(help="Only workflows of this type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most workflows to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the workflows, newest first."""
    found = source(as_json=as_json).workflows(tuple(state or ()), type=type, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli import workflow_views

    return out.print(workflow_views.run_table(found) if found else "None.")


@commands.command()
def definitions(as_json: Json = False) -> None:
    """List the workflow types that can be started, with their steps, and name the files that are not valid.

    Exit code 1: a file is not valid.
    """
    known = source(as_json=as_json).definitions()
    for broken in known.broken:
        problem = f"{broken.file} is not valid: {'; '.join(broken.problems)}"
        say_missing(f"{problem}. The workflow {broken.workflow_type!r} cannot be started until the file is corrected.")
    if as_json:
        return print_models(known.definitions)
    from laneway.cli import workflow_views

    return out.print(workflow_views.definition_table(known.definitions))


@commands.command()
def show(id: RunId, as_json: Json = False) -> None:
    """Show one workflow: its steps with their states and outputs, its results, and why it waits."""
    found = source(as_json=as_json).workflow(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli import workflow_views

    return out.print(workflow_views.run_details(found))


@commands.command()
def start(
    type: Annotated[
        str,
        typer.Argument(
            help="The type of workflow, see `laneway workflows definitions`.",
            autocompletion=complete("workflow types"),
        ),
    ],
    input_json: Annotated[str, typer.Option("--input", help="The input, a JSON object.")] = "{}",
    id: Annotated[
        str | None, typer.Option(help="The workflow's id. A second start with the same id starts nothing.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a workflow."""
    given = parse_object(input_json, option="--input")
    accepted = source(as_json=as_json).start_workflow(type, given, id=id)
    _print_accepted(accepted, "Accepted" if accepted.created else "Already accepted", as_json=as_json)


@commands.command()
def cancel(id: RunId, as_json: Json = False) -> None:
    """Cancel a workflow. Waiting steps never start; running steps are asked to stop."""
    response = source(as_json=as_json).cancel_workflow(id)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Cancelled." + (f" Asked to stop: {', '.join(response.stopping)}" if response.stopping else ""))
    return None


@commands.command()
def pause(id: RunId, as_json: Json = False) -> None:
    """Pause a workflow: running steps end, and no further step starts. Timers do not fire."""
    response = source(as_json=as_json).pause_workflow(id)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Paused." if response.changed else f"It was paused before, by {response.paused_by}.")
    return None


@commands.command()
def resume(id: RunId, as_json: Json = False) -> None:
    """Let a paused workflow go on. Timers that ended meanwhile fire now."""
    response = source(as_json=as_json).resume_workflow(id)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Resumed." if response.changed else "It is not paused.")
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
    accepted = source(as_json=as_json).retry_workflow(id, from_start=from_start, newest=newest)
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
    given = parse_object(data, option="--data")
    response = source(as_json=as_json).signal_workflow(id, name, data=given, key=key)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Delivered: the step continues." if response.delivered else "Kept until the step waits for it.")
    return None


def _print_accepted(accepted: WorkflowHandle, action: str, *, as_json: bool) -> None:
    if as_json:
        return print_json(accepted.model_dump(mode="json"))
    out.print(f"{action}: {accepted.workflow_id} (task {accepted.task_id}, {accepted.status.value})")
    return None
