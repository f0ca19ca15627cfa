"""Names of events that only the application itself may send: a receiver acts on them as on a report of the platform."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

from laneway.platform.errors import PermanentError
from laneway.platform.registry import registry

DELIVERY_ROLE: Final = "delivering outbound webhooks"
"""The role of the task that delivers outbound webhooks."""
TASK_EVENT: Final = "task."
"""What the names of the platform's events of tasks begin with; see `event_webhooks`. All such names are reserved."""
_reserved: set[str] = set()


class ReservedEvent(PermanentError):
    """A caller tried to send an event of the platform."""

    title = "Reserved event"

    template = "The event {event!r} is sent by the platform itself: choose another name."
    event: str


def reserve_events(names: Iterable[str]) -> None:
    """Reserve the names of these events for the application's own code."""
    _reserved.update(map(_plain, names))


def refuse_reserved_event(task: str, payload: Mapping[str, Any]) -> None:
    """Raise ReservedEvent if a caller's task would send an event with a reserved name, in any spelling of it."""
    spec = registry.get(task)
    if spec is None or spec.role != DELIVERY_ROLE:
        return
    event = payload.get("event")
    if isinstance(event, str) and (_plain(event) in _reserved or _plain(event).startswith(TASK_EVENT)):
        raise ReservedEvent(event[:100])


def _plain(name: str) -> str:
    """The name as a careless receiver may compare it: without case, blanks, invisible characters and other widths."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if unicodedata.category(character)[0] not in "ZC")
