"""The audit of results: missing, wrong and unknown results are reported, and stored again from the history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError  # pyright: ignore[reportMissingTypeStubs]
from celery import Celery
from celery.exceptions import TaskRevokedError
from sqlalchemy import delete, update

from laneway.platform.db.models import TaskEvent, TaskRun
from laneway.platform.db.session import Database
from laneway.platform.execution.celery_results import CeleryResults, ResultStoreUnavailable, TaskFailed
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Stopped
from laneway.platform.operations import result_audit
from laneway.platform.operations.audit import Audit, AuditReport
from laneway.platform.operations.result_audit import ResultProblem
from laneway.schemas.task import TaskState
from tests.fixtures.attempts import EngineDriver, LedgerDriver, ledger_driver
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls, RunningValkey

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery's own backend

LATER = 10.0
"""Seconds after the end of a task when its missing result is reported."""
DONE = Completed({"done": True})


@dataclass
class ResultHarness:
    """A platform, its result store, and the audit of both."""

    desk: EngineDriver | LedgerDriver
    app: Celery
    clock: MovableClock
    valkey: RunningValkey

    def audit(self, results: CeleryResults | None = None, *, repair: bool = False) -> AuditReport:
        """Run one audit."""
        desk = self.desk
        platform = desk.platform if isinstance(desk, EngineDriver) else desk
        audit = Audit(desk.database, platform.broker, platform.recorder, desk.tasks, results or CeleryResults(self.app))
        return audit.run(repair=repair)

    def findings(self, *, repair: bool = False) -> list[tuple[str, ResultProblem, TaskState | None, str | None]]:
        """Return the findings of one audit about results."""
        results = self.audit(repair=repair).results
        assert sum(results.found.values()) == len(results.named)
        return [(one.task_id, one.kind, one.state, one.stored) for one in results.named]

    def start_task(self) -> Attempt:
        """Start a task, and store STARTED as its result."""
        id = self.desk.submit()
        attempt = self.desk.start(id)
        assert isinstance(attempt, Attempt), attempt
        self.app.backend.mark_as_started(id)
        return attempt

    def end_task(self, outcome: Outcome = DONE, *, stored: bool = True) -> str:
        """Run a task and return its id; `stored`: its result is stored, too."""
        attempt = self.start_task()
        assert self.desk.finish(attempt, outcome)
        if stored:
            self.store(attempt.task_id, outcome)
        return attempt.task_id

    def store(self, id: str, outcome: Outcome = DONE) -> None:
        """Store a result as workers do."""
        if isinstance(outcome, Completed):
            self.app.backend.mark_as_done(id, outcome.result)
        elif isinstance(outcome, Stopped):
            self.app.backend.store_result(id, TaskFailed("Cancelled", "stopped on request"), "REVOKED")
        else:
            self.app.backend.mark_as_failure(id, TaskFailed("ValueError", "wrong"))

    def key(self, id: str) -> bytes:
        """Return the key of a result."""
        return self.app.backend.get_key_for_task(id)

    def result(self, id: str) -> Any:
        """Return the result as Celery's callers get it."""
        return self.app.AsyncResult(id).get(timeout=5)


@pytest.fixture(params=["engine", "rows"])
def harness(
    request: pytest.FixtureRequest,
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
    movable_clock: MovableClock,
    valkey: RunningValkey,
) -> Iterator[ResultHarness]:
    """A harness on the engine and one on Celery's own transport, each on SQLite and on PostgreSQL."""
    if request.param == "engine":
        platform: Platform = request.getfixturevalue("platform")
        yield ResultHarness(EngineDriver(platform), platform.app, movable_clock, valkey)
        return
    config = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        yield ResultHarness(ledger_driver(config, app, platform_database), app, movable_clock, valkey)


def results_in(url: str) -> CeleryResults:
    """Return the results of another kind of store."""
    app = Celery("elsewhere", set_as_current=False)
    app.backend_cls = url  # pyright: ignore[reportAttributeAccessIssue]  a setting would give way to the environment
    return CeleryResults(app)


