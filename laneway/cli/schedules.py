"""`laneway schedules`: list, show, create, change, delete, pause, resume and run schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from laneway.cli.base import Json, out, print_json, print_models, source
from laneway.cli.submit import read_payload
from laneway.cli.times import duration

if TYPE_CHECKING:
    from laneway.cli.schedule_source import ScheduleSource
    from laneway.schemas.schedule import ScheduleDefinition, ScheduleSummary

commands = typer.Typer(
    name="schedules",
    no_args_is_help=True,
    add_completion=False,
    help="Schedules: list and show them, make and change them, pause, resume and run them.",
)

Key = Annotated[str, typer.Argument(help="The schedule's key.")]
Task = Annotated[str, typer.Option(help="The name of the task.")]
Payload = Annotated[str, typer.Option(help="A JSON object; @FILE reads a file, - reads standard input.")]
Cron = Annotated[
    str | None, typer.Option(help="Minute, hour, day of month, month, day of week, such as '0 3 * * mon-fri'.")
]
Every = Annotated[float | None, duration("The time between two firings: 90s, 15m, 1d.")]
Zone = Annotated[str, typer.Option("--timezone", help="The IANA time zone of --cron, such as Europe/Berlin.")]
Start = Annotated[str | None, typer.Option(help="No firing before this time, such as 2026-01-31T08:30Z.")]
End = Annotated[str | None, typer.Option(help="No firing after this time.")]
Jitter = Annotated[float, duration("The most by which a firing is delayed: 30s, 10m.")]
Missed = Annotated[str, typer.Option(help="Firings that were missed: skip, once, or all within --window.")]
Window = Annotated[float, duration("How far --missed all looks back: 1h, 1d.")]
Overlap = Annotated[str, typer.Option(help="While an earlier task has not ended: allow, skip, queue or replace.")]
Queue = Annotated[str | None, typer.Option(help="The queue; default: that of the task.")]
Priority = Annotated[str | None, typer.Option(help="low, normal, high or critical; default: that of the task.")]
Expires = Annotated[float | None, duration("Drop a task that has not started after this time: 50s, 6h.")]
M = TypeVar("M", bound="ScheduleDefinition")


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the schedules of the application's code and of operators."""
    found = _schedules(as_json=as_json, reads=True).listing()
    if as_json:
        return print_models(found.schedules)
    from laneway.cli import schedule_views

    out.print(schedule_views.schedule_table(found.schedules) if found.schedules else "None.")
    if found.schedules and not found.beat_runs:
        out.print("No Beat runs: nothing is sent until one is started.")
    return None


@commands.command()
def show(key: Key, as_json: Json = False) -> None:
    """Show one schedule: what it submits, its next ten and its last ten firings."""
    found = _schedules(as_json=as_json, reads=True).show(key)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli import schedule_views

    return out.print(schedule_views.schedule_details(found))


@commands.command()
def create(
    key: Annotated[str, typer.Argument(help="Letters, digits, dots, hyphens, underscores.")],
    task: Task,
    payload: Payload = "{}",
    cron: Cron = None,
    every: Every = None,
    zone: Zone = "UTC",
    start: Start = None,
    end: End = None,
    jitter: Jitter = 0,
    missed: Missed = "once",
    window: Window = 3600,
    overlap: Overlap = "allow",
    queue: Queue = None,
    priority: Priority = None,
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Make a schedule, with --cron or --every. It is due from now on."""
    from laneway.schemas.schedule import ScheduleRequest

    fields = _fields(locals())
    request = _model(ScheduleRequest, {"key": key, **fields})
    _print(_schedules(as_json=as_json).create(request), as_json=as_json)


@commands.command()
def change(
    key: Key,
    task: Task,
    payload: Payload = "{}",
    cron: Cron = None,
    every: Every = None,
    zone: Zone = "UTC",
    start: Start = None,
    end: End = None,
    jitter: Jitter = 0,
    missed: Missed = "once",
    window: Window = 3600,
    overlap: Overlap = "allow",
    queue: Queue = None,
    priority: Priority = None,
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Replace what a schedule of operators submits, and when. What is not given has its default."""
    from laneway.schemas.schedule import ScheduleDefinition

    definition = _model(ScheduleDefinition, _fields(locals()))
    _print(_schedules(as_json=as_json).change(key, definition), as_json=as_json)


@commands.command()
def delete(key: Key) -> None:
    """Delete a schedule of operators. The tasks that it has sent stay."""
    _schedules().delete(key)
    out.print(f"{key} is deleted.")


@commands.command()
def pause(key: Key, as_json: Json = False) -> None:
    """Pause a schedule until it is resumed."""
    _print(_schedules(as_json=as_json).pause(key), as_json=as_json)


@commands.command()
def resume(key: Key, as_json: Json = False) -> None:
    """Resume a schedule. What came due during the pause is not made up."""
    _print(_schedules(as_json=as_json).resume(key), as_json=as_json)


@commands.command()
def run(
    key: Key,
    beside: Annotated[
        bool, typer.Option("--beside", help="Also while an earlier task runs, whatever --overlap of the schedule says.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit the task of a schedule at once. Its times stay as they are, and its overlap policy holds."""
    id = _schedules(as_json=as_json).run(key, beside=beside)
    if as_json:
        return print_json({"task_id": id})
    return out.print(f"Accepted: {id}")


def _schedules(*, as_json: bool = False, reads: bool = False) -> ScheduleSource:
    return source(as_json=as_json, reads=reads).schedules()


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a definition, from the arguments of a command."""
    names = ("task", "cron", "every", "start", "end", "jitter", "missed", "window", "overlap", "queue", "priority")
    fields = {name: given[name] for name in (*names, "expires") if given[name] is not None}
    return {**fields, "timezone": given["zone"], "payload": read_payload(given["payload"])}


def _model(model: type[M], fields: dict[str, Any]) -> M:
    """Return the fields as a model. Raises BadParameter."""
    from pydantic import ValidationError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise typer.BadParameter("; ".join(problems)) from None


def _print(found: ScheduleSummary, *, as_json: bool) -> None:
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli import schedule_views

    return out.print(schedule_views.schedule_table([found]))
