"""Commands of an operator: watch, search, audit, flush, worker."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from laneway.cli import views
from laneway.cli.base import Id, Json, make_services, out, print_json, print_tasks, read_settings
from laneway.platform import clock
from laneway.platform.db.models import TaskEvent
from laneway.platform.db.queries.search import Filter
from laneway.platform.history.task_views import describe_attempt, describe_event
from laneway.platform.queues import queues as declared
from laneway.platform.schemas.history import ClearableState
from laneway.platform.schemas.task import TaskState

GOOD = (TaskState.COMPLETED,)


def search(
    state: Annotated[list[TaskState] | None, typer.Option(help="May be given several times.")] = None,
    name: Annotated[str | None, typer.Option(help="The type of task, for example crm_update.")] = None,
    queue: Annotated[str | None, typer.Option(help="The queue that it belongs to.")] = None,
    key: Annotated[str | None, typer.Option(help="Ordering key, for example conversation_id:c-1.")] = None,
    tag: Annotated[str | None, typer.Option(help="A tag that it bears.")] = None,
    error: Annotated[str | None, typer.Option(help="Part of the error's text.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Accepted at or after (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Accepted before (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Find tasks, newest first."""
    which = Filter(
        states=tuple(state or ()),
        name=name,
        queue=queue,
        key=key,
        tag=tag,
        error=error,
        since=clock.aware(since),
        until=clock.aware(until),
    )
    print_tasks(make_services().tasks.search(which, limit=limit)[0], as_json=as_json)


def attempts(id: Id, as_json: Json = False) -> None:
    """Each attempt at a task: worker, times, outcome, error."""
    found = [describe_attempt(attempt) for attempt in make_services().event_stream.attempts(id)]
    if as_json:
        return print_json([attempt.model_dump(mode="json") for attempt in found])
    out.print(views.attempt_table(found) if found else "It has not been started.")
    return None


def watching(console: Console, *, silent: bool = False) -> Progress:
    """A bar with a task's own words, which are no markup."""
    words = TextColumn("{task.description}", markup=False)
    columns = (TextColumn("{task.percentage:>3.0f} %"), BarColumn(), words, TimeElapsedColumn())
    return Progress(*columns, console=console, disable=silent)


def watch(id: Id, as_json: Json = False) -> None:
    """Follow a task until it is over: a bar, its log lines and its outcome. Exit code 0: completed, 1: not."""
    services = make_services()
    services.tasks.current(id)  # or there is nothing to show
    bell, after, over = Event(), 0, False
    with watching(out, silent=as_json) as bar, services.event_stream.subscribe(id, bell.set):
        shown = bar.add_task("waiting", total=100)
        while not over:
            bell.clear()
            page, over = services.event_stream.new_events(id, after=after)
            for event in page:
                after = event.seq
                if as_json:
                    typer.echo(describe_event(event).model_dump_json())  # one a line: a stream
                else:
                    _show(bar, shown, event)
            if not over:
                bell.wait(2)
    status = services.tasks.status(id)
    if not as_json:
        out.print(views.task_details(status))
    raise typer.Exit(0 if status.status in GOOD else 1)


def audit(
    repair: Annotated[
        bool, typer.Option("--repair", help="Send again what the broker lost, and put results back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Count every task that was ever accepted, compare history, engine and results, and name what is missing.

    Exit code 0: everything is accounted for (or was repaired), 1: not. Results that are missing or wrong are told only.
    """
    found = make_services().audit.run(repair=repair)
    left = len(found.unaccounted) - found.repaired + len(found.unknown)
    if as_json:
        print_json(views.audit_data(found))
    else:
        out.print(views.audit_table(found))
        out.print(f"unaccounted: {left}" + (f" ({found.repaired} repaired)" if found.repaired else ""))
    raise typer.Exit(1 if left else 0)


def flush(
    queue: Annotated[str, typer.Argument(help="The queue to empty.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Cancel everything that waits in a queue; what runs goes on. The history says what was cancelled."""
    if queue not in declared:
        raise typer.BadParameter(f"no such queue; there are {', '.join(declared)}")
    if not yes:
        typer.confirm(f"Cancel everything that waits in {queue!r}?", abort=True)
    number = make_services().tasks.flush(queue)
    if as_json:
        return print_json({"queue": queue, "cancelled": number})
    out.print(f"{number} tasks cancelled.")
    return None


def clear(
    older_than: Annotated[float, typer.Option(min=0, help="Seconds since they ended.")],
    state: Annotated[list[ClearableState] | None, typer.Option(help="Of these ends; else completed ones.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete tasks that ended so long ago, with their history."""
    states = [TaskState(one.value) for one in state or (ClearableState.COMPLETED,)]
    if not yes:
        typer.confirm(f"Delete tasks ({', '.join(states)}) that ended over {older_than:g} s ago?", abort=True)
    retention, deleted, more = make_services().retention, 0, True
    while more:
        cleared = retention.clear(states, older_than=older_than)
        deleted, more = deleted + cleared.deleted, cleared.more
    if as_json:
        return print_json({"deleted": deleted})
    out.print(f"{deleted} tasks deleted.")
    return None


def worker(
    queues: Annotated[
        list[str] | None, typer.Option("--queue", "--queues", "-Q", help="One, or several with commas; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option("--name", "-n", help="What comes before @host in its name.")] = "worker",
    pool: Annotated[str, typer.Option("--pool", "-P", help="prefork, threads, solo or gevent.")] = "prefork",
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Tasks at a time; without it, one a processor.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="A worker that the application declares, with its queues and name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start one worker in the foreground; Ctrl-C stops it in good order, and it says what it did."""
    if group is not None:
        from laneway.server.processes import program, worker_command, worker_group

        argv = list(worker_command(read_settings(), worker_group(group)))
        os.execvp(program(argv[0]), argv)  # noqa: S606  the worker takes this process's place, and its signals
    served = _served(queues or [])
    argv = [
        sys.executable,
        "-m",
        "laneway.cli.worker",
        *(["--json"] if as_json else []),
        "-q",
        "worker",
        "-Q",
        ",".join(served),
        "-n",
        f"{name}@%h",
        "-P",
        pool,
    ]
    if concurrency is not None:
        argv += ["-c", str(concurrency)]
    os.execv(sys.executable, argv)  # noqa: S606  the worker takes this process's place, and its signals


def _served(named: list[str]) -> list[str]:
    """The queues that were named, each once; all of them if none was."""
    queues = list(dict.fromkeys(",".join(named).split(","))) if named else list(declared)
    unknown = [queue for queue in queues if queue not in declared]
    if unknown:
        raise typer.BadParameter(f"no such queue: {', '.join(unknown)}; there are {', '.join(declared)}")
    return queues


def _show(bar: Progress, shown: Any, event: TaskEvent) -> None:
    data = event.data
    if event.kind == "progress":
        bar.update(shown, completed=data.get("percent", 0), description=data.get("message") or "")
        return
    bar.update(shown, description=views.headline(event))
    if event.kind == "log":
        bar.console.print(f"{event.at:%H:%M:%S} {data.get('level', '')}: {data.get('text', '')}")
    elif event.kind == "end":
        if data.get("state") == TaskState.COMPLETED:
            bar.update(shown, completed=100)
        bar.console.print(
            f"{event.at:%H:%M:%S} attempt {event.attempt}: {data.get('outcome')} {data.get('error') or ''}"
        )
