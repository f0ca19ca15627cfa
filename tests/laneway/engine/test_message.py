"""Records, ids and keys: what is encoded is decoded to the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.errors import InvalidMessage
from laneway.engine.keys import NAMES, key, prefix, queue_of
from laneway.engine.message import Message, Unique, UniqueMode, decode, encode, pack_id, unpack_id

ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
SCORE = b"\x43\x1c\xca\xca\xca\xca\xca\xca"


@given(ids | st.uuids().map(str))
def test_every_id_survives_packing(id: str) -> None:
    assert unpack_id(pack_id(id)) == id


@given(
    st.builds(
        Message,
        task_id=ids,
        id=ids,
        name=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        body=st.binary(max_size=60),
        priority=st.integers(0, 9),
        key=st.none() | ids,
        eta_ms=st.none() | st.integers(0, 2**48),
        unique=st.none() | st.builds(Unique, ids, st.just(UniqueMode.UNTIL_DONE), st.integers(0, 2**40)),
        max_deliveries=st.none() | st.integers(1, 65535),
    )
)
def test_every_message_survives_storage(message: Message) -> None:
    _, record = encode(message)
    assert message.id
    assert decode(pack_id(message.id), SCORE + record).message == message


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 10},
        {"task_id": ""},
        {"task_id": "a\0"},
        {"key": ""},
        {"name": "n" * 256},
        {"max_deliveries": 0x10000},
    ],
)
def test_a_field_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        encode(replace(Message(task_id="t"), **wrong))  # pyright: ignore[reportArgumentType]


def test_keys_of_a_queue_share_a_slot_and_name_the_queue() -> None:
    assert prefix("a b") == b"laneway:{a b}"
    assert {queue_of(key("crm", name)) for name in NAMES} == {"crm"}
