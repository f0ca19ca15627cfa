"""Broadcasts: a control message whose reply is lost is sent again, and arrives once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import redis
from celery import Celery

import laneway
from laneway.engine.keys import Keyspace
from tests.fixtures.lost_reply import LostReply
from tests.laneway.conftest import DATABASE


@pytest.fixture
def app(engine_url: str) -> Generator[Celery]:
    app = Celery("broadcasts", broker=engine_url, set_as_current=False)
    laneway.install(app, results=False)
    yield app
    app.close()


@pytest.fixture
def worker(engine_url: str) -> Generator[Any]:
    """What a worker receives."""
    with redis.Redis.from_url(engine_url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(Keyspace("", DATABASE).fanout("celery.pidbox"))
        pubsub.get_message(timeout=5)
        yield pubsub


def received(worker: Any) -> list[bytes]:
    messages: list[bytes] = []
    while message := worker.get_message(timeout=0.5):
        messages.append(message["data"])
    return messages


def test_a_control_message_arrives_once(app: Celery, worker: Any, lose_reply: Callable[[LostReply], LostReply]) -> None:
    lost = lose_reply(LostReply(1))
    app.control.broadcast("pool_grow", arguments={"n": 1})
    assert lost.lost
    (message,) = received(worker)
    assert b"pool_grow" in message


def test_two_control_messages_arrive(app: Celery, worker: Any) -> None:
    for _ in range(2):
        app.control.broadcast("pool_grow", arguments={"n": 1})
    assert len(received(worker)) == 2
