"""Rules of a key without the delivery engine: the rows of the database decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laneway.platform.db.session import Database
from laneway.platform.execution.outcomes import Attempt, AttemptSignal, Skip
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.choices import IfBusy, SubmitOutcome
from laneway.schemas.task import TaskHandle, TaskState
from tests.fixtures.attempts import LedgerDriver, ledger_driver
from tests.fixtures.platform import Environment, MovableClock, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls


@pytest.fixture
def driver(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> Iterator[LedgerDriver]:
    """Attempts on rows, with kombu's own transport."""
    config = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        yield ledger_driver(config, app, platform_database)


def submit(driver: LedgerDriver, **options: Any) -> TaskHandle:
    return driver.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(**options))


def test_the_newest_stops_the_waiting_and_the_running_one(driver: LedgerDriver) -> None:
    running, waiting = (submit(driver, key="ada").task_id for _ in range(2))
    attempt = driver.start(running)
    assert isinstance(attempt, Attempt)
    new = submit(driver, key="ada", if_busy=IfBusy.NEWEST)

    assert set(new.replaced) == {running, waiting}
    assert driver.attempts.check_cancelled([attempt]) == [AttemptSignal.CANCEL]
    assert driver.row(waiting).state == TaskState.CANCELLED
    assert isinstance(driver.start(waiting), Skip), "its message is dropped"
    assert isinstance(driver.start(new.task_id), Attempt)


def test_a_debounced_task_is_sent_when_it_is_due(driver: LedgerDriver, movable_clock: MovableClock) -> None:
    first, second = (submit(driver, debounce=5, debounce_key="ada") for _ in range(2))
    assert second.outcome is SubmitOutcome.MERGED
    driver.tasks.outbox.relay()
    assert driver.row(first.task_id).published_at is None
    movable_clock.forward(6)
    driver.tasks.outbox.relay()

    assert driver.row(first.task_id).state == TaskState.PENDING
    assert isinstance(driver.start(first.task_id), Attempt)
