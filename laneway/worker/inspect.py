"""`inspect scheduled` shows what waits in the broker, too.

Celery lists what the worker holds in its memory until it is due. On this transport that is the broker's
to do, so each worker adds the first of what is scheduled in the queues it consumes; several workers of
one queue list the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from laneway.engine.replies import MessageState
from laneway.transport.channel import Channel
from laneway.transport.codec import from_stored

MOST = 100
"""Messages listed of each queue."""
_PRIORITY = 6  # what Celery's own entries of this list have


def extend_inspect() -> None:
    """In a worker process, once: put another command in the place of Celery's."""
    control: Any = sys.modules.get("celery.worker.control")
    if control is None or getattr(control.Panel.data["scheduled"], "with_broker", False):
        return
    celerys_own = control.Panel.data["scheduled"]

    def scheduled(state: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """List of ETA/countdown tasks: held by this worker, or due later in its queues."""
        return [*celerys_own(state, **kwargs), *_in_broker(state)]

    scheduled.with_broker = True  # pyright: ignore[reportFunctionMemberAccess]
    control.inspect_command(alias="dump_schedule")(scheduled)


def _in_broker(state: Any) -> Iterator[dict[str, Any]]:
    task_consumer: Any = getattr(state.consumer, "task_consumer", None)
    channel: object = getattr(task_consumer, "channel", None)
    if not isinstance(channel, Channel) or channel.connection is None:
        return
    for queue in sorted({queue.name for queue in task_consumer.queues}):
        for peeked in channel.connection.engine.peek(queue, MessageState.SCHEDULED, limit=MOST):
            due = datetime.fromtimestamp((peeked.at or 0) / 1000, UTC).isoformat()
            raw = from_stored(peeked.stored, queue=queue, deliveries=peeked.deliveries, tag="")
            raw["headers"].setdefault("eta", due)
            yield _entry(state.consumer, channel, raw, due)


def _entry(consumer: Any, channel: Channel, raw: dict[str, Any], due: str) -> dict[str, Any]:
    """As Celery describes a request; less of it if the message cannot be read here."""
    from celery.worker.request import Request

    headers = raw["headers"]
    try:
        message = channel.Message(raw, channel=channel)
        request: Any = Request(message, app=consumer.app, hostname=consumer.hostname, headers=headers)
        described, eta = request.info(), request.eta.isoformat()
    except Exception:  # noqa: BLE001 - what is listed was not made by us, and is only shown
        described, eta = {"id": headers.get("id"), "name": headers.get("task")}, due
    return {"eta": eta, "priority": _PRIORITY, "request": described}
