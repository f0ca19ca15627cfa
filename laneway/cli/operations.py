"""Commands about all tasks at once: stats, audit, flush, clear, cleanup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.cli import views
from laneway.cli.base import Json, make_services, out, print_json, say_missing
from laneway.platform import clock
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import DatabaseUnavailable
from laneway.schemas.history import ClearableState
from laneway.schemas.statistics import LONGEST_WINDOW
from laneway.schemas.task import TaskState

if TYPE_CHECKING:
    from laneway.platform.platform import Platform

commands = typer.Typer()

SWEEP_WAITS: Final = 4.0
"""Seconds that the sweep waits for a database that another program holds, before the figures are shown without it."""
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@commands.command()
def stats(
    window: Annotated[
        float, typer.Option(min=1, max=LONGEST_WINDOW, help="Length of the window for success and times, in seconds.")
    ] = 3600,
    queue: Annotated[str | None, typer.Option(help="Count only this queue in the window.")] = None,
    name: Annotated[str | None, typer.Option(help="Count only tasks of this name in the window.")] = None,
    as_json: Json = False,
) -> None:
    """Show the queues, recent success and times, and open alerts."""
    services = make_services()
    _sweep_alerts(services)
    figures, alerts = services.tasks.queues(), services.alerts.listing()
    recent = services.statistics.window(window, queue=queue, name=name)
    if as_json:
        return print_json(
            {
                "queues": {name: figure.model_dump() for name, figure in figures.items()},
                "unknown_queues": [queue.model_dump(mode="json") for queue in services.unknown_queues.listing()],
                "alerts": [alert.message for alert in alerts],
                "window": recent.model_dump(mode="json"),
            }
        )
    out.print(views.queue_table(figures))
    if recent.types:
        out.print("", views.window_table(recent))
    for alert in alerts:
        out.print(views.alert_line(alert.message, since=alert.opened_at))
    return None


def _sweep_alerts(services: Platform) -> None:
    """Look for problems now: the scheduled sweep needs a worker, and there may be none.

    If the alerts cannot be stored, for example on a full disk or while another program holds the database, show those
    of the last sweep, and say so.
    """
    try:
        with limit_waits(SWEEP_WAITS):
            services.alerts.sweep()
    except DatabaseUnavailable as error:
        say_missing(f"The alerts are those of the last sweep. {error}")


@commands.command()
def audit(
    repair: Annotated[
        bool, typer.Option("--repair", help="Settle what differs, send missing tasks again, restore missing results.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Count all tasks that were ever accepted, and name those that are missing.

    It compares the history, the engine and the results. Exit code 0: every task is accounted for, or was
    repaired; 1: tasks are missing or unknown, or would run again. Missing or wrong results are reported, but do not
    change the exit code.
    """
    count = make_services().audit.run(repair=repair)
    if as_json:
        print_json(views.audit_data(count))
    else:
        out.print(views.audit_table(count))
        out.print(f"unaccounted: {count.open}" + (f" ({count.repaired} repaired)" if count.repaired else ""))
    raise typer.Exit(1 if count.open else 0)


@commands.command()
def flush(
    queue: Annotated[str, typer.Argument(help="The name of the queue.")], yes: Yes = False, as_json: Json = False
) -> None:
    """Cancel all waiting tasks of a queue. Running tasks go on.

    The history keeps the cancelled tasks.
    """
    from laneway.platform.queues import queues

    services = make_services()
    if queue not in queues and queue not in {unknown.queue for unknown in services.unknown_queues.look()}:
        raise typer.BadParameter(f"unknown queue: {queue}; the queues are {', '.join(queues)}")
    if not yes:
        typer.confirm(f"Cancel all waiting tasks of the queue {queue!r}?", abort=True)
    cancelled = services.tasks.flush(queue)
    if as_json:
        return print_json({"queue": queue, "cancelled": cancelled})
    out.print(f"Cancelled {views.count(cancelled, 'task')}.")
    return None


@commands.command()
def clear(
    older_than: Annotated[float, typer.Option(min=0, help="Delete tasks that ended more than this many seconds ago.")],
    state: Annotated[
        list[ClearableState] | None,
        typer.Option(help="Only tasks in this final state; repeatable. Default: completed."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete old finished tasks together with their history."""
    states = [TaskState(final.value) for final in state or (ClearableState.COMPLETED,)]
    if not yes:
        typer.confirm(f"Delete tasks ({', '.join(states)}) that ended more than {older_than:g} s ago?", abort=True)
    retention, deleted, more = make_services().retention, 0, True
    while more:
        cleared = retention.clear(states, older_than=older_than)
        deleted, more = deleted + cleared.deleted, cleared.more
    if as_json:
        return print_json({"deleted": deleted})
    out.print(f"Deleted {views.count(deleted, 'task')}.")
    return None


@commands.command()
def cleanup(
    hours: Annotated[
        float | None,
        typer.Option(
            min=0, help="Delete tasks that ended more than this many hours ago. Default: RETENTION_DAYS_TASKS."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete all data that is older than its retention period, now.

    The workers' maintenance does the same on a schedule.
    """
    counts = make_services().retention.sweep(now=clock.now(), task_hours=hours)
    if as_json:
        return print_json(counts)
    for kind, number in counts.items():
        out.print(f"{kind}: {number}")
    return None
