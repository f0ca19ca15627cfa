"""Hands a message on that this worker is too old, or too new, to know.

While two versions of an application run at once, a worker meets tasks and fields that only workers of the other version
know. It gives such a message back: to its old position, and without counting the delivery. Workers that have not met it
get it at once; this one leaves it to them for 2 s, and then longer each time, so that other messages pass. When no
worker has taken the message in `laneway_hand_on_seconds` (a setting of the Celery app, 3600), it becomes a dead letter
that says what no worker knew.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import Ignore, TaskError

from laneway.engine.lease import HandOn
from laneway.transport.channel import ReadMessage

logger = logging.getLogger(__name__)

SETTING: Final = "laneway_hand_on_seconds"
LONGEST: Final = 3600.0
"""Seconds after which a message that was handed on becomes a dead letter, unless the setting says otherwise."""
UNREGISTERED: Final = "unregistered"
"""Reason of the dead letter when no worker knew the task."""
UNREADABLE_PAYLOAD: Final = "unknown payload"
"""Reason of the dead letter when no worker knew the fields of the payload."""
MOST_REPORTED: Final = 1000

_reported: set[str] = set()


@dataclass(frozen=True, slots=True)
class Unknown:
    """What this worker does not know. `what` completes the sentence "This worker does not know …"."""

    what: str
    reason: str
    advice: str

    def dead_letter(self, queue: str, seconds: float) -> str:
        """The sentence of the dead letter."""
        waited = f"all those that met it in {seconds:g} s handed it on"
        return f"No worker of the queue {queue!r} knows {self.what} ({waited}). {self.advice}, then retry it."


class UnknownHere(Ignore):
    """A task whose request is Laneway's raises it to have its message handed on to another worker.

    Celery logs an Ignore in one line, and a Reject with a traceback each time.
    """

    def __init__(self, what: str, reason: str, advice: str) -> None:
        super().__init__(what, reason, advice)  # it must survive pickling
        self.unknown = Unknown(what, reason, advice)

    def __str__(self) -> str:
        return f"this worker does not know {self.unknown.what}"


class NotHandled(TaskError):
    """No worker has taken the message: the result of a task that was handed on for too long."""


def unknown_task(name: str) -> Unknown:
    """What is unknown when no task of this name is registered."""
    return Unknown(
        f"the task {name!r}",
        UNREGISTERED,
        "Deploy workers whose code has this task, or correct its name where it is sent",
    )


def longest_of(app: Any) -> float:
    """Seconds for which the workers of this app hand a message on."""
    return float(app.conf.get(SETTING, LONGEST))


def hand_on(message: Any, unknown: Unknown, *, app: Any, worker: str) -> bool:
    """Hand a message of the engine on. False: that took too long, and it has become a dead letter."""
    report(unknown, worker)
    if not isinstance(message, ReadMessage):
        message.reject(requeue=True)
        return True
    queue, longest = str((message.delivery_info or {}).get("routing_key") or ""), longest_of(app)
    text = f"{worker} does not know {unknown.what}, and hands the message on"
    note = json.dumps({"level": "warning", "text": text, "data": {}})
    how = HandOn(longest, unknown.reason, unknown.dead_letter(queue, longest), note)
    return message.hand_on(how)


def report(unknown: Unknown, worker: str) -> None:
    """Log what this worker does not know, once."""
    if unknown.what in _reported:
        return
    if len(_reported) >= MOST_REPORTED:
        _reported.clear()
    _reported.add(unknown.what)
    logger.warning("%s does not know %s. It hands such messages on to other workers", worker, unknown.what)
