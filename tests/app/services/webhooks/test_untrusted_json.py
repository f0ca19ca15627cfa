"""Hostile bodies are refused or bounded, and never crash a parser."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.schemas.tolerant import MAX_PROBLEMS
from app.services.webhooks.parsing import decode_body, parse_facebook, parse_generic, parse_google
from app.services.webhooks.parsing.untrusted_json import MAX_DEPTH, MAX_VALUES
from laneway.platform.errors import InvalidPayload


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"1",
        b'"a"',
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        nested(100_000),
        nested(MAX_DEPTH),
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidPayload):
        decode_body(raw, source="shop")


def test_depth_and_size_are_bounded_but_usable() -> None:
    assert decode_body(nested(MAX_DEPTH - 1), source="shop")
    with pytest.raises(InvalidPayload, match="values"):
        decode_body(json.dumps({"a": [0] * MAX_VALUES}).encode(), source="shop")


def test_characters_that_cannot_be_stored_are_replaced() -> None:
    raw = rb'{"a\u0000": "b\u0000c\ud800d", "e": 1e999, "f": ' + b"9" * 400 + b"}"
    body = decode_body(raw, source="shop")

    assert body == {"a�": "b�c�d", "e": None, "f": None}
    json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
party = st.fixed_dictionaries({}, optional={"id": anything, "user_ref": anything})
parts = dict.fromkeys(("message", "postback", "referral", "timestamp", "delivery", "optin"), anything)
item = st.fixed_dictionaries({"sender": party | anything}, optional=parts)
change = st.fixed_dictionaries(
    {"field": st.sampled_from(["leadgen", "feed", "messages"]) | anything, "value": item | anything}
)
entry = st.fixed_dictionaries(
    {"id": st.integers() | anything},
    optional={"messaging": st.lists(item | anything, max_size=3), "changes": st.lists(change | anything, max_size=3)},
)
facebook = st.fixed_dictionaries({"object": st.just("page"), "entry": st.lists(entry | anything, max_size=3)})
google = st.fixed_dictionaries(
    {"lead_id": st.text() | st.integers() | anything},
    optional={"user_column_data": st.lists(anything), "google_key": anything, "form_id": anything},
)
fields = ("id", "event_id", "type", "message", "message", "customer", "conversation_id", "timestamp", "is_test")
generic = st.fixed_dictionaries({}, optional=dict.fromkeys(fields, anything))


def check(parse: Any, body: Any) -> None:
    try:
        parsed = parse(body)
    except InvalidPayload as error:
        assert error.problems
        return
    stored = parsed.model_dump(mode="json")
    json.dumps(stored, allow_nan=False, ensure_ascii=False).encode()
    assert "\x00" not in str(stored)
    assert len({event.event_id for event in parsed.events}) == len(parsed.events)
    assert parse(body) == parsed


# What each platform must send, and the places where it may send anything at all without costing the event.
NEEDED: dict[str, tuple[Any, dict[str, Any], list[tuple[str | int, ...]]]] = {
    "facebook": (
        parse_facebook,
        {
            "object": "page",
            "entry": [{"id": "1", "messaging": [{"sender": {"id": "2"}, "message": {"mid": "m", "text": "hi"}}]}],
        },
        [
            *(("entry", 0, name) for name in ("time", "changes", "standby", "uid")),
            *(("entry", 0, "messaging", 0, name) for name in ("recipient", "timestamp", "postback", "referral")),
            *(
                ("entry", 0, "messaging", 0, "message", name)
                for name in ("text", "attachments", "quick_reply", "referral", "reply_to", "nlp")
            ),
            *(("entry", 0, "messaging", 0, "sender", name) for name in ("user_ref", "name")),
        ],
    ),
    "google": (
        parse_google,
        {"lead_id": "L"},
        [(name,) for name in ("user_column_data", "form_id", "campaign_id", "gcl_id", "lead_submit_time", "is_test")],
    ),
    "shop": (
        partial(parse_generic, "shop"),
        {"id": "e", "text": "hi"},
        [
            *((name,) for name in ("customer", "type", "event", "message", "is_test", "test", "conversation_id")),
            *((name,) for name in ("occurred_at", "timestamp", "created_at", "attachments", "data")),
            *(("customer", name) for name in ("id", "name", "email", "phone")),
        ],
    ),
}


def put(body: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a body with a value at a path."""
    name, *rest = path
    if isinstance(name, int):
        return [put(item, tuple(rest), value) if index == name else item for index, item in enumerate(body)]
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    return {**fields, name: put(fields.get(name), tuple(rest), value) if rest else value}


odd_times = st.sampled_from(
    ["", " ", "2026-01-01 10:00:05 UTC", "Thu, 01 Jan 2026 10:00:05 GMT", "1767261605.5", 1767261605250000, "soon"]
)


@pytest.mark.parametrize("source", NEEDED)
@given(data=st.data())
def test_no_value_in_an_optional_place_costs_the_event(source: str, data: st.DataObject) -> None:
    parse, body, places = NEEDED[source]
    (plain,) = parse(body).events
    for path in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)):
        body = put(body, path, data.draw(anything | odd_times | st.lists(anything)))
    found = [event for event in parse(body).events if event.event_id == plain.event_id]

    assert len(found) == 1
    assert found[0].unreadable is None
    assert found[0].interaction is not None
    assert len(found[0].problems) <= MAX_PROBLEMS + 1


@given(facebook | anything)
def test_nothing_that_facebook_could_send_crashes_the_parser(body: Any) -> None:
    check(parse_facebook, body)


@given(google | anything)
def test_nothing_that_google_could_send_crashes_the_parser(body: Any) -> None:
    check(parse_google, body)


@given(generic | anything, st.text(min_size=1))
def test_nothing_that_a_generic_source_could_send_crashes_the_parser(body: Any, source: str) -> None:
    check(partial(parse_generic, source), body)


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_nothing_that_could_be_posted_crashes_the_decoder(raw: bytes) -> None:
    try:
        assert isinstance(decode_body(raw, source="shop"), dict | list)
    except InvalidPayload as error:
        assert error.problems
