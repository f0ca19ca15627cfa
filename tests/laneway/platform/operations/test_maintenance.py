"""Maintenance: the reports of a worker, and the thread with all its jobs."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from laneway.platform import clock
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.execution.ledger_attempts import ALIVE_SHARE
from laneway.platform.operations import maintenance as maintenance_module
from laneway.platform.operations.maintenance import Maintenance
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

MAINTENANCE = "maintenance"


@pytest.fixture
def compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare tasks with the broker at once after they were sent."""
    monkeypatch.setattr(maintenance_module, "MISSING_AFTER", timedelta(seconds=-1))


# --- workers and deliveries ---------------------------------------------------------------------------------


def test_a_worker_is_known_while_it_reports_and_forgotten_when_it_signs_off(platform: Platform) -> None:
    maintenance = platform.maintenance("w1", ["webhooks"])
    maintenance.report()
    maintenance.report()
    assert platform.tasks.live_workers() == 1
    assert platform.tasks.queues()["webhooks"].workers == 1

    maintenance.sign_off()

    assert platform.tasks.live_workers() == 0


# --- the thread ---------------------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A maintenance thread that checks many times a second."""
    for name in ("TICK", "COMPARE_EVERY"):
        monkeypatch.setattr(maintenance_module, name, 0.02)
    monkeypatch.setattr(maintenance_module, "MISSING_AFTER", timedelta(seconds=0.3))


def test_the_thread_runs_all_its_jobs(platform: Platform, fast: None) -> None:
    lost, dead = platform.chore(), platform.chore()
    platform.start(MAINTENANCE)
    platform.recorder.catch_up()
    platform.lose(MAINTENANCE)
    platform.broker.prepare()
    buried, done = platform.message("c-1"), platform.message("c-2")
    platform.engine.bury([platform.fetched()], reason="rejected")
    assert platform.work() == done
    kept = platform.webhook(id="kept").task_id
    platform.lose("webhooks")
    platform.tasks.outbox.park(platform.row(kept))
    maintenance = platform.maintenance("w1")
    maintenance.start()
    try:
        wait_until(lambda: sorted(platform.sent(MAINTENANCE)) == sorted([lost, dead]), seconds=10)
        wait_until(lambda: recorded(platform, buried) == TaskState.DEAD_LETTER, seconds=10)
        wait_until(lambda: recorded(platform, done) == TaskState.COMPLETED, seconds=10)
        wait_until(lambda: platform.sent("webhooks") == [kept], seconds=10)
        assert platform.tasks.live_workers() == 1
    finally:
        maintenance.stop()

    assert not maintenance.is_running
    assert platform.tasks.live_workers() == 0


def recorded(platform: Platform, id: str) -> TaskState:
    """What the row says, without looking into the journal."""
    return next(TaskState(row.state) for row in platform.rows() if row.id == id)


def test_the_thread_sets_the_limits_of_queues_that_the_broker_lost(platform: Platform, fast: None) -> None:
    platform.chore()
    platform.lose(MAINTENANCE)
    maintenance = platform.maintenance("w1")
    maintenance.start()
    try:
        wait_until(lambda: "journal" in platform.engine.stats([MAINTENANCE])[0].limits, seconds=10)
    finally:
        maintenance.stop()


def test_the_thread_reports_so_often_that_its_worker_is_never_taken_for_dead(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, report = list[float](), Maintenance.report

    def noted(self: Maintenance) -> None:
        reports.append(clock.now().timestamp())
        report(self)

    monkeypatch.setattr(Maintenance, "report", noted)
    monkeypatch.setattr(maintenance_module, "TICK", 0.01)
    maintenance = Maintenance(
        platform.database,
        platform.broker,
        platform.tasks,
        platform.recorder,
        platform.reconciliation,
        name="w1",
        queues=[MAINTENANCE],
        lease_seconds=1,
    )
    maintenance.start()
    try:
        wait_until(lambda: len(reports) >= 4, seconds=10)
    finally:
        maintenance.stop()
    assert (reports[3] - reports[0]) / 3 < ALIVE_SHARE / 2, "two in the time in which one must come"


@pytest.mark.parametrize("away", ["broker", "database"])
def test_the_thread_survives_outages_of_broker_and_database(platform: Platform, fast: None, away: str) -> None:
    id, maintenance = platform.chore(), platform.maintenance("w1")
    platform.lose(MAINTENANCE)
    with contextlib.ExitStack() as stack, capture_logs() as logs:
        if away == "broker":
            platform.valkey.stop()
            stack.callback(platform.valkey.start)
        else:
            stack.enter_context(platform.without_database())
        maintenance.start()
        wait_until(lambda: any(entry.get("job") == "compare" for entry in logs), seconds=15)
    try:
        wait_until(lambda: platform.sent(MAINTENANCE) == [id], seconds=15)
    finally:
        maintenance.stop()


def test_the_log_has_each_reason_once_until_the_job_works_again(platform: Platform) -> None:
    maintenance, told = platform.maintenance("w1"), iter(["away", "away", "full", None, "away"])

    def relay() -> None:
        if reason := next(told):
            raise BrokerUnavailable(reason)

    with capture_logs() as lines:
        for _ in range(5):
            maintenance._attempt(relay)  # pyright: ignore[reportPrivateUsage]

    assert [line["event"].removeprefix("maintenance: ") for line in lines] == [
        *["will try again"] * 2,
        "works again",
        "will try again",
    ]
