"""`laneway limits`: list, set and remove the limits that tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway.cli.base import Json, out, print_json, print_models, source, valid
from laneway.cli.times import duration

if TYPE_CHECKING:
    from laneway.schemas.limit import NamedLimitView

commands = typer.Typer(
    name="limits",
    no_args_is_help=True,
    add_completion=False,
    help="Limits that tasks share: show them, set and remove them.",
)

Name = Annotated[str, typer.Argument(help="The limit's name; task:NAME limits all runs of one task.")]


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the limits with what they let through, what runs and what waits."""
    found = source(as_json=as_json, reads=True).named_limits().listing()
    if as_json:
        return print_models(found)
    from laneway.cli import limit_views

    return out.print(limit_views.limit_table(found) if found else "None.")


@commands.command("set")
def set_(
    name: Name,
    rate: Annotated[int | None, typer.Option(min=1, help="Let at most this many points through within --per.")] = None,
    per: Annotated[float, duration("The period of --rate: 1s, 1m, 1h.")] = 1,
    burst: Annotated[int, typer.Option(min=1, help="So many points may be taken at once.")] = 1,
    max_running: Annotated[int | None, typer.Option(min=1, help="Points that running tasks may hold.")] = None,
    as_json: Json = False,
) -> None:
    """Set a limit, for all workers together. A value that is not given is no limit."""
    from laneway.schemas.limit import NamedLimitRequest

    request = valid(NamedLimitRequest, rate=rate, per_seconds=per, burst=burst, max_running=max_running)
    _print(source(as_json=as_json).named_limits().put(name, request), as_json=as_json)


@commands.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Take back what operators have set: the limit is what the tasks declare."""
    _print(source(as_json=as_json).named_limits().remove(name), as_json=as_json)


def _print(limit: NamedLimitView, *, as_json: bool) -> None:
    if as_json:
        return print_json(limit.model_dump(mode="json"))
    from laneway.cli import limit_views

    out.print(limit_views.limit_table([limit]))
    if limit.in_force is False or limit.in_force is None:
        out.print("The broker does not have the limit yet; a worker sets it seconds after the broker is back.")
    return None
