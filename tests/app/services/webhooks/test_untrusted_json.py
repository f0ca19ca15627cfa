"""Hostile bodies are refused or bounded, and never crash a parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.webhooks.parsing import decode_body, parse_facebook, parse_generic, parse_google
from app.services.webhooks.parsing.untrusted_json import MAX_DEPTH, MAX_VALUES
from laneway.platform.errors import InvalidPayload


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'{"a": NaN}', b'{"a": Infinity}', nested(100_000), nested(MAX_DEPTH)],
)
def test_a_body_that_is_not_a_plain_json_object_is_refused(raw: bytes) -> None:
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


@given(facebook | anything)
def test_nothing_that_facebook_could_send_crashes_the_parser(body: Any) -> None:
    check(parse_facebook, body)


@given(google | anything)
def test_nothing_that_google_could_send_crashes_the_parser(body: Any) -> None:
    check(parse_google, body)


@given(generic | anything, st.text(min_size=1))
def test_nothing_that_a_generic_source_could_send_crashes_the_parser(body: Any, source: str) -> None:
    check(lambda value: parse_generic(source, value), body)


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_nothing_that_could_be_posted_crashes_the_decoder(raw: bytes) -> None:
    try:
        assert isinstance(decode_body(raw, source="shop"), dict)
    except InvalidPayload as error:
        assert error.problems