def test_matching_results_give_no_findings(harness: ResultHarness) -> None:
    for outcome in (DONE, Raised(ValueError("wrong")), Stopped()):
        harness.end_task(outcome)
    harness.start_task()
    harness.clock.forward(LATER)
    report = harness.audit()

    assert (report.results.looked_at, report.results.named, report.results.scanned_all) == (3, [], True)
    assert report.balanced


def test_results_of_a_flushed_store_are_reported_and_stored_again(harness: ResultHarness) -> None:
    with pytest.raises(ValueError, match="wrong") as raised:
        raise ValueError("wrong")
    done, failed, stopped = (harness.end_task(outcome) for outcome in (DONE, Raised(raised.value), Stopped()))
    harness.clock.forward(LATER)
    harness.valkey.flush(1)

    findings = [
        (done, ResultProblem.MISSING, TaskState.COMPLETED, None),
        (failed, ResultProblem.MISSING, TaskState.FAILED, None),
        (stopped, ResultProblem.MISSING, TaskState.CANCELLED, None),
    ]
    assert harness.findings() == findings
    report = harness.audit()
    assert (report.balanced, report.results.repaired) == (True, 0), "their tasks are accounted for without them"
    assert harness.audit(repair=True).results.repaired == 3
    assert harness.result(done) == {"done": True}
    with pytest.raises(TaskFailed, match="ValueError: wrong"):
        harness.result(failed)
    with pytest.raises(TaskFailed, match="Cancelled: stopped on request"):
        harness.result(stopped)
    assert harness.app.AsyncResult(failed).traceback == harness.desk.row(failed).traceback is not None
    assert (harness.app.AsyncResult(done).name, harness.app.AsyncResult(done).queue) == (
        "cleanup_old_data_task",
        "maintenance",
    )
    assert harness.findings() == []


def test_a_result_that_is_stored_again_keeps_its_expiry(harness: ResultHarness) -> None:
    id = harness.end_task(stored=False)
    harness.clock.forward(20 * 3600)
    harness.audit(repair=True)

    with_ttl: Any = harness.app.backend.client.ttl(harness.key(id))
    assert 0 < with_ttl <= 4 * 3600


def test_a_task_that_never_ran_needs_no_result(harness: ResultHarness) -> None:
    harness.desk.tasks.cancel(harness.desk.submit())
    harness.clock.forward(LATER)

    assert harness.findings() == []


def test_the_lost_result_of_an_expired_task_is_stored_again(harness: ResultHarness) -> None:
    id = harness.desk.submit()
    with harness.desk.database.transaction() as session:  # as the worker that found it too late has it recorded
        expired = {"state": TaskState.EXPIRED, "finished_at": harness.clock.now()}
        session.execute(update(TaskRun).where(TaskRun.id == id).values(**expired))
    harness.clock.forward(LATER)

    assert harness.findings(repair=True) == [(id, ResultProblem.MISSING, TaskState.EXPIRED, None)]
    with pytest.raises(TaskRevokedError, match="expired"):
        harness.result(id)


@pytest.mark.parametrize(
    ("outcome", "stored", "says"),
    [
        (Raised(ValueError("wrong")), DONE, "SUCCESS"),
        (DONE, Raised(ValueError("wrong")), "FAILURE"),
        (Stopped(), DONE, "SUCCESS"),
    ],
)
def test_a_result_that_contradicts_the_history_is_reported_and_replaced(
    harness: ResultHarness, outcome: Outcome, stored: Outcome, says: str
) -> None:
    id = harness.end_task(outcome, stored=False)
    harness.store(id, stored)
    harness.clock.forward(LATER)

    assert harness.findings(repair=True) == [
        (id, ResultProblem.CONTRADICTING, TaskState(harness.desk.row(id).state), says)
    ]
    assert harness.findings() == []
    if outcome is DONE:
        assert harness.result(id) == {"done": True}


def test_a_result_that_says_started_of_a_finished_task_is_replaced(harness: ResultHarness) -> None:
    id = harness.end_task(stored=False)
    harness.clock.forward(LATER)

    assert harness.findings(repair=True) == [(id, ResultProblem.MISSING, TaskState.COMPLETED, "STARTED")]
    assert harness.result(id) == {"done": True}


