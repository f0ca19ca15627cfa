"""`laneway callbacks`: outbound webhooks, what their receivers answered, and sending them again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from laneway.cli import views
from laneway.cli.base import Json, make_services, out, print_json
from laneway.platform import clock
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.errors import PlatformError
from laneway.platform.schemas.outbound_webhook import (
    DeliveryDetailsView,
    DeliveryView,
    EndpointState,
    EndpointView,
    ReplayResponse,
)
from laneway.platform.schemas.task import FINISHED, TaskHandle, TaskState
from laneway.platform.webhooks.delivery_log import DeliveryLog
from laneway.platform.webhooks.views import describe_delivery, describe_details, describe_endpoint, describe_replay

callbacks = typer.Typer(no_args_is_help=True, help="Outbound webhooks: the log of deliveries, and their receivers.")

Delivery = Annotated[str, typer.Argument(help="The delivery's id, which is its task's.")]
Receiver = Annotated[str, typer.Argument(help="The endpoint's id, see `laneway callbacks endpoints`.")]
Endpoint = Annotated[str | None, typer.Option(help="Those of one endpoint, by its id.")]
Event = Annotated[str | None, typer.Option(help="Those of one event.")]
Since = Annotated[datetime | None, typer.Option(help="First attempted at or after (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="First attempted before (UTC).")]


@callbacks.command("list")
def listing(
    endpoint: Endpoint = None,
    event: Event = None,
    state: Annotated[list[TaskState] | None, typer.Option(help="May be given several times.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """The deliveries, newest first."""
    which = DeliveryFilter(
        endpoint=endpoint, event=event, states=tuple(state or ()), since=clock.aware(since), until=clock.aware(until)
    )
    found = [describe_delivery(one) for one in make_services().delivery_log.page(which, limit=limit)]
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    out.print(_deliveries(found) if found else "None.")
    return None


@callbacks.command()
def show(id: Delivery, as_json: Json = False) -> None:
    """One delivery: each attempt with what was answered, and the body."""
    found = describe_details(make_services().delivery_log.show(id))
    if as_json:
        return print_json(found.model_dump(mode="json"))
    out.print(_fields(found.delivery))
    out.print(_attempts(found))
    out.print(found.body, soft_wrap=True)
    return None


@callbacks.command()
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Delivery ids; without any, those that the options choose.")
    ] = None,
    endpoint: Endpoint = None,
    event: Event = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Not only those that failed for good.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, oldest first.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many and which, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send deliveries again, under the same webhook-id."""
    if bool(ids) == bool(endpoint or since):
        raise typer.BadParameter("name the delivery ids, or --endpoint, --since, or both")
    log = make_services().delivery_log
    if ids:
        return _replay(log, ids, as_json=as_json)
    which = DeliveryFilter(
        endpoint=endpoint,
        event=event,
        states=FINISHED if everything else (),
        since=clock.aware(since),
        until=clock.aware(until),
    )
    return _tell(describe_replay(log.replay_many(which, limit=limit, dry_run=dry_run)), as_json=as_json)


def _replay(log: DeliveryLog, ids: list[str], *, as_json: bool) -> None:
    """Each of them; one that is refused does not hold up the others."""
    handles: list[TaskHandle] = []
    for id in ids:
        try:
            handles.append(log.replay(id))
        except PlatformError as error:
            typer.echo(str(error), err=True)
    if as_json:
        print_json([handle.model_dump(mode="json") for handle in handles])
    else:
        out.print(f"{len(handles)} of {_number(len(ids))} queued again.")
    if len(handles) < len(ids):
        raise typer.Exit(1)


@callbacks.command()
def endpoints(
    state: Annotated[EndpointState | None, typer.Option(help="Only those in this state.")] = None,
    url: Annotated[str | None, typer.Option(help="Part of the address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """The receivers, the last used first."""
    found = [
        describe_endpoint(one) for one in make_services().outbound_webhooks.endpoints(state=state, url=url, limit=limit)
    ]
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    out.print(_endpoints(found) if found else "None.")
    return None


@callbacks.command()
def enable(id: Receiver, as_json: Json = False) -> None:
    """Send to a receiver again, and close its alert; what failed meanwhile is sent again by `replay`."""
    _told(describe_endpoint(make_services().outbound_webhooks.enable(id)), as_json=as_json)


@callbacks.command()
def disable(id: Receiver, as_json: Json = False) -> None:
    """Send nothing to a receiver until it is enabled."""
    _told(describe_endpoint(make_services().outbound_webhooks.disable(id)), as_json=as_json)


def _told(endpoint: EndpointView, *, as_json: bool) -> None:
    if as_json:
        return print_json(endpoint.model_dump(mode="json"))
    return out.print(f"{endpoint.url} is {endpoint.state}.")


def _tell(done: ReplayResponse, *, as_json: bool) -> None:
    if as_json:
        print_json(done.model_dump(mode="json"))
    elif done.dry_run:
        out.print("\n".join([f"{_number(done.matched)} would be sent again.", *done.samples]))
    else:
        out.print(f"{done.done} of {_number(done.matched)} queued again.")
        for id, why in done.refused.items():
            out.print(f"{id}: {why}")
    if done.refused or (done.matched == 0 and not done.dry_run):
        raise typer.Exit(1)


def _deliveries(found: list[DeliveryView]) -> Table:
    whole_id = Column("delivery id, receiver or error", overflow="fold", min_width=36)  # it is there to be copied
    table = Table(whole_id, "event", "state", "attempts", "status", "first", box=None, header_style="bold")
    for one in found:
        about = Text(one.delivery_id).append(f"\n{one.error or one.url}", style="dim")
        table.add_row(
            about,
            one.event,
            views.state(one.state),
            str(one.attempts),
            str(one.status or ""),
            views.moment(one.created_at),
        )
    return table


def _endpoints(found: list[EndpointView]) -> Table:
    whole_id = Column("endpoint id", overflow="fold", min_width=32)
    table = Table(
        whole_id, "receiver", "state", "failures", "since", "last success", "reason", box=None, header_style="bold"
    )
    for one in found:
        table.add_row(
            one.endpoint_id,
            one.url,
            one.state,
            str(one.consecutive_failures),
            _when(one.failing_since),
            _when(one.last_success_at),
            one.reason or "",
        )
    return table


def _attempts(found: DeliveryDetailsView) -> Table:
    table = Table("attempt", "started", "ms", "status", "error", "answer", box=None, header_style="bold")
    for one in found.attempts:
        table.add_row(
            str(one.number),
            views.moment(one.started_at),
            str(one.duration_ms or ""),
            str(one.status or ""),
            (one.error or "")[:80],
            (one.answer or "")[:80],
        )
    return table


def _fields(delivery: DeliveryView) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, value in delivery.model_dump(exclude_none=True).items():
        table.add_row(name, views.fact(value))
    return table


def _number(deliveries: int) -> str:
    return "1 delivery" if deliveries == 1 else f"{deliveries} deliveries"


def _when(value: datetime | None) -> str:
    return views.moment(value) if value else ""
