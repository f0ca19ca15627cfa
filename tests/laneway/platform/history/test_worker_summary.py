"""What a worker says at its end that it did: its own attempts, since its start, by outcome."""

from __future__ import annotations

from laneway.platform.errors import PermanentError
from laneway.platform.execution.outcomes import Raised, Snoozed
from laneway.platform.history.worker_summary import WorkerSummary
from tests.fixtures.platform import Platform

NAME = "worker-1"


def shift(platform: Platform) -> WorkerSummary:
    begun = WorkerSummary(platform.database, platform.recorder, worker=NAME)
    begun.begin()
    return begun


def test_a_worker_that_did_nothing_says_so(platform: Platform) -> None:
    figures = shift(platform).figures()

    assert (figures.worker, figures.processed, figures.unfinished, figures.mean_seconds) == (NAME, 0, 0, None)


def test_attempts_are_counted_by_their_outcome(platform: Platform) -> None:
    begun = shift(platform)
    outcomes = [None, None, Raised(OSError("away")), Raised(PermanentError("no")), Snoozed(60), None]
    for number, outcome in enumerate(outcomes):
        platform.message(f"c-{number}")
        platform.work(outcome=outcome, schedule=(60.0,), worker=NAME)
    platform.message("c-9")
    platform.start(worker=NAME)

    figures = begun.figures()
    assert (figures.processed, figures.completed, figures.retried, figures.failed, figures.snoozed) == (6, 3, 1, 1, 1)
    assert figures.unfinished == 1
    assert figures.mean_seconds is not None and figures.p95_seconds is not None
    assert 0 <= figures.mean_seconds <= figures.p95_seconds < figures.seconds + 1


def test_what_others_did_and_a_worker_of_the_same_name_before_does_not_count(platform: Platform) -> None:
    platform.message("c-1")
    platform.work(worker=NAME)
    platform.message("c-2")
    left = platform.start(worker=NAME)  # killed in the middle, and not recorded yet
    begun = shift(platform)
    platform.message("c-3")
    platform.work(worker="worker-2")
    platform.message("c-4")
    platform.work(worker=NAME)
    platform.end(left)

    assert begun.figures().processed == 1


def test_a_retry_is_an_attempt_of_whoever_made_it(platform: Platform) -> None:
    begun = shift(platform)
    id = platform.message("c-1")
    platform.work(outcome=Raised(PermanentError("no")), worker=NAME)
    platform.tasks.retry(id)
    platform.work(worker="worker-2")

    figures = begun.figures()
    assert (figures.processed, figures.failed, figures.completed) == (1, 1, 0)
