"""`laneway sessions`: who is logged in, and the end of all sessions of a person."""

from __future__ import annotations

from typing import Annotated

import typer

from laneway.cli.base import Json, out, print_json, print_models, say_error, source, valid
from laneway.cli.tables import Grid, ident, text, when

commands = typer.Typer(
    name="sessions",
    no_args_is_help=True,
    add_completion=False,
    help="Sessions of people: list them, and end those of one person.",
)


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the sessions that have not ended, the latest first."""
    found = source(as_json=as_json).access.sessions()
    if as_json:
        return print_models(found)
    table = Grid(ident("person"), text("role"), "began", "confirmed")
    for session in found:
        table.add(session.person, session.role, when(session.began_at), when(session.confirmed_at))
    return out.print(table if found else "None.")


@commands.command()
def end(
    person: Annotated[str, typer.Argument(help="The person, as `laneway sessions list` shows it.")],
    as_json: Json = False,
) -> None:
    """End all sessions of a person. Running processes notice it within 2 seconds.

    Who still has a role can log in again: take the role away first, at the provider or in the settings. Exit code 1:
    the person had no session.
    """
    access = source(as_json=as_json).access
    from laneway.schemas.session import EndSessions

    ended = access.end_sessions(valid(EndSessions, person=person)).ended
    if as_json:
        print_json({"person": person, "ended": ended})
    elif ended:
        out.print(f"{person}: {'1 session' if ended == 1 else f'{ended} sessions'} ended.")
    else:
        others = sorted({session.person for session in access.sessions()})
        say_error(f"{person!r} has no session; logged in: {', '.join(others) or 'nobody'}.")
    if not ended:
        raise typer.Exit(1)
