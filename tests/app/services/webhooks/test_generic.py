"""Payloads of any other source become events; a field that cannot be read costs only itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.services.webhooks.parsing import parse_generic
from app.services.webhooks.parsing.untrusted_json import conversation_id
from tests.fixtures.webhook_payloads import example, only, only_with_problem


def test_a_generic_message_continues_its_sources_conversation() -> None:
    event = only(parse_generic("shop", example("generic.json")))

    assert (event.kind, event.event_id) == ("page_message", "evt-2026-000417")
    assert event.interaction.conversation_id == "shop:order-88213"
    assert event.interaction.channel == "webhook"
    assert event.interaction.customer.name == "Tomas Veldhuis"
    assert event.occurred_at == datetime(2026, 1, 1, 10, 15, 30, tzinfo=UTC)


def test_a_source_cannot_write_into_another_sources_conversations() -> None:
    event = only(parse_generic("shop", {"id": 1, "text": "hi", "conversation_id": "facebook:104:730"}))

    assert event.interaction.conversation_id == "shop:facebook:104:730"
    assert conversation_id("a:b", "c") != conversation_id("a", "b:c")


def test_without_a_conversation_the_customer_is_the_conversation() -> None:
    def of(**customer: str) -> str:
        return only(parse_generic("shop", {"id": "e1", "text": "hi", "customer": customer})).interaction.conversation_id

    assert of(id="c-7") == "shop:customer:c-7"
    assert of(email="Ada@Example.com") == of(email="ada@example.com ")
    assert "ada" not in of(email="ada@example.com")
    assert of() == "shop:event:e1"


def test_without_an_id_the_same_body_is_the_same_event() -> None:
    first = only(parse_generic("shop", {"type": "stock.low", "item": 7, "left": 2}))
    again = only(parse_generic("shop", {"left": 2, "item": 7, "type": "stock.low"}))
    other = only(parse_generic("shop", {"type": "stock.low", "item": 7, "left": 1}))

    assert first.event_id == again.event_id != other.event_id
    assert (first.kind, first.name) == ("other", "stock.low")
    assert first.data == {"type": "stock.low", "item": 7, "left": 2}


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({"message": "hi"}, "page_message", "hi"),
        ({"message": {"text": "hi", "more": 1}}, "page_message", "hi"),
        ({"event": "lead.created"}, "lead_form", None),
        ({"type": "AD_CLICK"}, "ad_click", None),
        ({"type": "ticket.closed", "text": "done"}, "other", "done"),
    ],
)
def test_generic_types_and_texts_decide_the_kind(body: dict[str, Any], kind: str, text: str | None) -> None:
    event = only(parse_generic("shop", body))

    assert (event.kind, event.interaction.kind, event.interaction.message) == (kind, kind, text)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": {"a": 1}}, "id"),
        ({"type": ["order.paid"]}, "type"),
        ({"event": {"name": "order.paid"}}, "event"),
        ({"text": {"a": 1}}, "text"),
        ({"customer": "Ada"}, "customer"),
        ({"customer": {"id": "c", "email": ["a@b"]}}, "customer.email"),
        ({"message": 5.5, "conversation_id": {}}, "conversation_id"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": True}, "occurred_at"),
        ({"created_at": [1]}, "created_at"),
        ({"test": "?"}, "test"),
        ({"is_test": {"a": 1}}, "is_test"),
    ],
)
def test_a_generic_field_that_cannot_be_read_costs_only_itself(body: dict[str, Any], field: str) -> None:
    event = only_with_problem(parse_generic("shop", body), field)

    assert event.interaction.conversation_id.startswith("shop:")
    assert "yesterday" not in str(event.problems)


def test_of_fields_with_the_same_meaning_the_first_readable_one_counts() -> None:
    body = {"event_id": "", "id": 7, "type": None, "event": "order.paid", "timestamp": "", "created_at": 1767261605}
    event = only(parse_generic("shop", body))

    assert (event.event_id, event.name) == ("7", "order.paid")
    assert event.occurred_at == datetime(2026, 1, 1, 10, 0, 5, tzinfo=UTC)


def test_an_array_holds_one_event_per_item() -> None:
    events = parse_generic("shop", [{"id": 1}, {"id": 2}, {"id": 1}, None, "x"]).events

    assert [event.event_id for event in events[:2]] == ["1", "2"]
    assert [event.unreadable for event in events[2:]] == ["it is not an object"] * 2
    assert parse_generic("shop", []).events == []


SECOND = datetime(2026, 1, 1, 10, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "microsecond"),
    [
        (1767261605, 0),
        ("1767261605", 0),
        (" 1767261605 ", 0),
        (1767261605.25, 250_000),
        ("1767261605.25", 250_000),
        (1767261605250, 250_000),
        ("1767261605250", 250_000),
        (1767261605250000, 250_000),
        ("1767261605250000", 250_000),
        (1767261605250000000, 250_000),
        ("2026-01-01T10:00:05Z", 0),
        ("2026-01-01T10:00:05.250Z", 250_000),
        ("2026-01-01T11:00:05.25+01:00", 250_000),
        ("2026-01-01T11:00:05+0100", 0),
        ("2026-01-01 11:00:05 +0100", 0),
        ("2026-01-01 10:00:05", 0),
        ("2026-01-01 10:00:05 UTC", 0),
        ("2026-01-01T10:00:05.250000000 UTC", 250_000),
        ("20260101T100005Z", 0),
        ("Thu, 01 Jan 2026 10:00:05 GMT", 0),
        ("Thu, 1 Jan 2026 11:00:05 +0100", 0),
        ("01 Jan 2026 10:00:05 -0000", 0),
        ("Thu Jan  1 10:00:05 2026", 0),
    ],
)
def test_times_are_read_in_every_form_that_is_sent(value: Any, microsecond: int) -> None:
    event = only(parse_generic("shop", {"occurred_at": value}))

    assert event.occurred_at == SECOND.replace(microsecond=microsecond)


@pytest.mark.parametrize("value", ["soon", "12:30", "1e400", "9" * 200, "-5", 0, 10**25, 1e300, -(10**15), "Thu, 99"])
def test_what_is_no_time_is_a_problem_and_no_error(value: Any) -> None:
    assert only_with_problem(parse_generic("shop", {"occurred_at": value}), "occurred_at").occurred_at is None
