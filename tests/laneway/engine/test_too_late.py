"""`not_after`, the time by which a message must be queued: after it, by the server's clock, nothing is queued."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from celery import Celery
from celery.app import amqp
from kombu import pools

from laneway.engine import Engine, InvalidMessage, Message, MessageState, PutCode, RoundRobin, TooLate
from laneway.transport.codec import HEADER_NOT_AFTER, from_stored, message_options
from laneway.worker.producer import AMQP
from tests.fixtures.lost_reply import LostReply
from tests.fixtures.valkey import RedisUrls, RunningValkey, free_port
from tests.fixtures.waiting import wait_until
from tests.laneway.engine.clock import NOW_MS, move_to

QUEUE = "work"
NOW = NOW_MS // 1000
PRODUCERS = pytest.mark.parametrize("producer", [AMQP, amqp.AMQP], ids=["the library's producer", "Celery's producer"])


@pytest.fixture
def server(tmp_path: Path) -> Generator[RunningValkey]:
    """A server that the test can freeze."""
    server = RunningValkey(tmp_path, port=free_port())
    server.start()
    yield server
    server.stop()
    pools.reset()


def make_app(broker: str, producer: type[amqp.AMQP]) -> Celery:
    app = Celery("late", broker=broker, backend=None, amqp=producer, set_as_current=False)
    app.conf.update(broker_transport="laneway:Transport", task_default_queue=QUEUE)
    return app


def test_a_message_is_queued_up_to_the_millisecond_and_not_after_it(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"), not_after=NOW)
    move_to(still, 1)
    with pytest.raises(TooLate, match=r"0\.001 s after its deadline") as caught:
        still.put(QUEUE, Message(task_id="b"), not_after=NOW)

    assert caught.value.late == 0.001
    assert still.stats([QUEUE])[0].waiting == 1


def test_a_late_call_stores_nothing(still: Engine) -> None:
    batch = [Message(task_id="a"), Message(task_id="b", key="k"), Message(task_id="c", id="c")]
    results = still.put_many(QUEUE, batch, not_after=NOW - 2)

    assert [(put.code, put.id, put.late_ms) for put in results] == [(PutCode.TOO_LATE, id, 2000) for id in "abc"]
    assert still.runner.call("DBSIZE") == 1, "the key of the test's clock"


def test_a_repeated_call_whose_reply_was_lost_gets_the_first_reply(
    still: Engine, lose_reply: Callable[[LostReply], LostReply]
) -> None:
    still.put(QUEUE, Message(task_id="warm"))
    lost_reply = lose_reply(LostReply([], on_loss=lambda: move_to(still, 30_000)))

    assert still.put(QUEUE, Message(task_id="once"), not_after=NOW) == "once"
    assert lost_reply.lost
    assert still.stats([QUEUE])[0].waiting == 2


@pytest.mark.parametrize("not_a_time", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_a_number_that_is_no_time_is_refused_by_name(engine: Engine, not_a_time: float) -> None:
    with pytest.raises(InvalidMessage, match="not_after"):
        engine.put(QUEUE, Message(task_id="a"), not_after=not_a_time)


@PRODUCERS
def test_the_worker_does_not_see_not_after(redis_urls: RedisUrls, producer: type[amqp.AMQP]) -> None:
    app, engine = make_app(redis_urls.broker, producer), Engine.from_url(redis_urls.broker)
    app.send_task("late.work", headers=message_options(not_after=time.time() + 60))
    (peeked,) = engine.peek(QUEUE, MessageState.READY)

    assert HEADER_NOT_AFTER not in from_stored(peeked.stored, queue=QUEUE, deliveries=1, tag="")["headers"]
    assert b"not-after" not in peeked.stored.message.body
    engine.close()
    app.close()
    pools.reset()


@PRODUCERS
def test_a_message_that_reaches_a_frozen_server_is_refused_when_the_server_goes_on(
    server: RunningValkey, producer: type[amqp.AMQP]
) -> None:
    app, caught, engine = make_app(server.url(0), producer), list[BaseException](), Engine.from_url(server.url(0))
    app.send_task("late.work", headers=message_options(not_after=time.time() + 60))
    pid = int(engine.runner.call("INFO", "server").partition(b"process_id:")[2].split()[0])
    not_after = time.time() + 0.2

    def send() -> None:
        try:
            app.send_task("late.work", headers=message_options(not_after=not_after), retry=True)
        except Exception as error:  # noqa: BLE001 - any error is compared below
            caught.append(error)

    os.kill(pid, signal.SIGSTOP)
    try:
        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: time.time() > not_after + 0.1, seconds=5)
    finally:
        os.kill(pid, signal.SIGCONT)
    thread.join(10)

    assert [type(error) for error in caught] == [TooLate]
    assert len(engine.fetch(RoundRobin({QUEUE: 1}), 5).deliveries) == 1
    engine.close()
    app.close()
