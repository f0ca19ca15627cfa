"""Commands about all tasks at once: stats, audit, flush, clear, cleanup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.cli.base import Json, out, print_json, source, valid
from laneway.cli.completion import complete
from laneway.cli.times import duration, written
from laneway.schemas.choices import ClearableState

if TYPE_CHECKING:
    from laneway.schemas.maintenance import RetentionView

commands = typer.Typer()

LONGEST_WINDOW: Final = 30 * 86_400
"""Seconds. The API has the same limit."""
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@commands.command()
def stats(
    window: Annotated[float, duration("Length of the window for success and times: 10m, 2h, 7d.")] = 3600,
    queue: Annotated[
        str | None, typer.Option(help="Count only this queue in the window.", autocompletion=complete("queues"))
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Count only tasks of this name in the window.", autocompletion=complete("names"))
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the queues, recent success and times, and open alerts."""
    if not 1 <= window <= LONGEST_WINDOW:
        raise typer.BadParameter("--window is between 1s and 30d.")
    found = source(as_json=as_json).figures(window, queue=queue, name=name)
    if as_json:
        return print_json(
            {
                "queues": {name: figures.model_dump() for name, figures in found.queues.items()},
                "unknown_queues": [unknown.model_dump(mode="json") for unknown in found.unknown_queues],
                "alerts": [alert.message for alert in found.alerts],
                "window": found.window.model_dump(mode="json"),
            }
        )
    from laneway.cli import views

    out.print(views.queue_table(found.queues))
    if found.window.types:
        out.print("", views.window_table(found.window))
    for alert in found.alerts:
        out.print(views.alert_line(alert.message, since=alert.opened_at))
    return None


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
    count = source(as_json=as_json).maintenance.audit(repair=repair)
    if as_json:
        print_json(count.model_dump(mode="json"))
    else:
        from laneway.cli import audit_view

        out.print(audit_view.audit_table(count))
        out.print(f"unaccounted: {count.open}" + (f" ({count.repaired} repaired)" if count.repaired else ""))
    raise typer.Exit(1 if count.open else 0)


@commands.command()
def flush(
    queue: Annotated[str, typer.Argument(help="The name of the queue.", autocompletion=complete("queues"))],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel all waiting tasks of a queue. Running tasks go on.

    The history keeps the cancelled tasks.
    """
    if not yes:
        waiting = source(as_json=as_json).maintenance.flush(queue, dry_run=True).waiting
        typer.confirm(f"Cancel all waiting tasks of the queue {queue!r} ({waiting} now)?", abort=True)
    # Another source: an API does not keep a connection open while a person thinks.
    cancelled = source(as_json=as_json).maintenance.flush(queue, dry_run=False).cancelled
    if as_json:
        return print_json({"queue": queue, "cancelled": cancelled})
    from laneway.cli import views

    out.print(f"Cancelled {views.count(cancelled, 'task')}.")
    return None


@commands.command()
def clear(
    older_than: Annotated[float, duration("Delete tasks that ended longer ago than this: 12h, 7d.")],
    state: Annotated[
        list[ClearableState] | None,
        typer.Option(help="Only tasks in this final state; repeatable. Default: completed."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete old finished tasks together with their history."""
    states = state or [ClearableState.COMPLETED]
    if not yes:
        typer.confirm(f"Delete tasks ({', '.join(states)}) that ended more than {written(older_than)} ago?", abort=True)
    maintenance, deleted, more = source(as_json=as_json).maintenance, 0, True
    while more:
        cleared = maintenance.clear(states, older_than=older_than)
        deleted, more = deleted + cleared.deleted, cleared.more
    if as_json:
        return print_json({"deleted": deleted})
    from laneway.cli import views

    out.print(f"Deleted {views.count(deleted, 'task')}.")
    return None


@commands.command()
def cleanup(
    hours: Annotated[
        float | None,
        typer.Option(min=0, help="The hours of --older-than, as a number."),
    ] = None,
    older_than: Annotated[
        float | None, duration("Delete tasks that ended longer ago than this: 48h, 7d. Default: RETENTION_DAYS_TASKS.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show which rule holds for which tasks, and how many would be deleted."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete all data that is older than its retention period, now.

    The workers' maintenance does the same on a schedule.
    """
    if hours is not None and older_than is not None:
        raise typer.BadParameter("give either --older-than or --hours")
    platform = source(as_json=as_json)
    from laneway.schemas.maintenance import CleanupRequest

    seconds = older_than if hours is None else hours * 3600
    request = valid(CleanupRequest, tasks_older_than=seconds)
    if dry_run:
        return _preview_cleanup(platform.maintenance.preview_cleanup(request), as_json=as_json)
    counts = platform.maintenance.clean_up(request).deleted
    if as_json:
        return print_json(counts)
    for kind, number in counts.items():
        out.print(f"{kind}: {number}")
    return None


def _preview_cleanup(found: RetentionView, *, as_json: bool) -> None:
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli import views

    out.print(views.retention_table(found.tasks))
    expired = sum(rule.expired for rule in found.tasks)
    out.print(f"{views.count(expired, 'finished task')} would be deleted.")
    return out.print("Kept otherwise: " + ", ".join(f"{rule.kind} {rule.days:g} days" for rule in found.others) + ".")
