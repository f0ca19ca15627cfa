"""Commands about single tasks: search, status, active, attempts, watch, cancel, retry."""

from __future__ import annotations

from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from laneway.cli import views
from laneway.cli.base import Id, Json, make_services, out, print_json, print_tasks
from laneway.platform import clock
from laneway.schemas.task import TaskState

if TYPE_CHECKING:
    from laneway.platform.db.models import TaskEvent
    from laneway.platform.platform import Platform

commands = typer.Typer()

POLL_SECONDS = 2
"""`watch` reads the history at least this often, even without a wake-up."""


@commands.command()
def search(
    state: Annotated[list[TaskState] | None, typer.Option(help="Only tasks in this state; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="Only tasks of this name.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only tasks of this queue.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Only tasks with this ordering key, for example conversation_id:c-1.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only tasks with this tag.")] = None,
    error: Annotated[str | None, typer.Option(help="Only tasks whose error contains this text.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only tasks accepted at this time or later (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only tasks accepted before this time (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most tasks to show.")] = 50,
    as_json: Json = False,
) -> None:
    """Find tasks, newest first."""
    from laneway.platform.db.queries.search import Filter

    selected = Filter(
        states=tuple(state or ()),
        name=name,
        queue=queue,
        key=key,
        tag=tag,
        error=error,
        since=clock.aware(since),
        until=clock.aware(until),
    )
    print_tasks(make_services().tasks.search(selected, limit=limit)[0], as_json=as_json)


@commands.command()
def status(id: Id, as_json: Json = False) -> None:
    """Show one task: its state, progress, result or error, and why it waits."""
    task = make_services().tasks.status(id)
    if as_json:
        return print_json(task.model_dump(mode="json"))
    out.print(views.task_details(task))
    return None


@commands.command()
def active(as_json: Json = False) -> None:
    """List the tasks that run now."""
    print_tasks(make_services().tasks.active(), as_json=as_json)


@commands.command()
def attempts(id: Id, as_json: Json = False) -> None:
    """Show each attempt of a task: worker, times and outcome, then its error with the traceback."""
    from laneway.platform.history.task_views import describe_attempt

    found = [describe_attempt(attempt) for attempt in make_services().event_stream.attempts(id)]
    if as_json:
        return print_json([attempt.model_dump(mode="json") for attempt in found])
    out.print(views.attempt_table(found) if found else "The task has not started yet.")
    out.print(views.attempt_errors(found))
    return None


@commands.command()
def watch(id: Id, as_json: Json = False) -> None:
    """Follow a task until it ends: its progress, its log lines and its outcome.

    Exit code 0: the task completed; 1: it ended otherwise.
    """
    follow(make_services(), id, as_json=as_json)


def follow(services: Platform, id: str, *, as_json: bool) -> NoReturn:
    """Show a task's events until it ends. Raises UnknownTask, and Exit with the code of `watch`."""
    from laneway.platform.history.task_views import describe_event

    services.tasks.current(id)
    news, after, ended, told = Event(), 0, False, False
    with progress_bar(out, disabled=as_json) as bar, services.event_stream.subscribe(id, news.set):
        row = bar.add_task("waiting", total=100)
        while not ended:
            news.clear()
            page, ended = services.event_stream.new_events(id, after=after)
            for event in page:
                after = event.seq
                if as_json:
                    typer.echo(describe_event(event).model_dump_json())  # one event a line: a stream
                else:
                    _show_event(bar, row, event)
            if services.recorder.problem is not None and not told:
                told = True
                typer.echo(f"Waiting: {services.recorder.problem}", err=True)
            if not ended:
                news.wait(POLL_SECONDS)
    task = services.tasks.status(id)
    if not as_json:
        out.print(views.task_details(task))
    raise typer.Exit(0 if task.status is TaskState.COMPLETED else 1)


@commands.command()
def cancel(id: Id, as_json: Json = False) -> None:
    """Cancel a task. A waiting task never runs; a running task is asked to stop.

    A running task that does not stop in time is interrupted, see TASK_CANCEL_GRACE_SECONDS.
    """
    response = make_services().tasks.cancel(id)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    out.print("Cancelled: the task will not run." if response.cancelled else "The task runs and was asked to stop.")
    return None


@commands.command()
def retry(id: Id, as_json: Json = False) -> None:
    """Run a finished task again, as a new attempt of the same task."""
    handle = make_services().tasks.retry(id)
    if as_json:
        return print_json(handle.model_dump(mode="json"))
    is_sent = handle.state is not TaskState.ACCEPTED
    out.print(f"Queued again: {id}" if is_sent else f"Accepted again: {id}. It is sent when the broker is back.")
    return None


def progress_bar(console: Console, *, disabled: bool = False) -> Progress:
    """A progress bar that prints a task's messages unchanged, because they are not markup."""
    message = TextColumn("{task.description}", markup=False)
    columns = (TextColumn("{task.percentage:>3.0f} %"), BarColumn(), message, TimeElapsedColumn())
    return Progress(*columns, console=console, disable=disabled)


def _show_event(bar: Progress, row: Any, event: TaskEvent) -> None:
    data = event.data
    if event.kind == "progress":
        bar.update(row, completed=data.get("percent", 0), description=data.get("message") or "")
        return
    bar.update(row, description=views.headline(event))
    if event.kind == "log":
        bar.console.print(f"{event.at:%H:%M:%S} {data.get('level', '')}: {data.get('text', '')}")
    elif event.kind == "end":
        if data.get("state") == TaskState.COMPLETED:
            bar.update(row, completed=100)
        outcome = f"{data.get('outcome')} {data.get('error') or ''}"
        bar.console.print(f"{event.at:%H:%M:%S} attempt {event.attempt}: {outcome}")
