"""States of events of inbound webhooks. It needs no pydantic, so that the help of a command stays quick."""

from __future__ import annotations

from enum import StrEnum


class EventState(StrEnum):
    """What became of an event."""

    HANDLED = "handled"
    """It has its task."""
    UNHANDLED = "unhandled"
    """No rule of the mapping is for it."""
    QUARANTINED = "quarantined"
    """It does not fit its rule, or cannot be read; `reason` says why."""
    DISCARDED = "discarded"
    """An operator decided that nothing follows."""
    TEST = "test"
    """Its sender marked it as a test, so nothing follows."""


OPEN = (EventState.QUARANTINED, EventState.UNHANDLED)
"""States without a task that wait for a decision of an operator."""
