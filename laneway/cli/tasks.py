"""Commands about tasks: `laneway tasks list|show|…`, and the short forms of those that are used most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from laneway.cli.base import Id, Json, out, print_json, print_models, source
from laneway.cli.completion import complete
from laneway.cli.source import TaskFilter
from laneway.cli.times import moment_option
from laneway.schemas.choices import TaskState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from laneway.cli.source import Source
    from laneway.schemas.task import EventView, TaskStatus

commands = typer.Typer()
tasks = typer.Typer(
    name="tasks",
    no_args_is_help=True,
    add_completion=False,
    help="Tasks: list, show and follow them; cancel, retry, replay and reprioritise one or many.",
)


@tasks.command("list")
@commands.command()
def search(
    state: Annotated[list[TaskState] | None, typer.Option(help="Only tasks in this state; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="Only tasks of this name.", autocompletion=complete("names"))] = None,
    queue: Annotated[
        str | None, typer.Option(help="Only tasks of this queue.", autocompletion=complete("queues"))
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Only tasks with this ordering key, for example conversation_id:c-1.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only tasks with this tag.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only tasks of this batch.")] = None,
    error: Annotated[str | None, typer.Option(help="Only tasks whose error contains this text.")] = None,
    since: Annotated[
        Any, moment_option("Only tasks accepted at this time or later: 2h (ago), 2026-01-31T09:30.")
    ] = None,
    until: Annotated[Any, moment_option("Only tasks accepted before this time: 2h (ago), 2026-01-31T09:30.")] = None,
    ended_since: Annotated[Any, moment_option("Only tasks that ended at this time or later.")] = None,
    ended_until: Annotated[Any, moment_option("Only tasks that ended before this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most tasks to show.")] = 50,
    as_json: Json = False,
) -> None:
    """Find tasks, newest first."""
    selected = TaskFilter(
        states=tuple(state or ()),
        name=name,
        queue=queue,
        key=key,
        tag=tag,
        batch=batch,
        error=error,
        since=since,
        until=until,
        ended_since=ended_since,
        ended_until=ended_until,
    )
    _print_tasks(source(as_json=as_json, reads=True).search(selected, limit=limit), as_json=as_json)


@commands.command()
def active(as_json: Json = False) -> None:
    """List the tasks that run now."""
    running = TaskFilter(states=(TaskState.PROCESSING,))
    _print_tasks(source(as_json=as_json, reads=True).search(running, limit=100), as_json=as_json)


def _print_tasks(found: list[TaskStatus], *, as_json: bool) -> None:
    if as_json:
        return print_models(found)
    from laneway.cli import views

    return out.print(views.task_table(found) if found else "None.")


@commands.command()
def status(id: Id, as_json: Json = False) -> None:
    """Show one task: its state, progress, result or error, and why it waits."""
    task = source(as_json=as_json, reads=True).show(id)
    if as_json:
        return print_json(task.model_dump(mode="json"))
    from laneway.cli import views

    return out.print(views.task_details(task))


@tasks.command()
def show(id: Id, as_json: Json = False) -> None:
    """Show one task with its payload, attempts and events. Values under names of secrets are hidden."""
    platform = source(as_json=as_json, reads=True)
    task, attempts, events = platform.show(id), platform.attempts(id), list(platform.events(id))
    events = events if as_json else [event for event in events if event.kind != "output"]
    if as_json:
        whole = {"attempts_made": attempts, "events": events}
        lists = {name: [each.model_dump(mode="json") for each in found] for name, found in whole.items()}
        return print_json({**task.model_dump(mode="json"), **lists})
    from laneway.cli import views

    return out.print(views.task_page(task, attempts, events))


@tasks.command()
@commands.command()
def attempts(id: Id, as_json: Json = False) -> None:
    """Show each attempt of a task: worker, times and outcome, then its error with the traceback."""
    found = source(as_json=as_json, reads=True).attempts(id)
    if as_json:
        return print_models(found)
    from laneway.cli import views

    out.print(views.attempt_table(found) if found else "The task has not started yet.")
    return out.print(views.attempt_errors(found)) if any(attempt.error for attempt in found) else None


@tasks.command("follow")
@commands.command()
def watch(id: Id, as_json: Json = False) -> None:
    """Follow a task until it ends: its progress, its log lines and its outcome.

    Exit code 0: the task completed; 1: it ended otherwise.
    """
    follow(source(as_json=as_json), id, as_json=as_json)


def follow(platform: Source, id: str, *, as_json: bool) -> NoReturn:
    """Show a task's events until it ends. Raises Exit with the code of `watch`."""
    events = platform.follow(id)
    with progress_bar(out, disabled=as_json) as bar:
        row = bar.add_task("waiting", total=100)
        for event in events:
            if as_json:
                typer.echo(json.dumps(event.model_dump(mode="json")))  # one event a line: a stream
            else:
                _show_event(bar, row, event)
    task = platform.show(id)
    if not as_json:
        from laneway.cli import views

        out.print(views.task_details(task))
    raise typer.Exit(0 if task.status is TaskState.COMPLETED else 1)


@commands.command()
def cancel(id: Id, as_json: Json = False) -> None:
    """Cancel a task. A waiting task never runs; a running task is asked to stop.

    A running task that does not stop in time is interrupted, see TASK_CANCEL_GRACE_SECONDS.
    """
    response = source(as_json=as_json).cancel(id)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Cancelled: the task will not run." if response.cancelled else "The task runs and was asked to stop.")
    return None


@commands.command()
def retry(id: Id, as_json: Json = False) -> None:
    """Run a finished task again, as a new attempt of the same task."""
    handle = source(as_json=as_json).retry(id)
    if as_json:
        return print_json(handle.model_dump(mode="json"))
    is_sent = handle.state is not TaskState.ACCEPTED
    out.print(f"Queued again: {id}" if is_sent else f"Accepted again: {id}. It is sent when the broker is back.")
    return None


def progress_bar(console: Console, *, disabled: bool = False) -> Progress:
    """A progress bar that prints a task's messages unchanged, because they are not markup."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    message = TextColumn("{task.description}", markup=False)
    columns = (TextColumn("{task.percentage:>3.0f} %"), BarColumn(), message, TimeElapsedColumn())
    return Progress(*columns, console=console, disable=disabled)


def _show_event(bar: Progress, row: Any, event: EventView) -> None:
    from laneway._printable import one_line
    from laneway.cli import views

    data, at = event.data, event.at.astimezone()
    if event.kind == "output":  # `laneway output` prints it
        return
    if event.kind == "progress":
        bar.update(row, completed=data.get("percent", 0), description=one_line(data.get("message") or ""))
        return
    bar.update(row, description=views.headline(event))
    if event.kind == "log":
        bar.console.print(f"{at:%H:%M:%S} {data.get('level', '')}: {data.get('text', '')}")
    elif event.kind == "end":
        if data.get("state") == TaskState.COMPLETED:
            bar.update(row, completed=100)
        outcome = f"{data.get('outcome')} {data.get('error') or ''}"
        bar.console.print(f"{at:%H:%M:%S} attempt {event.attempt}: {outcome}")
