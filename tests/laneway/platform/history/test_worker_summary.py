"""The totals of a worker: its own attempts since its start, by outcome."""

from __future__ import annotations

from laneway.platform.errors import PermanentError
from laneway.platform.execution.outcomes import Raised, Snoozed
from laneway.platform.history.worker_summary import WorkerMeter
from tests.fixtures.platform import Platform

NAME = "worker-1"


def started_meter(platform: Platform) -> WorkerMeter:
    meter = WorkerMeter(platform.database, platform.recorder, worker=NAME)
    meter.start()
    return meter


def test_a_worker_that_did_nothing_has_empty_totals(platform: Platform) -> None:
    totals = started_meter(platform).totals()

    assert (totals.worker, totals.processed, totals.unfinished, totals.mean_seconds) == (NAME, 0, 0, None)


def test_attempts_are_counted_by_their_outcome(platform: Platform) -> None:
    meter = started_meter(platform)
    outcomes = [None, None, Raised(OSError("away")), Raised(PermanentError("no")), Snoozed(60), None]
    for number, outcome in enumerate(outcomes):
        platform.message(f"c-{number}")
        platform.work(outcome=outcome, schedule=(60.0,), worker=NAME)
    platform.message("c-9")
    platform.start(worker=NAME)

    totals = meter.totals()
    assert (totals.processed, totals.completed, totals.retried, totals.failed, totals.snoozed) == (6, 3, 1, 1, 1)
    assert totals.unfinished == 1
    assert totals.mean_seconds is not None and totals.p95_seconds is not None
    assert 0 <= totals.mean_seconds <= totals.p95_seconds < totals.seconds + 1


def test_attempts_of_others_and_of_an_earlier_worker_of_the_same_name_do_not_count(platform: Platform) -> None:
    platform.message("c-1")
    platform.work(worker=NAME)
    platform.message("c-2")
    left = platform.start(worker=NAME)  # its worker was killed, and the event is not recorded yet
    meter = started_meter(platform)
    platform.message("c-3")
    platform.work(worker="worker-2")
    platform.message("c-4")
    platform.work(worker=NAME)
    platform.end(left)

    assert meter.totals().processed == 1


def test_a_retry_counts_for_the_worker_that_ran_it(platform: Platform) -> None:
    meter = started_meter(platform)
    id = platform.message("c-1")
    platform.work(outcome=Raised(PermanentError("no")), worker=NAME)
    platform.tasks.retry(id)
    platform.work(worker="worker-2")

    totals = meter.totals()
    assert (totals.processed, totals.failed, totals.completed) == (1, 1, 0)
