"""Bindings of queues to exchanges: those of queues that are gone go, and what is no binding is ignored."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Producer

from laneway.engine import Engine
from laneway.transport.binding import Binding
from tests.fixtures.waiting import wait_until

REPLIES = Exchange("reply.celery.pidbox", type="direct")


@pytest.fixture
def connection(engine_url: str) -> Generator[Any]:
    with Connection(engine_url, transport="laneway:Transport") as connection:
        yield connection


def declare(connection: Any, name: str, *, expires: float | None) -> None:
    Queue(name, REPLIES, name, expires=expires, durable=False)(connection.channel()).declare()


def keys(engine: Engine) -> set[bytes]:
    return set(engine.runner.call("KEYS", "*"))


def test_a_reply_to_a_queue_that_has_expired_does_not_make_it_anew(
    connection: Any, engine: Engine, engine_url: str
) -> None:
    declare(connection, "killed", expires=0.2)
    declare(connection, "lasting", expires=None)
    wait_until(lambda: not engine.runner.call("EXISTS", engine.keys.key("killed", "limits")), seconds=5)
    with Connection(engine_url, transport="laneway:Transport") as worker:
        producer = Producer(worker.channel(), REPLIES)
        producer.publish({"ok": "pong"}, routing_key="killed")
        producer.publish({"ok": "pong"}, routing_key="lasting")
    assert engine.stats(["killed"])[0].waiting == 0
    assert engine.stats(["lasting"])[0].waiting == 1
    assert not [key for key in keys(engine) if b"{killed}" in key]
    assert [
        Binding.from_json(member) for member in engine.runner.call("SMEMBERS", engine.keys.bindings(REPLIES.name))
    ] == [Binding("lasting", "", "lasting")]


def test_a_reply_reaches_a_queue_that_expires_later(connection: Any, engine: Engine) -> None:
    declare(connection, "alive", expires=30)
    Producer(connection.channel(), REPLIES).publish({"ok": "pong"}, routing_key="alive")
    assert engine.stats(["alive"])[0].waiting == 1
    assert 0 < engine.runner.call("PTTL", engine.keys.key("alive", "messages")) <= 30_000


def test_a_queue_that_is_declared_again_after_it_has_expired_gets_replies(connection: Any, engine: Engine) -> None:
    channel = connection.channel()
    queue = Queue("again", REPLIES, "again", expires=0.3, durable=False)(channel)
    for _ in range(2):
        queue.declare()
        Producer(channel, REPLIES).publish({"ok": "pong"}, routing_key="again")
        assert engine.stats(["again"])[0].waiting == 1
        wait_until(lambda: not engine.runner.call("EXISTS", engine.keys.key("again", "limits")), seconds=5)
        Producer(channel, REPLIES).publish({"ok": "pong"}, routing_key="again")
        assert engine.stats(["again"])[0].waiting == 0
    assert len(channel.state.exchanges[REPLIES.name]["table"]) == 1


def test_a_deleted_queue_leaves_no_binding(connection: Any, engine: Engine) -> None:
    for expires in (None, 30):
        declare(connection, "gone", expires=expires)
        Queue("gone", REPLIES, "gone")(connection.channel()).delete()
        assert not engine.runner.call("EXISTS", engine.keys.bindings(REPLIES.name))


def test_members_that_are_no_bindings_are_ignored(connection: Any, engine: Engine) -> None:
    declare(connection, "alive", expires=None)
    for member in (b"", b"\xff", b"{}", b"[1,2,3]", b'["a"]', b"[" * 5000, b"null"):
        engine.runner.call("SADD", engine.keys.bindings(REPLIES.name), member)
    Producer(connection.channel(), REPLIES).publish({"ok": "pong"}, routing_key="alive")
    assert engine.stats(["alive"])[0].waiting == 1
