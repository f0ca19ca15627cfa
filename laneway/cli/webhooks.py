"""`laneway callbacks`: list and replay the deliveries of outbound webhooks, enable and disable their receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from laneway.cli import destinations
from laneway.cli.base import DryRun, Json, out, print_json, print_models, say_error, source, valid
from laneway.cli.failures import refusal
from laneway.cli.source_parts import DeliverySelection
from laneway.cli.times import moment_option
from laneway.schemas.choices import EndpointState, TaskState

if TYPE_CHECKING:
    from laneway.cli.source_parts import Webhooks
    from laneway.schemas.outbound_webhook import EndpointView, ReplayResponse
    from laneway.schemas.task import TaskHandle

commands = typer.Typer(
    name="callbacks",
    no_args_is_help=True,
    add_completion=False,
    help="Outbound webhooks: the log of deliveries, and their receivers.",
)
destinations.add_commands(commands)

Delivery = Annotated[str, typer.Argument(help="The delivery's id; it is also its task's id.")]
Receiver = Annotated[str, typer.Argument(help="The endpoint's id, see `laneway callbacks endpoints`.")]
Endpoint = Annotated[str | None, typer.Option(help="Only deliveries to this endpoint (its id).")]
Event = Annotated[str | None, typer.Option(help="Only deliveries of this event.")]
Since = Annotated[Any, moment_option("Only deliveries first attempted at this time or later: 2h (ago), 2026-01-31.")]
Until = Annotated[Any, moment_option("Only deliveries first attempted before this time: 2h (ago), 2026-01-31.")]


@commands.command("list")
def listing(
    endpoint: Endpoint = None,
    event: Event = None,
    state: Annotated[list[TaskState] | None, typer.Option(help="Only deliveries in this state; repeatable.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="The most deliveries to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the deliveries, newest first."""
    selected = DeliverySelection(endpoint=endpoint, event=event, states=tuple(state or ()), since=since, until=until)
    found = source(as_json=as_json).webhooks.deliveries(selected, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli import webhook_views

    return out.print(webhook_views.delivery_table(found) if found else "None.")


@commands.command()
def show(id: Delivery, as_json: Json = False) -> None:
    """Show one delivery: each attempt with the receiver's response, and the body."""
    found = source(as_json=as_json).webhooks.delivery(id)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    from laneway.cli import webhook_views

    out.print(webhook_views.field_table(found.delivery))
    out.print(webhook_views.attempt_table(found))
    return out.print(found.body)


@commands.command()
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Delivery ids. Without ids, the options select the deliveries.")
    ] = None,
    endpoint: Endpoint = None,
    event: Event = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All finished deliveries, not only those that failed for good.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most deliveries to replay, oldest first.")] = 100,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send deliveries again, with the same webhook-id."""
    if bool(ids) == bool(endpoint or since):
        raise typer.BadParameter("give either delivery ids, or --endpoint or --since or both")
    webhooks = source(as_json=as_json).webhooks
    if ids:
        return _replay_ids(webhooks, ids, as_json=as_json)
    from laneway.schemas.outbound_webhook import ReplayRequest

    request = valid(
        ReplayRequest,
        endpoint=endpoint,
        event=event,
        since=since,
        until=until,
        only_failed=not everything,
        limit=limit,
        dry_run=dry_run,
    )
    return _print_replayed(webhooks.replay_many(request), as_json=as_json)


def _replay_ids(webhooks: Webhooks, ids: list[str], *, as_json: bool) -> None:
    """Replay each delivery; a refused one does not stop the others. Exit code 1 if one was refused."""
    handles: list[TaskHandle] = []
    for id in ids:
        try:
            handles.append(webhooks.replay(id))
        except Exception as error:
            if (reason := refusal(error)) is None:
                raise
            say_error(reason)
    if as_json:
        print_json([handle.model_dump(mode="json") for handle in handles])
    else:
        out.print(f"{len(handles)} of {_deliveries(len(ids))} queued again.")
    if len(handles) < len(ids):
        raise typer.Exit(1)


@commands.command()
def endpoints(
    state: Annotated[EndpointState | None, typer.Option(help="Only receivers in this state.")] = None,
    url: Annotated[str | None, typer.Option(help="Only receivers whose address contains this text.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="The most receivers to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the receivers, the last used first."""
    found = source(as_json=as_json).webhooks.endpoints(state=state, url=url, limit=limit)
    if as_json:
        return print_models(found)
    from laneway.cli import webhook_views

    return out.print(webhook_views.endpoint_table(found) if found else "None.")


@commands.command()
def enable(id: Receiver, as_json: Json = False) -> None:
    """Send to a receiver again, and close its alert. Use `replay` for the deliveries that failed meanwhile."""
    _print_endpoint(source(as_json=as_json).webhooks.enable(id), as_json=as_json)


@commands.command()
def disable(id: Receiver, as_json: Json = False) -> None:
    """Send nothing to a receiver until it is enabled."""
    _print_endpoint(source(as_json=as_json).webhooks.disable(id), as_json=as_json)


def _print_endpoint(endpoint: EndpointView, *, as_json: bool) -> None:
    if as_json:
        return print_json(endpoint.model_dump(mode="json"))
    return out.print(f"{endpoint.url} is {endpoint.state}.")


def _print_replayed(replayed: ReplayResponse, *, as_json: bool) -> None:
    """Print what was replayed, or would be. Exit code 1 if a delivery was refused or none matched."""
    if as_json:
        print_json(replayed.model_dump(mode="json"))
    elif replayed.dry_run:
        out.print("\n".join([f"{_deliveries(replayed.matched)} would be sent again.", *replayed.samples]))
    else:
        out.print(f"{replayed.done} of {_deliveries(replayed.matched)} queued again.")
        for id, reason in replayed.refused.items():
            out.print(f"{id}: {reason}")
    if replayed.refused or (replayed.matched == 0 and not replayed.dry_run):
        raise typer.Exit(1)


def _deliveries(number: int) -> str:
    return "1 delivery" if number == 1 else f"{number} deliveries"
