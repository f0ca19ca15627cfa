"""`laneway queues`: show, limit, pause and resume queues; the queues of tasks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from laneway.cli.base import Json, out, print_json, print_models, source, valid
from laneway.cli.completion import complete
from laneway.cli.target import target
from laneway.cli.times import duration

commands = typer.Typer(
    name="queues",
    no_args_is_help=True,
    add_completion=False,
    help="Queues: show and set rate limits and limits of running tasks; pause and resume.",
)

Queue = Annotated[str, typer.Argument(help="The name of the queue.", autocompletion=complete("queues"))]


@commands.command("list")
def listing(as_json: Json = False) -> None:
    """List the queues with their limits."""
    found = source(as_json=as_json, reads=True).limits()
    if as_json:
        return print_models(found.queues)
    from laneway.cli import views

    out.print(views.limits_table(found.queues))
    for unknown in found.unknown:
        out.print(views.unknown_queue_line(unknown))
    return None


@commands.command()
def limit(
    queue: Queue,
    rate: Annotated[int | None, typer.Option(min=1, help="Start at most this many tasks within --per seconds.")] = None,
    per: Annotated[float, duration("The period of --rate: 1s, 1m, 1h.")] = 1,
    max_in_flight: Annotated[int | None, typer.Option(min=1, help="Run at most this many tasks at a time.")] = None,
    max_wait: Annotated[
        float | None, duration("Let tasks that have waited for longer go before all priorities: 10m, 2h.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Set the limits of a queue, for all workers together. A limit that is not given is removed; a pause stays."""
    changes = {"rate": rate, "per_seconds": per, "max_in_flight": max_in_flight, "max_wait_seconds": max_wait}
    _set(queue, changes, as_json=as_json)


@commands.command()
def pause(queue: Queue, as_json: Json = False) -> None:
    """Start no more tasks of a queue. Running tasks go on; new tasks wait."""
    _set(queue, {"paused": True}, as_json=as_json)


@commands.command()
def resume(queue: Queue, as_json: Json = False) -> None:
    """Start the tasks of a paused queue again."""
    _set(queue, {"paused": False}, as_json=as_json)


def _set(queue: str, changes: dict[str, Any], *, as_json: bool) -> None:
    """Change some of a queue's limits; the others stay."""
    platform = source(as_json=as_json)
    from laneway.schemas.queue import QueueLimits

    now = platform.limits_of(queue).model_dump(include=set(QueueLimits.model_fields))
    wanted = valid(QueueLimits, **{**now, **changes})
    limits = platform.set_limits(queue, wanted)
    if as_json:
        return print_json(limits.model_dump(mode="json"))
    from laneway.cli import views

    out.print(views.limits_table([limits]))
    if not limits.in_force:
        out.print("The broker does not have the limits yet; a worker sets them seconds after the broker is back.")
    return None


@commands.command()
def routes(as_json: Json = False) -> None:
    """List the tasks with their queues. With --json: a value for `task_routes` of another Celery app."""
    target.require_local()
    from laneway.platform.application import application
    from laneway.platform.submission.routes import registered_routes

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
    taken = source(as_json=as_json).maintenance.take_in(queue)
    if as_json:
        return print_json({"taken": taken})
    out.print("1 task taken in." if taken == 1 else f"{taken} tasks taken in.")
    return None
