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
from laneway.schemas.choices import DurabilityName, IfBusy, PriorityName, SubmitOutcome, TaskState

if TYPE_CHECKING:
    from laneway.schemas.history import TaskRequest
    from laneway.schemas.task import TaskHandle

commands = typer.Typer()
OrderingKey = Annotated[
    str | None, typer.Option(help="The ordering key: tasks with the same key run one at a time, in order.")
]
Busy = Annotated[
    IfBusy | None, typer.Option(help="What to do while another task of its name and ordering key waits or runs.")
]
Durable = Annotated[
    DurabilityName, typer.Option(help="Where the message must be stored before the task counts as accepted.")
]
NOT_NEW: dict[SubmitOutcome | None, str] = {
    SubmitOutcome.MERGED: "Merged into the waiting task:",
    SubmitOutcome.THROTTLED: "Not accepted: the task of this period is",
    SubmitOutcome.DROPPED: "Dropped: the key is busy with the task",
}


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
    key: OrderingKey = None,
    priority: Annotated[PriorityName | None, typer.Option(help="Default: that of the task's declaration.")] = None,
    delay: Annotated[float, duration("Wait so long before it may start: 90, 10m, 2h.")] = 0,
    expires: Annotated[float | None, duration("Do not start it after so long: 90, 10m, 2h.")] = None,
    debounce: Annotated[float | None, duration("Start it so long after the last submission of its key.")] = None,
    debounce_max: Annotated[float | None, duration("Start it at most so long after the first submission.")] = None,
    debounce_key: Annotated[str | None, typer.Option(help="The key of --debounce. Default: the ordering key.")] = None,
    throttle: Annotated[float | None, duration("Start at most one task of its key in this time.")] = None,
    throttle_key: Annotated[str | None, typer.Option(help="The key of --throttle. Default: the ordering key.")] = None,
    if_busy: Busy = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word by which the task is found; repeatable.")] = None,
    durability: Durable = DurabilityName.MEMORY,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the task until it ends, as `watch` does.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a task by its name.

    With --wait, exit code 0: the task completed; 1: it ended otherwise.
    """
    given = {"name": name, "id": id, "key": key, "priority": priority, "delay": delay, "expires": expires}
    given |= {"payload": read_payload(payload), "tags": tag or [], "durability": durability, "if_busy": if_busy}
    given["debounce"] = _fields(seconds=debounce, max_seconds=debounce_max, key=debounce_key)
    given["throttle"] = _fields(seconds=throttle, key=throttle_key)
    request = _checked(given)
    platform = source(as_json=as_json)
    handle = platform.submit(request)
    _report(handle, as_json=as_json, to_stderr=wait and as_json)
    if wait:
        from laneway.cli.tasks import follow

        follow(platform, handle.task_id, as_json=as_json)


def _checked(options: dict[str, Any]) -> TaskRequest:
    from pydantic import ValidationError

    from laneway.schemas.history import TaskRequest

    try:
        return TaskRequest.model_validate(options)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise typer.BadParameter("; ".join(problems)) from None


def _fields(**values: Any) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _report(handle: TaskHandle, *, as_json: bool, to_stderr: bool) -> None:
    if to_stderr:
        typer.echo(printable(handle.task_id), err=True)
    elif as_json:
        print_json(handle.model_dump(mode="json"))
    elif not handle.created:
        out.print(f"{NOT_NEW.get(handle.outcome, 'Accepted before:')} {handle.task_id}")
    else:
        is_sent = handle.state is not TaskState.ACCEPTED
        out.print(f"Accepted: {handle.task_id}" + ("" if is_sent else ". It is sent when the broker is back."))
        if handle.replaced:
            out.print(f"Stopped for it: {', '.join(handle.replaced)}")
    if handle.renamed_to and not as_json:
        out.print(f"The task is called {handle.renamed_to} now. Its earlier name works as long as it is an alias.")
