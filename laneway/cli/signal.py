"""`laneway signal`: send a signal to a task that waits for it."""

from __future__ import annotations

from typing import Annotated

import typer

from laneway.cli.base import Id, Json, out, parse_object, print_json, source

commands = typer.Typer()


@commands.command()
def signal(
    id: Id,
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    data: Annotated[str, typer.Option(help="The data for the task, a JSON object.")] = "{}",
    key: Annotated[str, typer.Option("--id", help="Distinguishes several signals of the same name.")] = "",
    as_json: Json = False,
) -> None:
    """Send a signal to a task. It is kept until the task waits for it."""
    response = source(as_json=as_json).signal(id, name, data=parse_object(data, option="--data"), key=key)
    if as_json:
        return print_json(response.model_dump(mode="json"))
    if not response.created:
        out.print("It was sent before.")
    else:
        out.print("Sent: the task continues." if response.awaited else "Kept until the task waits for it.")
    return None
