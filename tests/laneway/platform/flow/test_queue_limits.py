"""Rates, tasks in flight and pauses of queues: stored, enforced by the engine, shown to waiting tasks."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.core.queues import QUEUES
from app.services.container import Services
from laneway.platform.errors import Unsupported
from laneway.platform.flow.queue_limits import NoSuchQueue
from laneway.schemas.queue import QueueLimits as Wanted
from tests.fixtures.databases import Database
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.fixtures.waiting import wait_until

QUEUE = "maintenance"


@pytest.fixture
def platform(services: Services, valkey: RunningValkey) -> Platform:
    """A second platform on the same servers, which plays the workers."""
    made = make_platform(services.settings, services.broker._app, services.database, valkey=valkey)  # pyright: ignore
    services.broker.prepare()
    return made


def chores(services: Services, number: int) -> list[str]:
    """Submit tasks to the queue."""
    return [services.tasks.submit("cleanup_old_data_task", {}).task_id for _ in range(number)]


def waiting_for(services: Services, platform: Platform, id: str) -> str | None:
    """Why the task waits while a worker of its queue is alive."""
    platform.alive()
    return services.tasks.status(id).waiting_for


def test_a_paused_queue_starts_nothing_until_it_is_resumed(services: Services, platform: Platform) -> None:
    (id,) = chores(services, 1)

    assert services.queue_limits.pause(QUEUE).in_force is True
    assert platform.fetch(QUEUE) is None
    assert waiting_for(services, platform, id) == "its queue 'maintenance' to be resumed: it is paused"

    assert services.queue_limits.resume(QUEUE).paused is False
    assert waiting_for(services, platform, id) == "a free worker"
    assert platform.fetch(QUEUE) is not None


def test_a_paused_queue_accepts_submissions(services: Services, platform: Platform) -> None:
    services.queue_limits.pause(QUEUE)
    ids = chores(services, 3)

    assert platform.sent(QUEUE) == ids


def test_no_more_tasks_run_than_may_be_in_flight(services: Services, platform: Platform) -> None:
    services.queue_limits.put(QUEUE, Wanted(max_in_flight=2))
    ids = chores(services, 3)

    held = [platform.fetch(QUEUE) for _ in range(3)]

    assert [one is not None for one in held] == [True, True, False]
    assert waiting_for(services, platform, ids[2]) == (
        "its turn: the queue 'maintenance' has 2 running tasks already (max_in_flight)"
    )
    assert held[0] is not None
    platform.engine.ack([held[0]])
    assert platform.fetch(QUEUE) is not None


def test_a_rate_spreads_the_starts(services: Services, platform: Platform) -> None:
    services.queue_limits.put(QUEUE, Wanted(rate=60, per_seconds=60))
    ids = chores(services, 2)

    assert platform.fetch(QUEUE) is not None
    assert platform.fetch(QUEUE) is None
    assert waiting_for(services, platform, ids[1]) == (
        "its turn: the queue 'maintenance' starts 1 tasks a second (rate limit)"
    )
    assert wait_until(lambda: platform.fetch(QUEUE), seconds=5)


def test_limits_are_replaced_as_a_whole_and_a_pause_keeps_them(services: Services, platform: Platform) -> None:
    limits = services.queue_limits
    limits.put(QUEUE, Wanted(rate=5, per_seconds=2, max_in_flight=4))
    paused = limits.pause(QUEUE)
    assert (paused.rate, paused.per_seconds, paused.max_in_flight, paused.paused) == (5, 2, 4, True)

    lifted = limits.put(QUEUE, Wanted(rate=7))

    assert (lifted.rate, lifted.per_seconds, lifted.max_in_flight, lifted.paused) == (7, 1, None, False)
    (stats,) = platform.engine.stats([QUEUE])
    assert (stats.paused, "max_in_flight" in stats.limits, stats.limits["interval"]) == (False, False, 142_857)
    assert {"max_size", "journal"} <= set(stats.limits), "other limits stay"


def test_a_broker_that_lost_its_data_gets_its_limits_again(services: Services, platform: Platform) -> None:
    services.queue_limits.put(QUEUE, Wanted(rate=5, max_in_flight=4, paused=True))
    platform.lose(QUEUE)
    assert services.queue_limits.of(QUEUE).in_force is False

    platform.valkey.stop()
    assert services.queue_limits.of(QUEUE).in_force is None
    platform.valkey.start()
    services.broker.prepare()

    assert services.queue_limits.of(QUEUE).in_force is True


def test_limits_set_while_the_broker_is_away_apply_when_it_is_back(services: Services, platform: Platform) -> None:
    platform.valkey.stop()
    answer = services.queue_limits.put(QUEUE, Wanted(max_in_flight=3))
    assert (answer.max_in_flight, answer.in_force) == (3, None)

    platform.valkey.start()
    services.broker.prepare()

    assert services.queue_limits.of(QUEUE).in_force is True


def test_queues_have_no_limits_by_default(services: Services, platform: Platform) -> None:
    services.queue_limits.put(QUEUE, Wanted(rate=1))
    listed = {one.queue: one for one in services.queue_limits.listing()}

    assert list(listed) == list(QUEUES)
    other = listed["qa"]
    assert (other.rate, other.max_in_flight, other.paused, other.updated_at, other.in_force) == (
        None,
        None,
        False,
        None,
        True,
    )
    assert listed[QUEUE].updated_at is not None


def test_an_unknown_queue_is_refused_and_nothing_is_stored(services: Services) -> None:
    for call in (services.queue_limits.of, services.queue_limits.pause):
        with pytest.raises(NoSuchQueue, match="there are conversations"):
            call("nonsense")
    with pytest.raises(NoSuchQueue):
        services.queue_limits.put("nonsense", Wanted(rate=1))
    assert all(one.updated_at is None for one in services.queue_limits.listing())


def test_without_the_engine_limits_are_refused(
    environment: Environment, sqlite_database: Database, redis_urls: RedisUrls, tmp_path: object
) -> None:
    from pathlib import Path

    settings = settings_for(
        environment, sqlite_database, redis_urls, folder=Path(str(tmp_path)), BROKER_TRANSPORT="celery"
    )
    with celery_on(settings) as app:
        services = Services(settings, app)
        services.database = sqlite_database
        with pytest.raises(Unsupported, match="This broker does not support limits of queues: redis"):
            services.queue_limits.put(QUEUE, Wanted(rate=1))
        assert [one.in_force for one in services.queue_limits.listing()] == [None] * len(QUEUES)
        assert services.queue_limits.of(QUEUE).updated_at is None
        services.broker.prepare()


def test_a_whole_number_is_one_in_either_way_of_writing_it() -> None:
    assert Wanted.model_validate({"rate": 5.0, "max_in_flight": 2}).rate == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": 1.5},
        {"rate": True},
        {"rate": 10**7},
        {"per_seconds": 0},
        {"per_seconds": 90_000},
        {"max_in_flight": 0},
        {"paused": "yes"},
        {"speed": 1},
    ],
)
def test_an_impossible_limit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Wanted.model_validate(wrong)
