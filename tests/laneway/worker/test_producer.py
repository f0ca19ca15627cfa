"""The shorter way of `laneway.worker.producer` sends the same message as Celery's way; special ones go that way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, chord, group, signals
from celery.app import amqp
from kombu import pools
from kombu.entity import Queue
from kombu.exceptions import EncodeError, OperationalError

import laneway
from laneway.engine import Engine, MessageInfo, MessageState, Unique
from laneway.transport.codec import from_stored, message_options
from laneway.worker.producer import AMQP
from tests.fixtures.valkey import RedisUrls

# A producer that lost its server leaves a socket to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SOON = datetime.now(UTC) + timedelta(minutes=5)


class Counting(amqp.AMQP):
    """Celery's AMQP class, which counts the messages that it sends."""

    sent = 0

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.sent += 1
            return send(*args, **kwargs)

        return counted


class Short(AMQP, Counting):
    """The engine's AMQP class, which counts the messages that it leaves to Celery's way."""


def make_app(urls: RedisUrls, way: type[amqp.AMQP], **settings: Any) -> Celery:
    app = Celery(
        "ways", broker=urls.broker, backend="laneway:ResultBackend+" + urls.backend, amqp=way, set_as_current=False
    )
    app.conf.update(
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.05},
        task_queues=[Queue("celery"), Queue("other", max_priority=9)],
        **settings,
    )
    laneway.install(app)
    app.task(name="ways.work", shared=False)(_work)
    return app


def _work(*_: Any, **__: Any) -> None:
    """Do nothing."""


@pytest.fixture
def urls(redis_urls: RedisUrls) -> Generator[RedisUrls]:
    yield redis_urls
    pools.reset()


@pytest.fixture
def short(urls: RedisUrls) -> Generator[Celery]:
    app = make_app(urls, Short)
    yield app
    app.close()


@pytest.fixture
def long(urls: RedisUrls) -> Generator[Celery]:
    app = make_app(urls, Counting)
    yield app
    app.close()


@pytest.fixture
def engine(urls: RedisUrls) -> Generator[Engine]:
    engine = Engine.from_url(urls.broker)
    yield engine
    engine.close()


def messages(engine: Engine, queue: str = "celery") -> list[MessageInfo]:
    return [
        one
        for state in (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD)
        for one in engine.peek(queue, state)
    ]


def sent(engine: Engine, send: Callable[[], Any], queue: str = "celery") -> dict[str, Any]:
    """Send one message; the message as a worker would see it. The queue is empty afterwards."""
    send()
    (peeked,) = messages(engine, queue)
    engine.purge(queue)
    raw = from_stored(peeked.stored, queue=queue, deliveries=1, tag="")
    raw["body"] = json.loads(raw["body"])
    return raw | {"eta": peeked.stored.message.eta_ms}


work = "ways.work"
PLAIN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "arguments": {"args": (1, "two", {"three": [4]}), "kwargs": {"five": None, "six": "sieben ü"}},
    "empty lists": {"args": [], "kwargs": {}},
    "dates": {"args": [SOON, SOON.date()]},
    "eta": {"eta": SOON},
    "expires": {"expires": SOON},
    "late eta": {"eta": datetime.now(UTC) - timedelta(minutes=5)},
    "priority": {"priority": 7, "queue": "other"},
    "headers": {"headers": {"custom": [1, 2]}},
    "key": {"headers": message_options(key="k", unique=Unique("u"), max_deliveries=3)},
    "limits": {"time_limit": 30, "soft_time_limit": 20, "retries": 2, "shadow": "other name"},
    "ignored": {"ignore_result": True, "reply_to": "somebody", "root_id": "r", "parent_id": "p"},
    "group": {"group_id": "g", "group_index": 3, "chord": {"task": "t", "args": [], "kwargs": {}}},
    "no retry": {"retry": False},
}


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
def test_a_plain_message_is_the_same_on_both_ways(
    short: Celery, long: Celery, engine: Engine, options: dict[str, Any]
) -> None:
    options = {"task_id": str(uuid4()), "reply_to": "me"} | options
    queue = options.get("queue", "celery")
    ways = [sent(engine, lambda app=app: app.tasks[work].apply_async(**options), queue) for app in (short, long)]
    for raw in ways:
        if raw["properties"].get("expiration"):  # ms from now
            raw["properties"]["expiration"] = round(int(raw["properties"]["expiration"]), -4)
    assert ways[0] == ways[1]
    assert (short.amqp.sent, long.amqp.sent) == (0, 1)


def test_a_countdown_is_the_same_but_for_the_time_between(short: Celery, long: Celery, engine: Engine) -> None:
    options: dict[str, Any] = {"task_id": str(uuid4()), "reply_to": "me", "countdown": 60, "expires": 90}
    ways = [sent(engine, lambda app=app: app.tasks[work].apply_async(**options)) for app in (short, long)]
    times = [(way.pop("eta"), way["headers"].pop("eta"), way["headers"].pop("expires")) for way in ways]
    assert 0 <= times[1][0] - times[0][0] < 5000
    assert all(datetime.fromisoformat(at) for both in times for at in both[1:])
    assert ways[0] == ways[1]
    assert short.amqp.sent == 0


