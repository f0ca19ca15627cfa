"""The time by which a message must be queued: past it, by the server's clock, nothing is."""

# Celery and kombu are untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from celery import Celery
from celery.app import amqp
from kombu import pools
from redis.connection import ConnectionPool

from laneway.engine import Engine, InvalidMessage, Message, MessageState, PutCode, RoundRobin, ServerLost, TooLate
from laneway.engine.connection import RawConnection
from laneway.transport.codec import HEADER_NOT_AFTER, from_stored, message_options
from laneway.worker.producer import AMQP
from tests.fixtures.valkey import RedisUrls, RunningValkey, free_port
from tests.fixtures.waiting import wait_until
from tests.laneway.engine.clock import CLOCK_LUA, set_clock

QUEUE = "work"
NOW = 1_790_000_000
WAYS = pytest.mark.parametrize("way", [AMQP, amqp.AMQP], ids=["the shorter way", "Celery's way"])


@pytest.fixture
def still(engine_url: str) -> Generator[Engine]:
    """An engine at NOW."""
    engine = Engine(ConnectionPool.from_url(engine_url), clock=CLOCK_LUA)
    at(engine, NOW)
    yield engine
    engine.close()


@pytest.fixture
def server(tmp_path: Path) -> Generator[RunningValkey]:
    """A server that may be frozen."""
    server = RunningValkey(tmp_path, port=free_port())
    server.start()
    yield server
    server.stop()
    pools.reset()


def at(engine: Engine, seconds: float) -> None:
    set_clock(engine, round(seconds * 1_000_000))


def make_app(broker: str, way: type[amqp.AMQP]) -> Celery:
    app = Celery("late", broker=broker, backend=None, amqp=way, set_as_current=False)
    app.conf.update(broker_transport="laneway:Transport", task_default_queue=QUEUE)
    return app


def test_a_message_is_taken_up_to_the_millisecond_and_not_after_it(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"), not_after=NOW)
    at(still, NOW + 0.001)
    with pytest.raises(TooLate, match=r"came 0\.001 s after the time by which") as caught:
        still.put(QUEUE, Message(task_id="b"), not_after=NOW)

    assert caught.value.late == 0.001
    assert still.stats([QUEUE])[0].waiting == 1


def test_nothing_of_a_late_call_is_stored(still: Engine) -> None:
    some = [Message(task_id="a"), Message(task_id="b", key="k"), Message(task_id="c", id="c")]
    outcomes = still.put_many(QUEUE, some, not_after=NOW - 2)

    assert [(put.code, put.id, put.late_ms) for put in outcomes] == [(PutCode.TOO_LATE, id, 2000) for id in "abc"]
    assert still.runner.call("DBSIZE") == 1, "the test's clock"


def test_a_repeat_of_a_call_whose_answer_was_lost_gets_the_first_answer(
    still: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, cuts = RawConnection.receive, [1]

    def cut_once(self: RawConnection, *, timeout: float | None = None) -> object:
        answer = receive(self, timeout=timeout)
        if cuts and answer == []:
            cuts.pop()
            at(still, NOW + 30)
            self.close()
            raise ServerLost("cut by the test, after the server had carried it out")
        return answer

    still.put(QUEUE, Message(task_id="warm"))
    monkeypatch.setattr(RawConnection, "receive", cut_once)

    assert still.put(QUEUE, Message(task_id="once"), not_after=NOW) == "once"
    assert not cuts
    assert still.stats([QUEUE])[0].waiting == 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_what_is_no_time_is_refused_by_name(engine: Engine, wrong: float) -> None:
    with pytest.raises(InvalidMessage, match="not_after"):
        engine.put(QUEUE, Message(task_id="a"), not_after=wrong)


@WAYS
def test_a_worker_is_not_told_of_the_time(redis_urls: RedisUrls, way: type[amqp.AMQP]) -> None:
    app, engine = make_app(redis_urls.broker, way), Engine.from_url(redis_urls.broker)
    app.send_task("late.work", headers=message_options(not_after=time.time() + 60))
    (peeked,) = engine.peek(QUEUE, MessageState.READY)

    assert HEADER_NOT_AFTER not in from_stored(peeked.stored, queue=QUEUE, deliveries=1, tag="")["headers"]
    assert b"not-after" not in peeked.stored.message.body
    engine.close()
    app.close()
    pools.reset()


@WAYS
def test_what_lay_before_a_frozen_server_is_refused_when_it_goes_on(
    server: RunningValkey, way: type[amqp.AMQP]
) -> None:
    app, caught, engine = make_app(server.url(0), way), list[BaseException](), Engine.from_url(server.url(0))
    app.send_task("late.work", headers=message_options(not_after=time.time() + 60))
    pid = int(
        engine.runner.call("INFO", "server").partition(b"process_id:")[2].split()[0]
    )
    fence = time.time() + 0.2

    def send() -> None:
        try:
            app.send_task("late.work", headers=message_options(not_after=fence), retry=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            caught.append(error)

    os.kill(pid, signal.SIGSTOP)
    try:
        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: time.time() > fence + 0.1, seconds=5)
    finally:
        os.kill(pid, signal.SIGCONT)
    thread.join(10)

    assert [type(error) for error in caught] == [TooLate]
    assert len(engine.fetch(RoundRobin({QUEUE: 1}), 5).deliveries) == 1
    engine.close()
    app.close()
