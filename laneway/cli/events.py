"""`laneway events`: the events of all tasks, or of a selection."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from laneway._printable import printable
from laneway.cli.base import Id, Json, source
from laneway.cli.completion import complete
from laneway.cli.source import FeedPart
from laneway.schemas.choices import EventKindName

if TYPE_CHECKING:
    from laneway.schemas.feed import FeedEvent, OutputChunk

commands = typer.Typer()


@commands.command()
def events(
    queue: Annotated[
        str | None, typer.Option(help="Only tasks of this queue.", autocompletion=complete("queues"))
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only tasks of this name.", autocompletion=complete("names"))] = None,
    tag: Annotated[str | None, typer.Option(help="Only tasks with this tag.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only tasks of the workflow run with this id.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only tasks of this batch.")] = None,
    kind: Annotated[
        list[EventKindName] | None, typer.Option(help="Only events of this kind; repeatable. Default: all but output.")
    ] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after the event with this id; 0: with the oldest one.")
    ] = None,
    last: Annotated[int, typer.Option(min=0, max=1000, help="Without --after: begin with so many events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes. Ctrl-C ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show the events of all tasks, or of a selection; follow them.

    A lost connection is made again, and no event is missed or repeated.
    """
    part = FeedPart(
        queue=queue,
        name=name,
        tag=tag,
        workflow=workflow,
        batch=batch,
        kinds=tuple(each.value for each in kind or ()),
        after=after,
        last=last,
        follow=follow,
    )
    for event in source(as_json=as_json, reads=True).feed(part):
        if as_json:
            typer.echo(json.dumps(event.model_dump(mode="json")))  # one event a line: a stream
        else:
            typer.echo(printable(_line(event)))


@commands.command()
def output(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task is over.")] = False,
    after: Annotated[int, typer.Option(min=0, help="Begin after the event with this id (`event_id` of --json).")] = 0,
    as_json: Json = False,
) -> None:
    """Print what a task writes (`ctx.write`): texts as they are, other values as one line of JSON each.

    A retry writes its output anew.
    """
    from laneway.schemas.feed import chunks_of

    platform = source(as_json=as_json, reads=True)
    events = platform.follow(id) if follow else platform.events(id, after=after)
    for event in events:
        if event.kind != EventKindName.OUTPUT or event.id <= after:
            continue
        for chunk in chunks_of(event):
            if as_json:
                typer.echo(json.dumps(chunk.model_dump(mode="json")))
            else:
                typer.echo(_printable(chunk), nl=not isinstance(chunk.value, str))


def _line(event: FeedEvent) -> str:
    from laneway.cli import views

    return views.feed_line(event)


def _printable(chunk: OutputChunk) -> str:
    """What is printed of a chunk. In a terminal it has no control characters but new lines and tabs."""
    text = chunk.value if isinstance(chunk.value, str) else json.dumps(chunk.value)
    return printable(text) if sys.stdout.isatty() else text