@ONE_DATABASE
def test_an_unreadable_result_is_reported_and_replaced(harness: ResultHarness) -> None:
    id = harness.end_task()
    harness.app.backend.client.set(harness.key(id), b'\x80{"status"\x00')
    harness.clock.forward(LATER)

    assert harness.findings(repair=True) == [(id, ResultProblem.CONTRADICTING, TaskState.COMPLETED, "unreadable")]
    assert harness.result(id) == {"done": True}


@ONE_DATABASE
@pytest.mark.parametrize("payload", ["{", "[]", '{"status": 5}', '{"status": "FAILURE", "result": 7, "date_done": 7}'])
def test_no_stored_result_of_an_unfinished_task_breaks_the_audit(harness: ResultHarness, payload: str) -> None:
    attempt = harness.start_task()
    harness.app.backend.client.set(harness.key(attempt.task_id), payload)
    harness.clock.forward(LATER)

    assert len(harness.audit(repair=True).unaccounted) == ("FAILURE" in payload)


@ONE_DATABASE
def test_a_compressed_result_is_read(harness: ResultHarness) -> None:
    harness.app.backend.compression = "gzip"
    harness.end_task()
    harness.clock.forward(LATER)

    assert harness.findings() == []


def test_results_of_unknown_tasks_are_reported_and_left_alone(harness: ResultHarness) -> None:
    known, strange = harness.end_task(), ["somebody-else", "x" * 300, "nul\x00", "\N{GREEK SMALL LETTER ALPHA}"]
    for id in strange:
        harness.store(id)
    harness.app.backend.client.set(harness.key("broken-") + b"\xff", "1")
    harness.clock.forward(LATER)
    findings = harness.findings(repair=True)

    assert {(id, kind) for id, kind, _, _ in findings} == {
        (id, ResultProblem.UNKNOWN) for id in (*strange, "broken-\N{REPLACEMENT CHARACTER}")
    }
    assert harness.audit().balanced
    assert [harness.result(id) for id in (known, *strange)] == [{"done": True}] * 5


@pytest.mark.parametrize("stored", [DONE, Raised(ValueError("wrong"))])
def test_an_unfinished_task_with_a_final_result_is_unaccounted_for(harness: ResultHarness, stored: Outcome) -> None:
    attempt = harness.start_task()
    harness.store(attempt.task_id, stored)
    harness.clock.forward(LATER)
    report = harness.audit()

    says = "SUCCESS" if stored is DONE else "FAILURE"
    assert [(one.task_id, one.state, one.why) for one in report.unaccounted] == [
        (attempt.task_id, TaskState.PROCESSING, f"its result says {says}"),
    ]
    assert (report.balanced, report.results.named) == (False, [])
    assert harness.audit(repair=True).repaired == 1
    assert harness.app.AsyncResult(attempt.task_id).state == "PENDING"
    assert harness.audit().balanced
    assert harness.desk.finish(attempt), "the task goes on"
    harness.store(attempt.task_id)
    harness.clock.forward(LATER)
    assert harness.findings() == []


@pytest.mark.parametrize("outcome", [DONE, Raised(ValueError("wrong"))])
def test_a_lost_task_is_completed_by_a_success_and_sent_again_without_an_error(
    platform: Platform, movable_clock: MovableClock, valkey: RunningValkey, outcome: Outcome
) -> None:
    """An error may be stored before a retry; only a success proves the end."""
    harness = ResultHarness(EngineDriver(platform), platform.app, movable_clock, valkey)
    id = harness.start_task().task_id
    platform.tasks.current(id)
    harness.store(id, outcome)
    platform.lose("maintenance")
    movable_clock.forward(LATER)
    report, says = harness.audit(repair=True), "SUCCESS" if outcome is DONE else "FAILURE"

    assert [one.why for one in report.unaccounted] == [f"the engine does not have it; its result says {says}"]
    assert (report.repaired, platform.sent("maintenance")) == (1, [] if outcome is DONE else [id])
    assert harness.app.AsyncResult(id).state == ("SUCCESS" if outcome is DONE else "PENDING")
    assert (platform.state(id) == TaskState.COMPLETED) is (outcome is DONE)


