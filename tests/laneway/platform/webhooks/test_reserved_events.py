"""Names of events that only the application itself may send."""

from __future__ import annotations

import pytest

from app.schemas.outbound_events import PLATFORM_EVENTS
from laneway.platform.webhooks.reserved_events import ReservedEvent, refuse_reserved_event

HOOK = "send_webhook_response_task"


def test_every_event_of_the_application_is_reserved_in_every_spelling() -> None:
    names = [*PLATFORM_EVENTS, "Message.Created", " message.created", "message\u200b.created", "message.created\n"]
    for event in (*names, "ｍessage.created", "message.\x00created"):
        with pytest.raises(ReservedEvent):
            refuse_reserved_event(HOOK, {"event": event})


def test_other_events_and_other_tasks_are_accepted() -> None:
    for payload in ({"event": "order.paid"}, {"event": "message.created.too"}, {"event": 5}, {}):
        refuse_reserved_event(HOOK, payload)
    refuse_reserved_event("weekly_report_task", {"event": "message.created"})
    refuse_reserved_event("no such task", {"event": "message.created"})
