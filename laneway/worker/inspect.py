"""Makes `inspect scheduled` also list the tasks that wait in the broker, and `inspect stats` the slots of the worker.

Celery lists the tasks that the worker keeps in its memory until they are due. On this transport such tasks wait in the
broker, so each worker adds the first scheduled messages of the queues that it consumes. Workers of the same queue list
the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from celery.worker import control
from celery.worker.request import Request

from laneway.engine.replies import MessageState
from laneway.transport.channel import Channel
from laneway.transport.codec import from_stored
from laneway.worker.request import shown_request
from laneway.worker.slots import known_slots

MAX_LISTED = 100
"""The most messages listed per queue."""
_PRIORITY = 6  # as in the entries that Celery makes


def extend_inspect() -> None:
    """Replace Celery's command in this worker process. A second call does nothing."""
    celery_scheduled = control.Panel.data["scheduled"]
    if getattr(celery_scheduled, "lists_broker", False):
        return

    def scheduled(state: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """List of ETA/countdown tasks: held by this worker, or due later in its queues."""
        return [*celery_scheduled(state, **kwargs), *_scheduled_in_broker(state)]

    scheduled.lists_broker = True  # pyright: ignore[reportFunctionMemberAccess]
    control.inspect_command(alias="dump_schedule")(scheduled)


def show_slots() -> None:
    """Let `inspect stats` show `slots`: how many there are, are taken, and are awaited. A second call does nothing."""
    celery_stats = control.Panel.data["stats"]
    if getattr(celery_stats, "shows_slots", False):
        return

    def stats(state: Any, **kwargs: Any) -> dict[str, Any]:
        """Request worker statistics/information."""
        slots = known_slots(state.consumer)
        return celery_stats(state, **kwargs) | ({"slots": slots.counts()} if slots is not None else {})

    stats.shows_slots = True  # pyright: ignore[reportFunctionMemberAccess]
    stats.masks_logins = True  # pyright: ignore[reportFunctionMemberAccess]
    control.inspect_command()(stats)


def _scheduled_in_broker(state: Any) -> Iterator[dict[str, Any]]:
    task_consumer: Any = getattr(state.consumer, "task_consumer", None)
    channel: object = getattr(task_consumer, "channel", None)
    if not isinstance(channel, Channel) or channel.connection is None:
        return
    for queue in sorted({queue.name for queue in task_consumer.queues}):
        for peeked in channel.connection.engine.peek(queue, MessageState.SCHEDULED, limit=MAX_LISTED):
            due = datetime.fromtimestamp((peeked.at or 0) / 1000, UTC).isoformat()
            raw = from_stored(peeked.stored, queue=queue, deliveries=peeked.deliveries, tag="")
            raw["headers"].setdefault("eta", due)
            yield _entry(state.consumer, channel, raw, due)


def _entry(consumer: Any, channel: Channel, raw: dict[str, Any], due: str) -> dict[str, Any]:
    """Describe the message as Celery describes a request; only id and task if the message cannot be read here."""
    headers = raw["headers"]
    try:
        message = channel.Message(raw, channel=channel)
        request: Any = Request(message, app=consumer.app, hostname=consumer.hostname, headers=headers)
        described, eta = shown_request(request.info()), request.eta.isoformat()
    except Exception:  # noqa: BLE001 - anybody may have sent the message, and it is only shown
        described, eta = {"id": headers.get("id"), "name": headers.get("task")}, due
    return {"eta": eta, "priority": _PRIORITY, "request": described}
