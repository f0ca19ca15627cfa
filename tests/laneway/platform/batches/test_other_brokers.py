"""Batches without the delivery engine: each end is a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from laneway.platform.batches.batches import Batches, NewBatch
from laneway.platform.batches.callbacks import callback_id
from laneway.platform.db.session import Database
from laneway.platform.execution.outcomes import Attempt, Raised
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent, BatchState
from laneway.schemas.task import TaskState
from tests.fixtures.attempts import LedgerDriver, ledger_driver
from tests.fixtures.platform import Environment, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls

TASK = "cleanup_old_data_task"


@pytest.fixture
def driver(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> Iterator[LedgerDriver]:
    """Attempts on rows, with kombu's own transport."""
    config = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        yield ledger_driver(config, app, platform_database)


@pytest.fixture
def batches(driver: LedgerDriver) -> Batches:
    return Batches(driver.database, driver.recorder, driver.tasks, driver.tasks._settings)


def new(tasks: int) -> NewBatch:
    callbacks = {event: Submission(TASK, {}, SubmitOptions()) for event in BatchEvent}
    return NewBatch(
        id="b", tasks=[Submission(TASK, {}, SubmitOptions(id=f"b-{n}")) for n in range(tasks)], callbacks=callbacks
    )


def started(driver: LedgerDriver, id: str) -> Attempt:
    attempt = driver.start(id)
    assert isinstance(attempt, Attempt)
    attempt.max_retries = 0
    return attempt


def submitted(driver: LedgerDriver) -> list[str]:
    """The events whose callbacks have a row."""
    ids = [callback_id("b", event) for event in BatchEvent]
    return sorted(run.task_id.split(":")[1] for run in driver.tasks.runs(ids))


def test_a_batch_ends_with_the_last_of_its_tasks(driver: LedgerDriver, batches: Batches) -> None:
    batches.create(new(3))
    driver.finish(started(driver, "b-0"))
    driver.finish(started(driver, "b-1"), Raised(OSError("away")))
    driver.tasks.outbox.relay()
    assert submitted(driver) == ["death"]
    driver.tasks.cancel("b-2")
    driver.tasks.outbox.relay()

    view = batches.view("b")
    assert (view.state, view.completed, view.failed, view.cancelled) == (BatchState.FAILED, 1, 1, 1)
    assert submitted(driver) == ["complete", "death"]
    assert driver.state(callback_id("b", BatchEvent.DEATH)) is TaskState.PENDING, "the broker has its message"


def test_many_ends_at_once_submit_each_callback_once(driver: LedgerDriver, batches: Batches) -> None:
    batches.create(new(8))
    attempts, barrier = [started(driver, f"b-{n}") for n in range(8)], Barrier(8)

    def finish(attempt: Attempt) -> None:
        barrier.wait(10)
        driver.finish(attempt)
        driver.tasks.outbox.batches.settle()

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(finish, attempt) for attempt in attempts]:
            done.result()
    driver.tasks.outbox.batches.settle()

    assert submitted(driver) == ["complete", "success"]
    assert batches.view("b").state is BatchState.COMPLETED
