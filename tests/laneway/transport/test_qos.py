"""How many messages a channel may hold."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Queue

from laneway.engine import Engine, Message


@pytest.fixture
def channel(engine_url: str) -> Generator[Any]:
    # a lease of its own: the keeper of leases is shared by the connections of a process with the same options
    options = {"lease": 2 + time.monotonic() % 1}
    with Connection(engine_url, transport="laneway:Transport", transport_options=options) as connection:
        yield connection.channel()


def test_reading_the_room_changes_nothing(channel: Any) -> None:
    qos, lease_keeper = channel.qos, channel.connection.lease_keeper
    qos.prefetch_count = 5
    assert (qos.room, qos.room, lease_keeper.prefetch_count) == (5, 5, 0)
    qos.remember_prefetch_count()
    assert (qos.room, lease_keeper.prefetch_count) == (5, 5)


def test_a_held_message_takes_room_until_it_is_acked(channel: Any, engine: Engine) -> None:
    engine.put("some", Message(task_id="t", name="x", body=b"\0[]"))
    channel.qos.prefetch_count = 5
    message = Queue("some")(channel).get()
    assert message is not None
    assert channel.qos.room == 4
    message.ack()
    assert channel.qos.room == 5


def test_messages_that_are_kept_of_a_lost_connection_take_room(channel: Any, engine: Engine) -> None:
    engine.put("some", Message(task_id="t", name="x", body=b"\0[]"))
    lease_keeper, qos = channel.connection.lease_keeper, channel.qos
    qos.prefetch_count = 5
    qos.remember_prefetch_count()
    message = Queue("some")(channel).get()
    (tag,) = qos.held
    lease_keeper.retain(qos.held.pop(tag), message, started=False)
    assert qos.room == 4
    qos.prefetch_count = 1  # as Celery has it for a while after a cut
    qos.remember_prefetch_count()
    assert lease_keeper.prefetch_count == 5, "the count of before the cut"
    lease_keeper.drop(lease_keeper._retained[next(iter(lease_keeper._retained))][0])  # pyright: ignore[reportPrivateUsage]


def test_too_many_unsent_acks_leave_no_room(channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laneway.transport.lease_keeper.MAX_UNCONFIRMED", 0)
    assert channel.qos.room == 0
