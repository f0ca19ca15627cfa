"""Many lost tasks, concurrent maintenance threads, and what blocks some tasks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest

from laneway.engine import Limits, MessageState
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.execution.outcomes import Attempt
from laneway.platform.history.adoption import run_from_call
from laneway.platform.operations import maintenance as maintenance_module
from laneway.platform.operations.maintenance import MISSING_AFTER, Maintenance
from laneway.platform.submission.acceptance import SubmitOptions
from tests.fixtures.attempts import ledger_driver
from tests.fixtures.journal import attempts
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls

MAINTENANCE = "maintenance"
LATER = MISSING_AFTER.total_seconds() + 1
"""Seconds after which a task that was sent must be in the broker."""


@pytest.fixture
def compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare tasks with the broker at once after they were sent."""
    monkeypatch.setattr(maintenance_module, "MISSING_AFTER", timedelta(seconds=-1))


def test_concurrent_maintenance_threads_send_each_lost_task_once(
    platform: Platform, movable_clock: MovableClock
) -> None:
    running = [platform.chore() for _ in range(10)]
    for _ in running:
        platform.start(MAINTENANCE)
    lost = [platform.chore() for _ in range(10)]
    platform.recorder.catch_up()
    platform.lose(MAINTENANCE)
    movable_clock.forward(LATER)

    assert sum(at_once(platform, Maintenance.reconcile)) == len(lost) + len(running)

    assert platform.places(MAINTENANCE) == dict.fromkeys([*lost, *running], MessageState.READY)
    assert {str(attempts(platform, id)) for id in running} == {"[(1, 'lost')]"}


def test_a_page_with_losses_is_followed_by_the_next_page(
    platform: Platform, compared_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "PAGE", 3)
    ids = [platform.chore() for _ in range(8)]
    platform.lose(MAINTENANCE)

    assert platform.maintenance().reconcile() == 8
    assert platform.sent(MAINTENANCE) == ids


def test_each_call_compares_one_page_without_losses_and_starts_over_at_the_end(
    platform: Platform, compared_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "PAGE", 3)
    ids = [platform.message(f"c-{number}") for number in range(6)] + [platform.chore()]
    maintenance = platform.maintenance()
    for _ in range(2):  # the maintenance comes back to the last page
        platform.lose(MAINTENANCE)
        assert [maintenance.reconcile() for _ in range(3)] == [0, 0, 1]
        assert platform.sent(MAINTENANCE) == ids[6:]


@pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
def test_six_hundred_lost_tasks_are_sent_again_in_one_call(platform: Platform, movable_clock: MovableClock) -> None:
    ids = [f"chore-{number}" for number in range(600)]
    with platform.database.transaction() as session:
        session.add_all(
            [
                run_from_call(id, "cleanup_old_data_task", {}, queue=MAINTENANCE, at=clock.now(), priority=1)
                for id in ids
            ]
        )
    movable_clock.forward(LATER)

    assert platform.maintenance().reconcile() == 600
    assert platform.sent(MAINTENANCE) == ids


def test_a_full_queue_does_not_block_lost_tasks_of_other_queues(platform: Platform, compared_at_once: None) -> None:
    for _ in range(3):
        platform.message()
    chore = platform.chore()
    platform.lose("conversations", MAINTENANCE)
    platform.broker.prepare()
    platform.engine.limit("conversations", Limits(max_size=1))

    assert platform.maintenance().reconcile() == 2
    assert (len(platform.sent()), platform.sent(MAINTENANCE)) == (1, [chore])


def test_lost_tasks_are_sent_after_an_outage_of_the_broker(platform: Platform, movable_clock: MovableClock) -> None:
    id, maintenance = platform.chore(), platform.maintenance()
    platform.lose(MAINTENANCE)
    movable_clock.forward(LATER)
    platform.valkey.stop()
    with pytest.raises(BrokerUnavailable):
        maintenance.reconcile()
    platform.valkey.start()
    platform.lose(MAINTENANCE)
    movable_clock.forward(LATER)

    assert maintenance.reconcile() == 1
    assert platform.places(MAINTENANCE) == {id: MessageState.READY}


def test_a_taken_uniqueness_key_does_not_block_other_lost_tasks(platform: Platform, compared_at_once: None) -> None:
    options = SubmitOptions(unique="once")
    first = platform.tasks.submit("cleanup_old_data_task", {}, options=options).task_id
    second = platform.chore()
    platform.lose(MAINTENANCE)
    other = platform.tasks.submit("cleanup_old_data_task", {}, options=options).task_id

    assert platform.maintenance().reconcile() == 1
    assert sorted(platform.places(MAINTENANCE)) == sorted([second, other])
    assert first not in platform.places(MAINTENANCE)


def test_a_full_journal_does_not_block_lost_tasks_of_other_queues(platform: Platform, compared_at_once: None) -> None:
    platform.message()
    chore = platform.chore()
    platform.recorder.catch_up()
    platform.lose("conversations", MAINTENANCE)
    platform.broker.prepare()
    platform.engine.enable_journal("conversations", 0)

    assert platform.maintenance().reconcile() == 1
    assert (platform.sent(), platform.sent(MAINTENANCE)) == ([], [chore])


def test_without_the_engine_nothing_is_compared(
    environment: Environment, sqlite_database: Database, redis_urls: RedisUrls, tmp_path: Path, compared_at_once: None
) -> None:
    config = settings_for(environment, sqlite_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        desk = ledger_driver(config, app, sqlite_database)
        attempt = desk.start(desk.submit())
        assert isinstance(attempt, Attempt)
        maintenance = Maintenance(
            desk.database,
            desk.broker,
            desk.tasks,
            desk.recorder,
            desk.reconciliation,
            name="w",
            queues=[MAINTENANCE],
            lease_seconds=15,
        )

        assert (maintenance.reconcile(), maintenance.record()) == (0, 0)
        assert desk.finish(attempt)


def at_once(platform: Platform, job: Callable[[Maintenance], int], *, threads: int = 4) -> list[int]:
    """Let several maintenance threads do the same at the same moment; what each of them did."""
    together = Barrier(threads)

    def work(number: int) -> int:
        maintenance = platform.maintenance(f"maintenance-{number}")
        together.wait(10)
        return job(maintenance)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(threads)))
