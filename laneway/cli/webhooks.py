"""`laneway callbacks`: list and replay the deliveries of outbound webhooks, enable and disable their receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from laneway.cli import destinations
from laneway.cli.base import DryRun, Json, make_services, out, print_json, say_error
from laneway.cli.times import moment_option
from laneway.schemas.choices import EndpointState, TaskState

if TYPE_CHECKING:
    from laneway.platform.db.models import OutboundEndpoint
    from laneway.platform.webhooks.delivery_log import DeliveryLog
    from laneway.schemas.outbound_webhook import ReplayResponse
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
    from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
    from laneway.platform.webhooks.views import describe_delivery

    selected = DeliveryFilter(endpoint=endpoint, event=event, states=tuple(state or ()), since=since, until=until)
    found = [describe_delivery(delivery) for delivery in make_services().delivery_log.page(selected, limit=limit)]
    if as_json:
        return print_json([view.model_dump(mode="json") for view in found])
    from laneway.cli import webhook_views

    return out.print(webhook_views.delivery_table(found) if found else "None.")


@commands.command()
def show(id: Delivery, as_json: Json = False) -> None:
    """Show one delivery: each attempt with the receiver's response, and the body."""
    from laneway.platform.webhooks.views import describe_details

    found = describe_details(make_services().delivery_log.show(id))
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
    from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
    from laneway.platform.webhooks.views import describe_replay
    from laneway.schemas.task import FINISHED

    if bool(ids) == bool(endpoint or since):
        raise typer.BadParameter("give either delivery ids, or --endpoint or --since or both")
    log = make_services().delivery_log
    if ids:
        return _replay_ids(log, ids, as_json=as_json)
    selected = DeliveryFilter(
        endpoint=endpoint,
        event=event,
        states=FINISHED if everything else (),
        since=since,
        until=until,
    )
    return _print_replayed(describe_replay(log.replay_many(selected, limit=limit, dry_run=dry_run)), as_json=as_json)


def _replay_ids(log: DeliveryLog, ids: list[str], *, as_json: bool) -> None:
    """Replay each delivery; a refused one does not stop the others. Exit code 1 if one was refused."""
    from laneway.platform.errors import PlatformError

    handles: list[TaskHandle] = []
    for id in ids:
        try:
            handles.append(log.replay(id))
        except PlatformError as error:
            say_error(str(error))
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
    from laneway.platform.webhooks.views import describe_endpoint

    receivers = make_services().outbound_webhooks.endpoints(state=state, url=url, limit=limit)
    found = [describe_endpoint(receiver) for receiver in receivers]
    if as_json:
        return print_json([view.model_dump(mode="json") for view in found])
    from laneway.cli import webhook_views

    return out.print(webhook_views.endpoint_table(found) if found else "None.")


@commands.command()
def enable(id: Receiver, as_json: Json = False) -> None:
    """Send to a receiver again, and close its alert. Use `replay` for the deliveries that failed meanwhile."""
    _print_endpoint(make_services().outbound_webhooks.enable(id), as_json=as_json)


@commands.command()
def disable(id: Receiver, as_json: Json = False) -> None:
    """Send nothing to a receiver until it is enabled."""
    _print_endpoint(make_services().outbound_webhooks.disable(id), as_json=as_json)


def _print_endpoint(row: OutboundEndpoint, *, as_json: bool) -> None:
    from laneway.platform.webhooks.views import describe_endpoint

    endpoint = describe_endpoint(row)
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
