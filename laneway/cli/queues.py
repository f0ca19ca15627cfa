"""`laneway queues`: show, limit, pause and resume queues; the queues of tasks."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ValidationError

from laneway.cli import views
from laneway.cli.base import Json, make_services, out, print_json, say_missing
from laneway.platform.application import application
from laneway.platform.submission.routes import registered_routes
from laneway.schemas.queue import LONGEST_PERIOD, QueueLimits, QueueLimitsResponse

commands = typer.Typer(
    name="queues",
    no_args_is_help=True,
    help="Queues: show and set rate limits and limits of running tasks; pause and resume.",
)

Queue = Annotated[str, typer.Argument(help="The name of the queue.")]


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the queues with their limits."""
    services = make_services()
    limits = services.queue_limits.listing()
    if services.broker.engine is not None and any(queue.in_force is None for queue in limits):
        say_missing("These are the limits as they were set. The broker cannot be asked whether they are in force.")
    if as_json:
        return print_json([queue.model_dump(mode="json") for queue in limits])
    out.print(views.limits_table(limits))
    for unknown in services.unknown_queues.listing():
        out.print(views.unknown_queue_line(unknown))
    return None


@commands.command()
def limit(
    queue: Queue,
    rate: Annotated[int | None, typer.Option(min=1, help="Start at most this many tasks within --per seconds.")] = None,
    per: Annotated[float, typer.Option(min=0.1, max=LONGEST_PERIOD, help="The period of --rate, in seconds.")] = 1,
    max_in_flight: Annotated[int | None, typer.Option(min=1, help="Run at most this many tasks at a time.")] = None,
    as_json: Json = False,
) -> None:
    """Set the limits of a queue, for all workers together. A limit that is not given is removed; a pause stays."""
    limits = make_services().queue_limits
    try:
        wanted = QueueLimits(rate=rate, per_seconds=per, max_in_flight=max_in_flight, paused=limits.of(queue).paused)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())) from None
    _print_limits(limits.put(queue, wanted), as_json=as_json)


@commands.command()
def pause(queue: Queue, as_json: Json = False) -> None:
    """Start no more tasks of a queue. Running tasks go on; new tasks wait."""
    _print_limits(make_services().queue_limits.pause(queue), as_json=as_json)


@commands.command()
def resume(queue: Queue, as_json: Json = False) -> None:
    """Start the tasks of a paused queue again."""
    _print_limits(make_services().queue_limits.resume(queue), as_json=as_json)


@commands.command()
def routes(as_json: Json = False) -> None:
    """List the tasks with their queues. With --json: a value for `task_routes` of another Celery app."""
    application().celery_app()  # registers the tasks
    found = registered_routes()
    if as_json:
        return print_json(found)
    width = max(map(len, found), default=0)
    for name, route in found.items():
        out.print(f"{name:<{width}}  {route['queue']}")
    return None


@commands.command("take-in")
def take_in(queue: Queue, as_json: Json = False) -> None:
    """Queue the tasks that other programs have sent under a name that is no queue of this platform.

    Each registered task goes to the queue of its declaration; the others stay where they are.
    """
    taken = make_services().intake.take(queue)
    if as_json:
        return print_json({"taken": taken})
    out.print("1 task taken in." if taken == 1 else f"{taken} tasks taken in.")
    return None


def _print_limits(limits: QueueLimitsResponse, *, as_json: bool) -> None:
    if as_json:
        return print_json(limits.model_dump(mode="json"))
    out.print(views.limits_table([limits]))
    if not limits.in_force:
        out.print("The broker does not have the limits yet; a worker sets them seconds after the broker is back.")
    return None
