"""`laneway queues`: look at, limit, pause and resume queues."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from laneway.cli import views
from laneway.cli.base import Json, make_services, out, print_json
from laneway.platform.schemas.queue import LONGEST_PERIOD, QueueLimits, QueueLimitsResponse

queues = typer.Typer(no_args_is_help=True, help="Queues: their limits, for all workers together.")

Queue = Annotated[str, typer.Argument(help="The queue's name.")]


@queues.command("list")
def listing(as_json: Json = False) -> None:
    """Every queue with its limits."""
    found = make_services().queue_limits.listing()
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    out.print(views.limits_table(found))
    return None


@queues.command()
def limit(
    queue: Queue,
    rate: Annotated[int | None, typer.Option(min=1, help="So many starts, at most, within --per seconds.")] = None,
    per: Annotated[float, typer.Option(min=0.1, max=LONGEST_PERIOD, help="The rate's period, in seconds.")] = 1,
    max_in_flight: Annotated[int | None, typer.Option(min=1, help="So many tasks with workers at a time.")] = None,
    as_json: Json = False,
) -> None:
    """Set a queue's limits; what is left out is lifted. A pause stays."""
    limits = make_services().queue_limits
    try:
        wanted = QueueLimits(rate=rate, per_seconds=per, max_in_flight=max_in_flight, paused=limits.of(queue).paused)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())) from None
    _tell(limits.put(queue, wanted), as_json=as_json)


@queues.command()
def pause(queue: Queue, as_json: Json = False) -> None:
    """Start nothing of a queue any more; what runs goes on, and what is submitted waits."""
    _tell(make_services().queue_limits.pause(queue), as_json=as_json)


@queues.command()
def resume(queue: Queue, as_json: Json = False) -> None:
    """Go on with a paused queue."""
    _tell(make_services().queue_limits.resume(queue), as_json=as_json)


def _tell(answer: QueueLimitsResponse, *, as_json: bool) -> None:
    if as_json:
        return print_json(answer.model_dump(mode="json"))
    out.print(views.limits_table([answer]))
    if not answer.in_force:
        out.print("The broker does not have it yet; workers see to it within a few seconds of its return.")
    return None
