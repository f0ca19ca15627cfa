"""The third place of the audit: results that are gone, wrong or nobody's are told, and put back from the history."""

# Celery and redis-py are typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

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
from laneway.platform.execution.celery_results import Results, ResultStoreUnavailable, TaskFailed
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Stopped
from laneway.platform.operations import result_audit
from laneway.platform.operations.audit import Audit, AuditReport
from laneway.platform.operations.result_audit import ResultProblem
from laneway.platform.schemas.task import TaskState
from tests.fixtures.attempts import EngineDesk, StockDesk, stock_desk
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, settings_for
from tests.fixtures.valkey import RedisUrls, RunningValkey

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # by Celery's own backend

LATER = 10.0
"""Seconds after which a result that is not there counts as missing."""
DONE = Completed({"done": True})


@dataclass
class Office:
    """A platform, and what the audit says of it."""

    desk: EngineDesk | StockDesk
    app: Celery
    clock: MovableClock
    valkey: RunningValkey

    def audit(self, results: Results | None = None, *, repair: bool = False) -> AuditReport:
        """One audit."""
        desk = self.desk
        platform = desk.platform if isinstance(desk, EngineDesk) else desk
        audit = Audit(desk.database, platform.broker, platform.recorder, desk.tasks, results or Results(self.app))
        return audit.run(repair=repair)

    def told(self, *, repair: bool = False) -> list[tuple[str, ResultProblem, TaskState | None, str | None]]:
        """What it says of results."""
        results = self.audit(repair=repair).results
        assert sum(results.found.values()) == len(results.named)
        return [(one.task_id, one.kind, one.state, one.stored) for one in results.named]

    def begun(self) -> Attempt:
        """A task that a worker began, and said so."""
        id = self.desk.chore()
        attempt = self.desk.begin(id)
        assert isinstance(attempt, Attempt), attempt
        self.app.backend.mark_as_started(id)
        return attempt

    def ended(self, outcome: Outcome = DONE, *, stored: bool = True) -> str:
        """A task that a worker ended, and, unless it died in between, stored its result; its id."""
        attempt = self.begun()
        assert self.desk.end(attempt, outcome)
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
        """Where its result is."""
        return self.app.backend.get_key_for_task(id)

    def result(self, id: str) -> Any:
        """What Celery's own callers get."""
        return self.app.AsyncResult(id).get(timeout=5)


@pytest.fixture(params=["engine", "rows"])
def office(
    request: pytest.FixtureRequest,
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
    movable_clock: MovableClock,
    valkey: RunningValkey,
) -> Iterator[Office]:
    """On the engine with its results, and on Celery's own; on SQLite and on PostgreSQL."""
    if request.param == "engine":
        platform: Platform = request.getfixturevalue("platform")
        yield Office(EngineDesk(platform), platform.app, movable_clock, valkey)
        return
    config = settings_for(environment, platform_database, redis_urls, folder=tmp_path, BROKER_TRANSPORT="celery")
    with celery_on(config) as app:
        yield Office(stock_desk(config, app, platform_database), app, movable_clock, valkey)


def elsewhere(url: str) -> Results:
    """Another result store."""
    app = Celery("elsewhere", set_as_current=False)
    app.backend_cls = url  # pyright: ignore[reportAttributeAccessIssue]  a setting would give way to the environment
    return Results(app)


def test_nothing_is_told_where_each_task_has_the_result_that_fits(office: Office) -> None:
    for outcome in (DONE, Raised(ValueError("wrong")), Stopped()):
        office.ended(outcome)
    office.begun()
    office.clock.forward(LATER)
    count = office.audit()

    assert (count.results.looked_at, count.results.named, count.results.scanned_all) == (3, [], True)
    assert count.balanced


def test_results_of_a_flushed_store_are_told_and_put_back(office: Office) -> None:
    with pytest.raises(ValueError, match="wrong") as raised:
        raise ValueError("wrong")
    done, failed, stopped = (office.ended(outcome) for outcome in (DONE, Raised(raised.value), Stopped()))
    office.clock.forward(LATER)
    office.valkey.flush(1)

    told = [
        (done, ResultProblem.MISSING, TaskState.COMPLETED, None),
        (failed, ResultProblem.MISSING, TaskState.FAILED, None),
        (stopped, ResultProblem.MISSING, TaskState.CANCELLED, None),
    ]
    assert office.told() == told
    count = office.audit()
    assert (count.balanced, count.results.repaired) == (True, 0), "their tasks are accounted for without them"
    assert office.audit(repair=True).results.repaired == 3
    assert office.result(done) == {"done": True}
    with pytest.raises(TaskFailed, match="ValueError: wrong"):
        office.result(failed)
    with pytest.raises(TaskFailed, match="Cancelled: stopped on request"):
        office.result(stopped)
    assert office.app.AsyncResult(failed).traceback == office.desk.row(failed).traceback is not None
    assert (office.app.AsyncResult(done).name, office.app.AsyncResult(done).queue) == (
        "cleanup_old_data_task",
        "maintenance",
    )
    assert office.told() == []


