"""The broker of the platform on a real Valkey: with the delivery engine, and with kombu's own transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
import redis

from app.core.queues import QUEUES
from app.core.settings import load_settings
from laneway.engine import Durability, LeaseStatus, MessageState
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, Unsupported
from laneway.platform.queues import Priority
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.fixture
def stock(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> Iterator[Platform]:
    """The platform on kombu's own transport, on the same server."""
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(settings) as app:
        yield make_platform(settings, app, platform_database, valkey=redis_urls.valkey)


# --- on the engine ------------------------------------------------------------------------------------------


def test_the_more_urgent_task_is_delivered_first(platform: Platform) -> None:
    ids = {priority: platform.chore(priority=priority) for priority in sorted(Priority)}

    assert [platform.take("maintenance") for _ in Priority] == [
        ids[Priority.CRITICAL],
        ids[Priority.HIGH],
        ids[Priority.NORMAL],
        ids[Priority.LOW],
    ]
    assert platform.take("maintenance") is None


def test_priorities_are_spread_over_the_engines_ten(platform: Platform) -> None:
    for priority in Priority:
        platform.chore(priority=priority)

    assert [found.stored.message.priority for found in platform.messages("maintenance")] == [9, 6, 3, 0]


def test_tasks_of_one_priority_are_delivered_in_the_order_of_submission(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(5)]

    assert [platform.take("maintenance") for _ in ids] == ids


def test_the_ordering_key_and_the_delay_go_with_the_message(platform: Platform) -> None:
    before = int(time.time() * 1000)
    first, second, later = platform.message("c-1"), platform.message("c-1"), platform.message("c-2", delay=60)

    (ready,) = platform.messages(state=MessageState.READY)
    (held,) = platform.messages(state=MessageState.HELD)
    (scheduled,) = platform.messages(state=MessageState.SCHEDULED)
    assert [found.stored.message.task_id for found in (ready, held, scheduled)] == [first, second, later]
    assert [found.stored.message.key for found in (ready, held, scheduled)] == [
        "conversation_id:c-1",
        "conversation_id:c-1",
        "conversation_id:c-2",
    ]
    assert scheduled.at is not None
    assert 59_000 < scheduled.at - before < 65_000


def test_a_task_without_a_key_waits_for_nobody(platform: Platform) -> None:
    ids = [platform.chore(), platform.chore()]

    assert platform.sent("maintenance") == ids
    assert [found.stored.message.key for found in platform.messages("maintenance")] == [None, None]


def test_stats_and_find_report_the_state_of_messages(platform: Platform) -> None:
    first, held, later = platform.message("c-1"), platform.message("c-1"), platform.message("c-2", delay=60)

    found = platform.broker.find("conversations", [first, "unknown", held, later])
    stats = platform.broker.stats(["conversations", "webhooks"])

    assert found is not None and stats is not None
    assert [one.state if one else None for one in found] == [
        MessageState.READY,
        None,
        MessageState.HELD,
        MessageState.SCHEDULED,
    ]
    assert found[2] is not None and found[2].behind == first
    assert [(one.queue, one.ready, one.held, one.scheduled, one.waiting) for one in stats] == [
        ("conversations", 1, 1, 1, 3),
        ("webhooks", 0, 0, 0, 0),
    ]
    platform.take()
    assert platform.broker.find("conversations", [first]) == [None]


def test_every_queue_has_its_limit_before_anything_is_sent(platform: Platform) -> None:
    platform.broker.prepare()

    stats = platform.broker.stats(list(QUEUES))
    assert stats is not None
    assert {one.queue: one.limits["max_size"] for one in stats} == dict.fromkeys(QUEUES, 10_000)
    assert {one.queue: one.limits["journal"] for one in stats} == dict.fromkeys(QUEUES, 100_000)


def test_a_queue_that_the_broker_lost_gets_its_limits_back(platform: Platform) -> None:
    platform.broker.prepare()
    platform.lose("maintenance")
    lost = platform.broker.stats(["maintenance"])
    assert lost is not None
    assert lost[0].limits == {}

    platform.broker.prepare()

    stats = platform.broker.stats(["maintenance"])
    assert stats is not None
    assert set(stats[0].limits) >= {"max_size", "journal"}