def test_the_result_of_an_earlier_run_is_not_the_end_of_this_one(harness: ResultHarness) -> None:
    first = harness.end_task(Raised(ValueError("wrong")))
    harness.desk.tasks.retry(first)
    again = harness.desk.start(first)
    assert isinstance(again, Attempt)
    harness.clock.forward(LATER)

    report = harness.audit()
    assert (report.unaccounted, report.results.named) == ([], [])


def test_the_result_that_celery_stores_for_a_lost_process_is_not_final(harness: ResultHarness) -> None:
    attempt = harness.start_task()
    assert harness.desk.finish(attempt, Raised(OSError("away")), schedule=(60.0,))
    harness.app.backend.mark_as_failure(attempt.task_id, WorkerLostError("signal 9"))
    harness.clock.forward(LATER)

    report = harness.audit()
    assert (report.unaccounted, report.results.named) == ([], [])


def test_a_task_that_did_not_come_through_the_platform_needs_no_result(harness: ResultHarness) -> None:
    id = harness.end_task(stored=False)
    harness.app.backend.forget(id)
    with harness.desk.database.transaction() as session:
        session.execute(delete(TaskEvent).where(TaskEvent.kind == "accepted"))
    harness.clock.forward(LATER)

    assert harness.findings() == []


def test_results_of_recently_ended_and_of_expired_tasks_are_not_compared(harness: ResultHarness) -> None:
    harness.end_task(stored=False)
    assert harness.findings() == []
    harness.clock.forward(24 * 3600 - 30)

    assert harness.audit().results.looked_at == 0


def test_a_task_that_runs_again_during_the_audit_is_left_alone(harness: ResultHarness) -> None:
    id = harness.end_task(stored=False)
    harness.clock.forward(LATER)

    class Late(CeleryResults):
        """Somebody retries the task by hand between the first look and the second."""

        def states(self, ids: Sequence[str]) -> list[str | None]:
            found = super().states(ids)
            if harness.desk.row(id).state == TaskState.COMPLETED:
                harness.desk.tasks.retry(id)
            return found

    report = harness.audit(Late(harness.app), repair=True)
    assert (report.results.named, report.results.repaired) == ([], 0)
    assert harness.app.AsyncResult(id).state == "PENDING"


def test_results_are_compared_in_pages_and_a_limited_number_is_named(
    harness: ResultHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("PAGE", 3), ("RESULTS_PER_FETCH", 2), ("MAX_NAMED", 4)):
        monkeypatch.setattr(result_audit, name, size)
    ids = [harness.end_task(stored=number % 2 == 0) for number in range(10)]
    with harness.desk.database.transaction() as session:
        session.execute(update(TaskRun).values(finished_at=harness.clock.now()))  # at one and the same moment
    for number in range(3):
        harness.store(f"unknown-{number}")
    harness.clock.forward(LATER)
    results = harness.audit(repair=True).results

    assert (results.looked_at, results.found) == (
        10,
        {ResultProblem.MISSING: 5, ResultProblem.CONTRADICTING: 0, ResultProblem.UNKNOWN: 3},
    )
    assert ([one.task_id for one in results.named], results.repaired) == (ids[1:8:2], 5)
    for number in range(3, 60):  # more than a server gives in one page, however few it is asked for
        harness.store(f"unknown-{number}")
    monkeypatch.setattr(result_audit, "MAX_SCANNED", 3)
    assert not harness.audit().results.scanned_all


def test_without_the_result_store_there_is_no_audit(harness: ResultHarness) -> None:
    harness.end_task()
    with pytest.raises(ResultStoreUnavailable, match="CELERY_RESULT_BACKEND"):
        harness.audit(results_in("redis://127.0.0.1:1/0"))


def test_a_store_that_cannot_be_searched_is_not_compared(harness: ResultHarness) -> None:
    harness.end_task()
    harness.clock.forward(LATER)
    report = harness.audit(results_in("cache+memory://"), repair=True)

    assert (report.balanced, report.results.listable, report.results.looked_at) == (True, False, 0)