def test_a_result_that_is_put_back_is_kept_as_long_as_it_would_have_been(office: Office) -> None:
    id = office.ended(stored=False)
    office.clock.forward(20 * 3600)
    office.audit(repair=True)

    with_ttl: Any = office.app.backend.client.ttl(office.key(id))
    assert 0 < with_ttl <= 4 * 3600


def test_a_task_that_ended_without_being_run_has_no_result_and_none_is_missed(office: Office) -> None:
    office.desk.tasks.cancel(office.desk.chore())
    office.clock.forward(LATER)

    assert office.told() == []


def test_an_expired_task_that_lost_its_result_gets_one(office: Office) -> None:
    id = office.desk.chore()
    with office.desk.database.transaction() as session:  # as the worker that found it too late has it recorded
        expired = {"state": TaskState.EXPIRED, "finished_at": office.clock.now()}
        session.execute(update(TaskRun).where(TaskRun.id == id).values(**expired))
    office.clock.forward(LATER)

    assert office.told(repair=True) == [(id, ResultProblem.MISSING, TaskState.EXPIRED, None)]
    with pytest.raises(TaskRevokedError, match="expired"):
        office.result(id)


@pytest.mark.parametrize(
    ("outcome", "stored", "says"),
    [
        (Raised(ValueError("wrong")), DONE, "SUCCESS"),
        (DONE, Raised(ValueError("wrong")), "FAILURE"),
        (Stopped(), DONE, "SUCCESS"),
    ],
)
def test_a_result_that_contradicts_the_history_is_told_and_replaced(
    office: Office, outcome: Outcome, stored: Outcome, says: str
) -> None:
    id = office.ended(outcome, stored=False)
    office.store(id, stored)
    office.clock.forward(LATER)

    assert office.told(repair=True) == [(id, ResultProblem.CONTRADICTING, TaskState(office.desk.row(id).state), says)]
    assert office.told() == []
    if outcome is DONE:
        assert office.result(id) == {"done": True}


def test_a_result_that_says_started_of_a_task_that_is_over_is_completed(office: Office) -> None:
    id = office.ended(stored=False)
    office.clock.forward(LATER)

    assert office.told(repair=True) == [(id, ResultProblem.MISSING, TaskState.COMPLETED, "STARTED")]
    assert office.result(id) == {"done": True}


def test_a_result_that_nobody_can_read_is_told_and_replaced(office: Office) -> None:
    id = office.ended()
    office.app.backend.client.set(office.key(id), b'\x80{"status"\x00')
    office.clock.forward(LATER)

    assert office.told(repair=True) == [(id, ResultProblem.CONTRADICTING, TaskState.COMPLETED, "what nobody can read")]
    assert office.result(id) == {"done": True}


@pytest.mark.parametrize("payload", ["{", "[]", '{"status": 5}', '{"status": "FAILURE", "result": 7, "date_done": 7}'])
def test_whatever_is_stored_for_an_unfinished_task_the_audit_goes_on(office: Office, payload: str) -> None:
    attempt = office.begun()
    office.app.backend.client.set(office.key(attempt.task_id), payload)
    office.clock.forward(LATER)

    assert len(office.audit(repair=True).unaccounted) == ("FAILURE" in payload)


def test_a_compressed_result_is_read(office: Office) -> None:
    office.app.backend.compression = "gzip"
    office.ended()
    office.clock.forward(LATER)

    assert office.told() == []


def test_results_of_tasks_that_the_history_does_not_know_are_told_and_left_alone(office: Office) -> None:
    known, strange = office.ended(), ["somebody-else", "x" * 300, "nul\x00", "\N{GREEK SMALL LETTER ALPHA}"]
    for id in strange:
        office.store(id)
    office.app.backend.client.set(office.key("broken-") + b"\xff", "1")
    office.clock.forward(LATER)
    told = office.told(repair=True)

    assert {(id, kind) for id, kind, _, _ in told} == {
        (id, ResultProblem.UNKNOWN) for id in (*strange, "broken-\N{REPLACEMENT CHARACTER}")
    }
    assert office.audit().balanced
    assert [office.result(id) for id in (known, *strange)] == [{"done": True}] * 5


@pytest.mark.parametrize("stored", [DONE, Raised(ValueError("wrong"))])
def test_a_result_that_says_over_of_an_unfinished_task_is_unaccounted_for(office: Office, stored: Outcome) -> None:
    attempt = office.begun()
    office.store(attempt.task_id, stored)
    office.clock.forward(LATER)
    count = office.audit()

    says = "SUCCESS" if stored is DONE else "FAILURE"
    assert [(one.task_id, one.state, one.why) for one in count.unaccounted] == [
        (attempt.task_id, TaskState.PROCESSING, f"its result says {says}"),
    ]
    assert (count.balanced, count.results.named) == (False, [])
    assert office.audit(repair=True).repaired == 1
    assert office.app.AsyncResult(attempt.task_id).state == "PENDING"
    assert office.audit().balanced
    assert office.desk.end(attempt), "the task goes on"
    office.store(attempt.task_id)
    office.clock.forward(LATER)
    assert office.told() == []


