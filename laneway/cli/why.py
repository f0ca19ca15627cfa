"""`laneway why`: why a task waits, and when it will probably start and end."""

from __future__ import annotations

import typer

from laneway.cli.base import Id, Json, out, print_json, source

commands = typer.Typer()


@commands.command()
def why(id: Id, as_json: Json = False) -> None:
    """Say why a task waits: every cause, the strongest first; and when it will probably start and end."""
    found = source(as_json=as_json, reads=True).why(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli.why_view import why_text

    return out.print(why_text(found))