def test_a_cancelled_task_has_no_message_and_a_running_one_is_marked(platform: Platform) -> None:
    first, second, third = platform.message("c-1"), platform.message("c-1"), platform.message("c-1")

    assert platform.broker.cancel(platform.row(first))
    assert not platform.broker.cancel(TaskRun(id="unknown", queue="conversations"))
    delivery = platform.fetched()
    assert platform.broker.cancel(platform.row(second))

    assert platform.places() == {second: MessageState.LEASED, third: MessageState.HELD}
    assert platform.engine.check_leases([delivery.lease]) == [LeaseStatus.CANCELLED]


def test_a_purge_deletes_waiting_tasks_and_leaves_running_ones(platform: Platform) -> None:
    running, *_ = platform.message("c-1"), platform.message("c-1"), platform.message("c-2", delay=60)
    platform.fetched()

    assert platform.broker.purge("conversations") == 2
    assert platform.places() == {running: MessageState.LEASED}


def test_only_a_dead_message_is_requeued(platform: Platform) -> None:
    id = platform.chore()
    assert not platform.broker.requeue("maintenance", id)
    bury(platform, "maintenance")

    assert platform.broker.requeue("maintenance", id)
    assert platform.sent("maintenance") == [id]
    assert not platform.broker.requeue("maintenance", "unknown")


def test_only_a_dead_message_is_discarded(platform: Platform) -> None:
    id = platform.chore()
    platform.broker.discard("maintenance", [id])
    assert platform.sent("maintenance") == [id]

    bury(platform, "maintenance")
    assert [found.stored.message.task_id for found in platform.messages("maintenance", MessageState.DEAD)] == [id]
    platform.broker.discard("maintenance", [id])
    assert platform.messages("maintenance", MessageState.DEAD) == []


def bury(platform: Platform, queue: str) -> None:
    """Take the next message as a worker does, and make a dead letter of it."""
    platform.engine.bury([platform.fetched(queue)], reason="poison", error="killed its worker")


def test_ping_fails_while_the_broker_is_away(platform: Platform) -> None:
    platform.broker.ping()
    platform.valkey.stop()
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        platform.broker.ping()

    assert time.monotonic() - began < 10
    platform.valkey.start()
    platform.broker.ping()


CALLS: dict[str, Callable[[Broker], object]] = {
    "stats": lambda broker: broker.stats(["webhooks"]),
    "find": lambda broker: broker.find("webhooks", ["x"]),
    "cancel": lambda broker: broker.cancel(TaskRun(id="x", queue="webhooks")),
    "requeue": lambda broker: broker.requeue("webhooks", "x"),
    "purge": lambda broker: broker.purge("webhooks"),
    "discard": lambda broker: broker.discard("webhooks", ["x"]),
    "prepare": Broker.prepare,
    "ping": Broker.ping,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_a_broker_that_is_away_fails_quickly(platform: Platform, call: str) -> None:
    platform.valkey.stop()
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        CALLS[call](platform.broker)

    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("transport", "call"), [("laneway", "ping"), ("laneway", "stats"), ("celery", "ping")])
def test_a_password_in_the_address_is_not_in_the_error(
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
    transport: str,
    call: str,
) -> None:
    broker, backend = (
        url.replace("redis://", "redis://user:hunter2@") for url in (redis_urls.broker, redis_urls.backend)
    )
    urls = RedisUrls(broker, backend, redis_urls.valkey)
    settings = settings_for(environment, platform_database, urls, folder=tmp_path, BROKER_TRANSPORT=transport)
    with celery_on(settings) as app, pytest.raises(BrokerUnavailable) as refused:
        CALLS[call](Broker(app, max_queue_size=10, max_unread=100))

    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value)


def test_publishing_does_not_subscribe_to_results(platform: Platform) -> None:
    with redis.Redis.from_url(platform.settings.redis.result_url) as client:
        client.config_resetstat()
        for _ in range(5):
            platform.chore()
        commands = cast("dict[str, object]", client.info("commandstats"))

    assert "cmdstat_evalsha" in commands
    assert not [name for name in commands if "subscribe" in name]


def test_many_threads_publish_at_once(platform: Platform) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(platform.chore, (f"chore-{number}" for number in range(80))))

    assert sorted(platform.sent("maintenance")) == sorted(ids)


def test_a_task_reaches_the_queue_of_its_declaration(platform: Platform) -> None:
    id = platform.tasks.submit("generate_conversation_analytics_task", {"hours": 2}).task_id

    assert platform.sent("analytics") == [id]


