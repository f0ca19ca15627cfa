"""Leases as text, hostile texts among them, and entries of the journal as the server returns them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine import AckAction, EventKind, Lease, Message
from laneway.engine.journal import read_entry, read_event
from laneway.engine.message import decode, encode

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
UUID = "0b8a1c1e-6f4e-4b0e-9f8e-2c5d2f2b7a11"


@given(queue=names, raw_id=st.binary(min_size=1, max_size=40), token=st.binary(min_size=1, max_size=40))
def test_a_lease_survives_its_text(queue: str, raw_id: bytes, token: bytes) -> None:
    lease = Lease(queue, raw_id, token)
    assert Lease.parse(str(lease)) == lease


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "61 62",
        "61 62 ",
        " 62 queue",
        "61  queue",
        "6 62 queue",
        "xx 62 queue",
        "61 host:1/abc/7 queue",
        "6 1 62 queue",
        "61\t61 62 queue",
        "6A 62 queue",
        "\uff11\uff11 62 queue",
        "61 \ud800 queue",
        "\0",
    ],
)
def test_a_text_that_is_no_lease_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Lease.parse(text)


@given(st.text())
def test_a_text_is_refused_or_is_the_only_text_of_its_lease(text: str) -> None:
    try:
        lease = Lease.parse(text)
    except ValueError:
        return
    assert str(lease) == text


def test_a_put_is_read_with_its_message() -> None:
    raw_id, record = encode(Message(task_id=UUID, name="app.work", body=b"x", key="k"))
    entry = [b"e", b"put", b"t", raw_id[1:], b"m", raw_id[1:], b"r", struct.pack(">d", 7.0) + record]
    event = read_event(b"1790000000123-4", entry)
    assert (event.cursor, event.at, event.kind) == ("1790000000123-4", 1790000000123, EventKind.PUT)
    assert (event.task_id, event.message_id) == (UUID, UUID)
    assert event.stored is not None
    assert (event.stored.score, event.stored.message.key, event.stored.message.body) == (7, "k", b"x")


def test_an_end_is_read_with_its_ack_action_and_outcome() -> None:
    entry = [b"e", b"end", b"t", b"t1", b"m", b"17", b"n", b"3", b"v", b"2", b"d", b"86400000", b"o", "é".encode()]
    event = read_event(b"5-0", entry)
    assert (event.task_id, event.message_id, event.attempt) == ("t1", "17", 3)
    assert (event.ack_action, event.delay_ms, event.outcome) == (AckAction.RETRY, 86_400_000, "é")
    assert event.stored is None


def test_text_that_is_not_utf8_does_not_stop_the_reader() -> None:
    event = read_event(b"5-0", [b"e", b"bury", b"t", b"t", b"m", b"t", b"x", b"\xff", b"y", b"a\xff", b"w", b"\xfe"])
    assert (event.reason, event.detail, event.worker) == ("\ufffd", "a\ufffd", "\ufffd")


@pytest.mark.parametrize(
    "fields",
    [
        [b"e", b"dance", b"t", b"t", b"m", b"t"],
        [],
        [b"e", b"put"],
        [b"e", b"begin", b"t", b"t", b"m", b"t", b"n", b"many"],
        [b"e", b"end", b"t", b"t", b"m", b"t", b"v", b"77"],
        [b"e", b"end", b"t", b"t", b"m", b"t", b"v", b"1", b"d", b"inf"],
        [b"e"],
    ],
)
def test_an_entry_that_cannot_be_read_is_an_event_that_shows_it(fields: list[bytes]) -> None:
    event = read_event(b"5-0", fields)
    assert (event.kind, event.cursor) == (EventKind.UNREADABLE, "5-0")
    assert repr(fields) in event.detail


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_arbitrary_fields_are_read_without_an_error(fields: list[bytes]) -> None:
    assert read_event(b"5-0", [b"e", b"put", b"t", b"t", b"m", b"t", b"r", *fields]).cursor == "5-0"


@given(st.binary(max_size=20), st.binary(max_size=60))
def test_an_arbitrary_record_is_a_message(raw_id: bytes, record: bytes) -> None:
    assert decode(raw_id, record).message.body in record


def test_a_purge_without_a_list_is_the_purge_of_one_message() -> None:
    (event,) = read_entry(b"5-0", [b"e", b"purge", b"t", b"t1", b"m", b"m1"])
    assert (event.kind, event.task_id, event.message_id) == (EventKind.PURGE, "t1", "m1")


@pytest.mark.parametrize(
    "fields", [[b"t", b"", b"m", b""], [b"t", b"", b"m", b"", b"l", b""], [b"t", b"", b"m", b"", b"l", b"\x01a"]]
)
def test_a_purge_that_names_no_message_is_an_event_that_shows_it(fields: list[bytes]) -> None:
    (event,) = read_entry(b"5-0", [b"e", b"purge", *fields])
    assert (event.kind, event.cursor) == (EventKind.UNREADABLE, "5-0"), "the reader goes on behind it"
