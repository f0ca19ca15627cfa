"""The ledger against a model of it: random calls, one after the other, and the same outcome on both sides.

The real side is the repository of task runs, with the executions above it where they decide, on a SQLite file; the
model is a dictionary. After each step they must agree on every task. Order and delays are the engine's, whose own
model is `test_engine_model`: here any waiting task may be delivered at any time, also twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from app.core import catalog, clock
from app.core.errors import Conflict, Undeliverable, WrongState
from app.core.retry import RetryPolicy
from app.db.models import TaskRun
from app.db.repositories import task_runs
from app.db.session import Database
from app.schemas.task import FINISHED, UNFINISHED, WAITING, State
from app.services.executions import Completed, Outcome, Raised, Refused, Stopped
from app.services.steward import Steward
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls

QUEUE = "conversations"
MAX_RETRIES, RETRY_SECONDS, LEASE_SECONDS = 2, 5.0, 10.0
SILENT = 0.6 * LEASE_SECONDS
"""A worker that has been silent for so long is dead."""
MOST_TASKS = 3
"""So few that much happens to each."""
POLICY = RetryPolicy(MAX_RETRIES, 0, 0, schedule=(RETRY_SECONDS,))
WORKERS = ("w1", "w2")
WORKER, INDEX = st.sampled_from(WORKERS), st.integers(0, 50)


@dataclass
class Expected:
    """One task as the model has it."""

    id: str
    text: str
    state: State
    attempts: int = 0
    cancel: bool = False
    worker: str | None = None
    started: datetime | None = None
    published: int = 0
    """How often it was sent, or reopened."""
    untouched: bool = True
    """Its submitter may still withdraw it: it never ran, was not sent again, and nobody else counts on it."""


@dataclass
class Alive:
    """A worker as the model has it."""

    started: datetime
    seen: datetime


def has_tasks(machine: LedgerMachine) -> bool:
    return bool(machine.tasks)


def has_running_tasks(machine: LedgerMachine) -> bool:
    return bool(machine.live)


def has_attempts(machine: LedgerMachine) -> bool:
    return bool(machine.attempts)


def has_looks(machine: LedgerMachine) -> bool:
    return bool(machine.looks)


class LedgerMachine(RuleBasedStateMachine):
    """Random calls on both sides."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform = platform
        self.tasks: dict[str, Expected] = {}
        self.gone: set[str] = set()
        self.workers: dict[str, Alive] = {}
        self.stewards: dict[str, Steward] = {}
        self.attempts: list[TaskRun] = []
        """Every attempt that was ever claimed: also those that lost their task."""
        self.live: dict[str, TaskRun] = {}
        self.looks: list[tuple[TaskRun, Expected, State, int, int]] = []
        """Rows that a steward read, with what was true then: task, state, attempts, times sent."""
        self.now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
        self._clock, clock.now = clock.now, self._tell

    def _tell(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    # --- what callers do ------------------------------------------------------------------------------------

    @precondition(lambda machine: len(machine.tasks) < MOST_TASKS)
    @rule(delayed=st.booleans())
    def submit(self, delayed: bool) -> None:
        number = len(self.tasks) + len(self.gone)
        id, text = f"t{number}", f"text {number}"
        handle = self.platform.tasks.submit(
            catalog.PROCESS_MESSAGE, {"conversation_id": "c", "text": text}, id=id, delay=30 if delayed else 0
        )
        self.tasks[id] = Expected(id, text, State.SCHEDULED if delayed else State.PENDING)
        assert handle.created

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submit_again(self, index: int) -> None:
        task = self.some(index)
        payload = {"conversation_id": "c", "text": task.text}
        handle = self.platform.tasks.submit(catalog.PROCESS_MESSAGE, payload, id=task.id)
        assert (handle.created, handle.state) == (False, task.state)
        if task.state in WAITING and task.untouched:
            task.published += 1
            task.untouched = False

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submit_something_else_under_its_id(self, index: int) -> None:
        with pytest.raises(Conflict):
            self.platform.tasks.submit(
                catalog.PROCESS_MESSAGE, {"conversation_id": "c", "text": "other"}, id=self.some(index).id
            )

    @precondition(has_tasks)
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        task = self.some(index)
        if task.state in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.cancel(task.id)
            return
        answer = self.platform.tasks.cancel(task.id)
        assert answer.cancelled is (task.state in WAITING)
        if task.state is State.PROCESSING:
            task.cancel = True
        else:
            task.state = State.CANCELLED

    @precondition(has_tasks)
    @rule(index=INDEX)
    def retry_by_hand(self, index: int) -> None:
        task = self.some(index)
        if task.state not in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.retry(task.id)
            return
        self.platform.tasks.retry(task.id)
        task.state, task.attempts, task.cancel, task.worker = State.PENDING, 0, False, None
        task.published += 1
        task.untouched = False

    # --- what workers do ------------------------------------------------------------------------------------

    @rule(worker=WORKER)
    def worker_reports(self, worker: str) -> None:
        if worker not in self.stewards:
            return self.worker_starts(worker)
        self.stewards[worker].report()
        started = self.workers[worker].started if worker in self.workers else self.now
        self.workers[worker] = Alive(started, self.now)
        return None

    @rule(worker=WORKER)
    def worker_starts(self, worker: str) -> None:
        """Also again, under the same name."""
        self.stewards[worker] = self.platform.steward(worker)
        started = self.now
        self.stewards[worker].report()
        self.workers[worker] = Alive(started, self.now)

    @precondition(has_tasks)
    @rule(index=INDEX, worker=WORKER, certain=st.booleans())
    def deliver(self, index: int, worker: str, certain: bool) -> None:
        """To anybody, at any time; with `certain` the message says that the present attempt is over."""
        task = self.some(index)
        lost_attempt = task.attempts if certain and task.state is State.PROCESSING else 0
        claimed = self.platform.executions.claim(task.id, worker=worker, lost_attempt=lost_attempt)
        if task.state is State.PROCESSING and (lost_attempt or not self.lives(task)):
            self.fail(task, retryable=True)
        if task.state in WAITING:
            assert isinstance(claimed, TaskRun), claimed
            task.state, task.worker, task.started = State.PROCESSING, worker, claimed.started_at
            task.attempts += 1
            task.untouched = False
            self.live[task.id] = claimed
            self.attempts.append(claimed)
        else:
            assert isinstance(claimed, Refused), "claimed twice"
            assert claimed.busy is (task.state is State.PROCESSING)

    @precondition(has_attempts)
    @rule(index=INDEX, outcome=st.sampled_from([Completed({}), Raised(OSError()), Raised(ValueError()), Stopped()]))
    def settle(self, index: int, outcome: Outcome) -> None:
        """Any attempt that there ever was: only the present one of a task counts."""
        run = self.attempts[-1 - index % len(self.attempts)]
        mine = self.live.get(run.id) is run
        state = self.platform.end(run, outcome, policy=POLICY)
        if not mine:
            assert state is None
            return
        task = self.tasks[run.id]
        if isinstance(outcome, Raised):
            self.fail(task, retryable=isinstance(outcome.error, OSError))
        else:
            task.state = State.COMPLETED if isinstance(outcome, Completed) else State.CANCELLED
            del self.live[run.id]
        assert state == task.state

    @precondition(has_running_tasks)
    @rule(index=INDEX, worker=WORKER)
    def end_and_start_anew(self, index: int, worker: str) -> None:
        """Attempts are counted from one again then: numbers come twice."""
        run = list(self.live.values())[index % len(self.live)]
        self.settle(len(self.attempts) - 1 - self.attempts.index(run), Completed({}))
        place = list(self.tasks).index(run.id)
        self.retry_by_hand(place)
        self.deliver(place, worker, certain=False)

    @precondition(has_attempts)
    @rule(index=INDEX)
    def look_and_report_progress(self, index: int) -> None:
        run = self.attempts[-1 - index % len(self.attempts)]
        owned = {(each.id, each.started_at): self.tasks[each.id].cancel for each in self.live.values()}
        assert self.platform.executions.asked_to_stop(self.attempts) == owned
        told = self.platform.executions.progress(run, percent=1, message=None)
        assert told is (self.tasks[run.id].cancel if self.live.get(run.id) is run else None)

    # --- what goes wrong, and what the steward does ---------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, SILENT - 1, SILENT + 1, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def steward_reads(self, index: int) -> None:
        task = self.some(index)
        self.looks.append((self.platform.row(task.id), task, task.state, task.attempts, task.published))

    @precondition(has_looks)
    @rule(index=INDEX)
    def steward_sends_again(self, index: int) -> None:
        """What it read may be long out of date."""
        run, task, state, _, published = self.looks[-1 - index % len(self.looks)]
        if state not in WAITING:
            return
        same = task.id in self.tasks and (task.state, task.published) == (state, published)
        assert self.platform.tasks.send(run) is same
        if same:
            task.published += 1
            task.untouched = False

    @precondition(has_looks)
    @rule(index=INDEX)
    def steward_takes_over(self, index: int) -> None:
        run, task, state, attempts, _ = self.looks[-1 - index % len(self.looks)]
        now = self.live.get(task.id)
        same = state is State.PROCESSING and now is not None and now.started_at == run.started_at
        assert (self.platform.executions.take_over(run) is not None) is same
        if same:
            assert attempts == task.attempts
            self.fail(task, retryable=True)

    @precondition(has_looks)
    @rule(index=INDEX)
    def steward_buries(self, index: int) -> None:
        run, task, *seen = self.looks[-1 - index % len(self.looks)]
        same = task.id in self.tasks and [task.state, task.attempts, task.published] == seen
        same = same and task.state in UNFINISHED
        assert self.platform.executions.bury(run, Undeliverable("poison", "")) is same
        if same:
            task.state = State.DEAD_LETTER
            self.live.pop(task.id, None)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submitter_withdraws(self, index: int) -> None:
        """Its message could not be published after all."""
        task = self.some(index)
        with self.platform.database.transaction() as session:
            run = task_runs.find(session, task.id)
            assert run is not None
            run.published_at = run.accepted_at  # as the submitter knows it
            session.expunge(run)
            assert task_runs.withdraw(session, run) is (task.untouched and task.state in WAITING)
        if task.untouched and task.state in WAITING:
            del self.tasks[task.id]
            self.gone.add(task.id)

    # --- the promises ---------------------------------------------------------------------------------------

    @invariant()
    def both_sides_agree(self) -> None:
        rows = {row.id: row for row in self.platform.rows()}
        assert list(rows) == list(self.tasks), "every accepted task is there, once, in its order"
        for id, task in self.tasks.items():
            row = rows[id]
            assert (row.state, row.attempts, row.cancel_requested) == (task.state, task.attempts, task.cancel), id
            assert (row.finished_at is not None) is (task.state in FINISHED)
            assert (row.due_at is not None) is (task.state is State.SCHEDULED) or task.state in FINISHED
            assert row.attempts <= MAX_RETRIES + 1
        assert {id for id, task in self.tasks.items() if task.state is State.PROCESSING} == set(self.live)

    def teardown(self) -> None:
        clock.now = self._clock

    # --- the model's own rules ------------------------------------------------------------------------------

    def some(self, index: int) -> Expected:
        return list(self.tasks.values())[index % len(self.tasks)]

    def lives(self, task: Expected) -> bool:
        worker = self.workers.get(task.worker or "")
        return bool(
            worker and task.started and worker.started <= task.started
            and worker.seen > self.now - timedelta(seconds=SILENT)
        )  # fmt: skip

    def fail(self, task: Expected, *, retryable: bool) -> None:
        del self.live[task.id]
        if task.cancel:
            task.state = State.CANCELLED
        elif retryable and task.attempts <= MAX_RETRIES:
            task.state = State.SCHEDULED
            task.published += 1
        else:
            task.state = State.DEAD_LETTER if retryable else State.FAILED


@pytest.fixture
def platforms(
    environment: Environment, sqlite_template: Path, redis_urls: RedisUrls, tmp_path: Path
) -> Iterator[Callable[[], Platform]]:
    """Makes fresh platforms: an own database file each, and an empty broker."""
    databases: list[Database] = []
    path = tmp_path / "ledger.db"
    shutil.copyfile(sqlite_template, path)
    first = Database(f"sqlite:///{path}")
    config = settings_for(environment, first, redis_urls, folder=tmp_path, TASK_MAX_RETRIES=str(MAX_RETRIES),
                          TASK_LEASE_SECONDS=str(LEASE_SECONDS))  # fmt: skip
    first.close()

    with celery_on(config) as app:

        def fresh() -> Platform:
            while databases:
                databases.pop().close()
            for name in (path, path.with_name("ledger.db-wal"), path.with_name("ledger.db-shm")):
                name.unlink(missing_ok=True)
            shutil.copyfile(sqlite_template, path)
            databases.append(Database(config.storage.url))
            platform = make_platform(config, app, databases[-1], valkey=redis_urls.valkey)
            platform.lose(QUEUE)
            return platform

        yield fresh
        while databases:
            databases.pop().close()


@pytest.mark.timeout(600)  # a failure is made smaller before it is shown, which takes minutes
def test_the_ledger_does_what_its_model_does(platforms: Callable[[], Platform]) -> None:
    run_state_machine_as_test(
        lambda: LedgerMachine(platforms()),  # pyright: ignore[reportArgumentType]  any factory will do
        settings=settings(
            max_examples=15,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