# --- on kombu's own transports ------------------------------------------------------------------------------


def test_on_the_stock_transport_tasks_are_sent_and_taken_in_the_order_of_their_priority(stock: Platform) -> None:
    ids = {priority: stock.chore(priority=priority) for priority in sorted(Priority)}

    with redis.Redis.from_url(stock.settings.redis.broker_url) as client:
        lengths = {name: client.llen(name) for name in ("maintenance", *(f"maintenance:{step}" for step in (3, 6, 9)))}
        assert client.keys("laneway:*") == []
    assert lengths == {"maintenance": 1, "maintenance:3": 1, "maintenance:6": 1, "maintenance:9": 1}
    assert [stock.take("maintenance") for _ in Priority] == [ids[priority] for priority in sorted(Priority)[::-1]]


def test_on_the_stock_transport_queues_cannot_be_searched(stock: Platform) -> None:
    id = stock.message()

    assert stock.broker.engine is None
    assert stock.broker.find("conversations", [id]) is None
    assert stock.broker.stats(["conversations"]) is None
    stock.broker.prepare()
    assert not stock.broker.cancel(stock.row(id))
    assert not stock.broker.requeue("conversations", id)
    stock.broker.discard("conversations", [id])
    with pytest.raises(Unsupported):
        stock.broker.purge("conversations")
    stock.broker.ping()
    stock.broker.close()
    assert stock.tasks.status(id).waiting_for == "a worker: none serves the queue 'conversations'"
    assert stock.take() == id, "it stays, and is refused when it comes"


def test_on_the_stock_transport_maintenance_reconciles_nothing(stock: Platform) -> None:
    stock.message()

    assert stock.maintenance().reconcile() == 0


@pytest.mark.parametrize("durability", [Durability.DISK, Durability.REPLICA])
def test_on_the_stock_transport_durability_is_refused_with_one_clear_error(
    stock: Platform, durability: Durability
) -> None:
    with pytest.raises(Unsupported) as refused:
        stock.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(durability=durability))

    assert str(refused.value) == f"This broker does not support durability {durability.value!r}: redis"
    assert refused.value.status == 422
    assert stock.rows() == []
    assert stock.take("maintenance") is None


def test_on_the_stock_transport_uniqueness_is_refused_with_one_clear_error(stock: Platform) -> None:
    with pytest.raises(Unsupported) as refused:
        stock.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(unique="nightly"))

    assert str(refused.value) == "This broker does not support uniqueness: redis"
    assert stock.rows() == []
    assert stock.take("maintenance") is None


def test_on_the_stock_transport_a_delayed_task_waits_at_its_worker(stock: Platform) -> None:
    """It is sent at once, and waits in the memory of the worker that takes it until it is due."""
    id = stock.chore(delay=60)

    assert stock.state(id) == TaskState.SCHEDULED
    assert stock.tasks.status(id).waiting_for == "its due time"
    assert stock.take("maintenance") == id


def test_on_the_stock_transport_a_queue_has_no_limit(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> None:
    settings = settings_for(
        environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery", MAX_QUEUE_SIZE="1"
    )
    with celery_on(settings) as app:
        small = make_platform(settings, app, platform_database, valkey=redis_urls.valkey)
        assert len({small.chore() for _ in range(3)}) == 3


@pytest.mark.parametrize("transport", ["laneway", "celery"])
def test_an_amqp_address_uses_kombus_transport_and_keeps_the_order_of_priorities(
    environment: Environment, transport: str
) -> None:
    """In AMQP 9 goes first. Nothing is sent here; only the scale is checked."""
    environment(CELERY_BROKER_URL="amqp://127.0.0.1//", BROKER_TRANSPORT=transport)
    with celery_on(load_settings()) as app:
        broker = Broker(app, max_queue_size=10, max_unread=100)
        assert broker.engine is None
        assert [broker.message_priority(priority) for priority in Priority] == [0, 3, 6, 9]


@pytest.mark.parametrize("seconds", [-3600, -6, 6, 3600])
def test_tasks_are_sent_by_a_machine_whose_clock_is_wrong(
    platform: Platform, movable_clock: MovableClock, seconds: float
) -> None:
    movable_clock.forward(seconds)
    id = platform.message()
    assert platform.places() == {id: MessageState.READY}