def test_canvas_is_the_same(short: Celery, long: Celery, engine: Engine) -> None:
    id = str(uuid4())

    def steps(app: Celery) -> list[Any]:
        s = app.tasks[work].s
        return [
            chain(s(1).set(task_id="1"), s(2).set(task_id="2"), s(3).set(task_id="3")),
            group([s(1).set(task_id="4")]),
            chord([s(1).set(task_id="5")], s().set(task_id="6")),
            s(1).set(task_id="7", link=s(2).set(task_id="8"), link_error=s(3).set(task_id="9")),
        ]

    for ours, celerys in zip(steps(short), steps(long), strict=True):
        ways = [
            sent(engine, lambda step=step: step.apply_async(group_id=id, root_id="root", reply_to="me"))
            for step in (ours, celerys)
        ]
        texts = [json.dumps(way, sort_keys=True, default=str) for way in ways]
        known = {"1", "2", "3", "4", "5", "6", "7", "8", "9", id, "root"}
        assert _without_new_ids(texts[0], known) == _without_new_ids(texts[1], known)
    assert short.amqp.sent == 0


def _without_new_ids(text: str, known: set[str]) -> Any:
    """The message, with an `X` for each new id."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [strip(inner) for inner in value]
        return "X" if isinstance(value, str) and len(value) == 36 and value not in known else value

    return strip(json.loads(text))


SPECIAL: dict[str, dict[str, Any]] = {
    "routing key": {"exchange": "celery", "routing_key": "celery"},
    "compression": {"compression": "zlib"},
    "serializer": {"serializer": "yaml"},
    "property": {"user_property": "x"},
}


@pytest.mark.parametrize("options", SPECIAL.values(), ids=SPECIAL)
def test_a_special_message_goes_celery_s_way(short: Celery, engine: Engine, options: dict[str, Any]) -> None:
    short.tasks[work].apply_async(**options)
    assert len(messages(engine)) == 1
    assert short.amqp.sent == 1


def test_signal_receivers_are_called_for_each_message(short: Celery, engine: Engine) -> None:
    received: list[Any] = []

    def after(sender: str, headers: dict[str, Any], **about: Any) -> None:
        received.append((sender, headers["id"], about["routing_key"], about["exchange"]))

    def before(headers: dict[str, Any], **_: Any) -> None:
        headers["marked"] = 1

    signals.after_task_publish.connect(after)
    try:
        first = short.tasks[work].apply_async()
        assert (short.amqp.sent, received) == (0, [(work, first.id, "celery", "")])
        engine.purge("celery")
        signals.before_task_publish.connect(before)
        raw = sent(engine, short.tasks[work].apply_async)
    finally:
        signals.after_task_publish.disconnect(after)
        signals.before_task_publish.disconnect(before)
    assert raw["headers"]["marked"] == 1
    assert short.amqp.sent == 1


def test_events_of_sent_tasks_are_the_same(urls: RedisUrls) -> None:
    events: list[dict[str, Any]] = []
    for way in (Short, Counting):
        app = make_app(urls, way, task_send_sent_event=True)
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"task-sent": events.append})
            with receiver.consumer_context() as (listening, *_):
                app.tasks[work].apply_async(args=(1,), task_id="t")
                listening.drain_events(timeout=10)
        app.close()
    varying = ("timestamp", "local_received", "clock", "pid", "root_id")
    ours, celerys = [{key: value for key, value in event.items() if key not in varying} for event in events]
    assert ours == celerys
    assert ours["queue"] == "celery"


@pytest.mark.parametrize(
    "options",
    [{"args": 5}, {"args": "text"}, {"kwargs": [1]}, {"args": [object()]}, {"queue": "unknown"}, {"countdown": -1e20}],
    ids=["number", "text", "list", "not JSON", "unknown queue", "long ago"],
)
def test_wrong_arguments_fail_alike(short: Celery, long: Celery, engine: Engine, options: dict[str, Any]) -> None:
    for app in (short, long):
        app.conf.task_create_missing_queues = False
    errors: list[Exception] = []
    for app in (short, long):
        with pytest.raises((TypeError, ValueError, EncodeError, KeyError, OverflowError)) as caught:
            app.send_task(work, **options)
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1])
    assert str(errors[0]).split(" at 0x")[0] == str(errors[1]).split(" at 0x")[0]
    assert not messages(engine)


def test_a_broker_that_is_away_is_an_error_and_later_submissions_succeed(short: Celery, urls: RedisUrls) -> None:
    task = short.tasks[work]
    task.apply_async()
    urls.valkey.stop()
    try:
        for retry in (False, True):
            with pytest.raises(OperationalError):
                task.apply_async(retry=retry)
    finally:
        urls.valkey.start()
    before = short.amqp.sent
    task.apply_async(retry=True)
    task.apply_async()
    assert short.amqp.sent - before <= 1


@pytest.mark.parametrize("limit", [1, 2, 3, 10, None])
def test_more_threads_than_producers_all_send(urls: RedisUrls, engine: Engine, limit: int | None) -> None:
    app = make_app(urls, Short, broker_pool_limit=limit)
    failures: list[BaseException] = []

    def send() -> None:
        try:
            for _ in range(20):
                app.tasks[work].apply_async()
                with app.pool.acquire(block=True) as connection:
                    assert connection
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            failures.append(error)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert engine.stats(["celery"])[0].waiting == 240
    app.close()


def test_other_transports_go_celery_s_way(urls: RedisUrls) -> None:
    app = make_app(urls, Short)
    assert app.conf.broker_transport == "laneway:Transport"
    app.conf.broker_transport = None
    app.tasks[work].apply_async()
    assert app.amqp.sent == 1
    assert type(app.producer_pool) is pools.ProducerPool
    app.close()
