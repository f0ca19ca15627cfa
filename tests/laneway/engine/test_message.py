"""Records, ids and keys: what is encoded is decoded to the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.errors import InvalidKeyPrefix, InvalidMessage
from laneway.engine.keys import NAMES, Keyspace
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
        body_known=st.booleans(),
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
    assert Keyspace().queue("a b") == b"laneway:{a b}"
    for keys in (Keyspace(), Keyspace("shop:"), Keyspace("größe", 3)):
        assert {keys.queue_of(keys.key("crm", name)) for name in NAMES} == {"crm"}


def test_all_keys_and_channels_of_a_prefix_begin_with_it() -> None:
    keys = Keyspace("shop:", 2)
    names = [keys.queue("q"), keys.key("q", "ready"), keys.wakeup("q"), keys.bindings("e"), keys.fanout("e")]
    assert all(name.startswith(b"shop:laneway:") for name in names)
    assert keys.exchange_of(keys.fanout("celery.pidbox")) == "celery.pidbox"
    assert Keyspace("shop:", 1).fanout("e") != keys.fanout("e")


@pytest.mark.parametrize("prefix", ["{a}", "a}", "x" * 201, None, b"shop"])
def test_a_prefix_that_would_break_the_keys_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidKeyPrefix, match="without braces"):
        Keyspace(prefix)