def test_a_task_that_the_engine_lost_with_a_result_is_sent_again_without_it(
    platform: Platform, movable_clock: MovableClock, valkey: RunningValkey
) -> None:
    office = Office(EngineDesk(platform), platform.app, movable_clock, valkey)
    id = office.begun().task_id
    platform.tasks.current(id)
    office.store(id)
    platform.lose("maintenance")
    movable_clock.forward(LATER)
    count = office.audit(repair=True)

    assert [one.why for one in count.unaccounted] == ["the engine does not have it; its result says SUCCESS"]
    assert (count.repaired, platform.sent("maintenance")) == (1, [id])
    assert office.app.AsyncResult(id).state == "PENDING"


def test_the_result_of_an_earlier_run_is_not_the_end_of_this_one(office: Office) -> None:
    first = office.ended(Raised(ValueError("wrong")))
    office.desk.tasks.retry(first)
    again = office.desk.begin(first)
    assert isinstance(again, Attempt)
    office.clock.forward(LATER)

    count = office.audit()
    assert (count.unaccounted, count.results.named) == ([], [])


def test_what_celery_says_of_a_lost_process_is_not_the_end_of_its_task(office: Office) -> None:
    attempt = office.begun()
    assert office.desk.end(attempt, Raised(OSError("away")), schedule=(60.0,))
    office.app.backend.mark_as_failure(attempt.task_id, WorkerLostError("signal 9"))
    office.clock.forward(LATER)

    count = office.audit()
    assert (count.unaccounted, count.results.named) == ([], [])


def test_a_task_that_came_past_the_platform_may_have_been_told_to_keep_no_result(office: Office) -> None:
    id = office.ended(stored=False)
    office.app.backend.forget(id)
    with office.desk.database.transaction() as session:
        session.execute(delete(TaskEvent).where(TaskEvent.kind == "accepted"))
    office.clock.forward(LATER)

    assert office.told() == []


def test_neither_what_ended_a_moment_ago_nor_what_has_expired_is_missed(office: Office) -> None:
    office.ended(stored=False)
    assert office.told() == []
    office.clock.forward(24 * 3600 - 30)

    assert office.audit().results.looked_at == 0


def test_a_task_that_is_run_again_while_it_is_looked_at_is_left_alone(office: Office) -> None:
    id = office.ended(stored=False)
    office.clock.forward(LATER)

    class Late(Results):
        """Somebody retries the task by hand between the first look and the second."""

        def states(self, ids: Sequence[str]) -> list[str | None]:
            found = super().states(ids)
            if office.desk.row(id).state == TaskState.COMPLETED:
                office.desk.tasks.retry(id)
            return found

    count = office.audit(Late(office.app), repair=True)
    assert (count.results.named, count.results.repaired) == ([], 0)
    assert office.app.AsyncResult(id).state == "PENDING"


def test_many_results_are_looked_at_in_pages_and_few_are_named(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("PAGE", 3), ("FETCHED", 2), ("MAX_NAMED", 4)):
        monkeypatch.setattr(result_audit, name, size)
    ids = [office.ended(stored=number % 2 == 0) for number in range(10)]
    with office.desk.database.transaction() as session:
        session.execute(update(TaskRun).values(finished_at=office.clock.now()))  # at one and the same moment
    for number in range(3):
        office.store(f"unknown-{number}")
    office.clock.forward(LATER)
    results = office.audit(repair=True).results

    assert (results.looked_at, results.found) == (
        10,
        {ResultProblem.MISSING: 5, ResultProblem.CONTRADICTING: 0, ResultProblem.UNKNOWN: 3},
    )
    assert ([one.task_id for one in results.named], results.repaired) == (ids[1:8:2], 5)
    for number in range(3, 60):  # more than a server gives in one page, however few it is asked for
        office.store(f"unknown-{number}")
    monkeypatch.setattr(result_audit, "MAX_SCANNED", 3)
    assert not office.audit().results.scanned_all


def test_without_the_result_store_there_is_no_audit(office: Office) -> None:
    office.ended()
    with pytest.raises(ResultStoreUnavailable, match="CELERY_RESULT_BACKEND"):
        office.audit(elsewhere("redis://127.0.0.1:1/0"))


def test_a_store_that_cannot_be_looked_through_is_left_out(office: Office) -> None:
    office.ended()
    office.clock.forward(LATER)
    count = office.audit(elsewhere("cache+memory://"), repair=True)

    assert (count.balanced, count.results.listable, count.results.looked_at) == (True, False, 0)
