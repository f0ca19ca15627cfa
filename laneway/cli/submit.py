"""The command submit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from laneway._printable import printable
from laneway.cli.base import Json, out, print_json, source
from laneway.cli.completion import complete
from laneway.cli.times import duration
from laneway.schemas.choices import DurabilityName, PriorityName, TaskState

if TYPE_CHECKING:
    from laneway.schemas.history import TaskRequest
    from laneway.schemas.task import TaskHandle

commands = typer.Typer()


def read_payload(text: str) -> dict[str, Any]:
    """The payload: JSON, `@file`, or `-` for standard input. Raises BadParameter."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text("utf-8")
        payload = json.loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"The payload cannot be read as JSON: {error}") from None
    if not isinstance(payload, dict):
        raise typer.BadParameter('The payload is not a JSON object, such as {"name": "Ada"}.')
    return cast("dict[str, Any]", payload)


@commands.command()
def submit(
    name: Annotated[str, typer.Argument(help="The registered name of the task.", autocompletion=complete("names"))],
    payload: Annotated[str, typer.Option(help="A JSON object; @FILE reads a file, - reads standard input.")] = "{}",
    id: Annotated[str | None, typer.Option(help="The task's id: a repeat with it makes no second task.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The ordering key: tasks with the same key run one at a time, in order.")
    ] = None,
    priority: Annotated[PriorityName | None, typer.Option(help="Default: that of the task's declaration.")] = None,
    delay: Annotated[float, duration("Wait so long before it may start: 90, 10m, 2h.")] = 0,
    expires: Annotated[float | None, duration("Do not start it after so long: 90, 10m, 2h.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word by which the task is found; repeatable.")] = None,
    durability: Annotated[
        DurabilityName, typer.Option(help="Where the message must be stored before the task counts as accepted.")
    ] = DurabilityName.MEMORY,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the task until it ends, as `watch` does.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a task by its name.

    With --wait, exit code 0: the task completed; 1: it ended otherwise.
    """
    request = _checked(
        name=name,
        payload=read_payload(payload),
        id=id,
        key=key,
        priority=priority,
        delay=delay,
        expires=expires,
        tags=tag or [],
        durability=durability,
    )
    platform = source(as_json=as_json)
    handle = platform.submit(request)
    _report(handle, as_json=as_json, to_stderr=wait and as_json)
    if wait:
        from laneway.cli.tasks import follow

        follow(platform, handle.task_id, as_json=as_json)


def _checked(**options: Any) -> TaskRequest:
    from pydantic import ValidationError

    from laneway.schemas.history import TaskRequest

    try:
        return TaskRequest.model_validate(options)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise typer.BadParameter("; ".join(problems)) from None


def _report(handle: TaskHandle, *, as_json: bool, to_stderr: bool) -> None:
    if to_stderr:
        typer.echo(printable(handle.task_id), err=True)
    elif as_json:
        print_json(handle.model_dump(mode="json"))
    elif not handle.created:
        out.print(f"Accepted before: {handle.task_id}")
    else:
        is_sent = handle.state is not TaskState.ACCEPTED
        out.print(f"Accepted: {handle.task_id}" + ("" if is_sent else ". It is sent when the broker is back."))
    if handle.renamed_to and not as_json:
        out.print(f"The task is called {handle.renamed_to} now. Its earlier name works as long as it is an alias.")
