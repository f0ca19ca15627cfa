"""`laneway callbacks destinations|register|rotate|…`: who may receive outbound webhooks, and which events of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laneway._printable import printable
from laneway.cli.base import Json, out, print_json, print_models, source, valid
from laneway.schemas.choices import EventKindName
from laneway.schemas.overlap import A_DAY, LONGEST_OVERLAP

if TYPE_CHECKING:
    from laneway.schemas.outbound_destination import NewSecretResponse

Name = Annotated[str, typer.Argument(help="The destination's name, see `laneway callbacks destinations`.")]


def add_commands(group: typer.Typer) -> None:
    """Add the commands of destinations to `laneway callbacks`."""
    for command in (destinations, register, rotate, remove, subscribe, unsubscribe, reencrypt):
        group.command()(command)


def destinations(
    after: Annotated[str, typer.Option(help="Only names after this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="The most destinations to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the destinations by name, without their secrets."""
    found = source(as_json=as_json).webhooks.destinations(after=after, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli import webhook_views

    return out.print(webhook_views.destination_table(found) if found else "None.")


def register(
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, hyphens, underscores.")],
    url: Annotated[str, typer.Argument(help="The address. If it ends with /, all addresses below are covered.")],
    as_json: Json = False,
) -> None:
    """Register a destination, and print its secret. The secret is shown this once."""
    platform = source(as_json=as_json)
    from laneway.schemas.outbound_destination import DestinationRequest

    request = valid(DestinationRequest, name=name, url=url)
    _print_secret(platform.webhooks.register(request), as_json=as_json)


def rotate(
    name: Name,
    overlap: Annotated[
        int, typer.Option(min=0, max=LONGEST_OVERLAP, help="Seconds for which the present secret signs as well.")
    ] = A_DAY,
    as_json: Json = False,
) -> None:
    """Give a destination a new secret, and print it. The secret is shown this once."""
    _print_secret(source(as_json=as_json).webhooks.rotate(name, overlap=overlap), as_json=as_json)


def remove(name: Name) -> None:
    """Delete a destination with its secret. Its waiting deliveries fail."""
    source().webhooks.remove(name)
    out.print(f"Nothing is sent to {name} any more.")


def subscribe(
    name: Name,
    kind: Annotated[list[EventKindName], typer.Option(help="Send events of this kind; repeatable; not output.")],
    queue: Annotated[str | None, typer.Option(help="Only tasks of this queue.")] = None,
    task_name: Annotated[str | None, typer.Option("--name", help="Only tasks of this name.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only tasks with this tag.")] = None,
    as_json: Json = False,
) -> None:
    """Send events of tasks from now on to a destination, each as a signed webhook. It replaces what was set before."""
    platform = source(as_json=as_json)
    from laneway.schemas.outbound_destination import EventSubscription

    given = valid(EventSubscription, kinds=kind, queue=queue, name=task_name, tag=tag)
    view = platform.webhooks.subscribe(name, given)
    if as_json:
        return print_json(view.model_dump(mode="json"))
    return out.print(f"{view.name} gets the events {', '.join(given.kinds)} of tasks.")


def unsubscribe(name: Name) -> None:
    """Send a destination no further events of tasks. Deliveries that wait are sent."""
    source().webhooks.unsubscribe(name)
    out.print(f"{name} gets no further events of tasks.")


def reencrypt() -> None:
    """Encrypt the secrets of all destinations with OUTBOUND_KEY. Then OUTBOUND_KEY_PREVIOUS is not needed any more."""
    out.print(f"Destinations encrypted again: {source().webhooks.reencrypt()}")


def _print_secret(view: NewSecretResponse, *, as_json: bool) -> None:
    if as_json:
        return print_json(view.model_dump(mode="json"))
    out.print(f"{view.destination.name} receives webhooks at {view.destination.url}. Its secret, shown this once:")
    return typer.echo(printable(view.secret))
