"""The ledger against a model of it: random calls, one after the other, and the same outcome on both sides.

The real side is the platform's own heart on a SQLite file and a real Valkey; the model is dictionaries and lists.
After each step they must agree on every task, and the promises of the ledger must hold.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from app.core import catalog, clock
from app.core.errors import Conflict, WrongState
from app.core.retry import RetryPolicy
from app.db.models import TaskRun
from app.db.session import Database
from app.schemas.task import FINISHED, UNFINISHED, WAITING, State
from app.services import steward as steward_module
from app.services.executions import Completed, Outcome, Raised, Refused, Stopped
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls

QUEUE = "conversations"
MAX_RETRIES, RETRY_SECONDS, DELAY_SECONDS, LEASE_SECONDS = 2, 5.05, 30.0, 15.0
"""With its jitter a retry is due after 5.05 to 5.56 s; time passes in whole seconds: the model needs no dice."""
POLICY = RetryPolicy(MAX_RETRIES, 0, 0, schedule=(RETRY_SECONDS,))
KEYS = st.sampled_from(["a", "b", "c"])
INDEX = st.integers(0, 50)


@dataclass
class Expected:
    """One task as the model has it."""

    id: str
    seq: int
    key: str
    text: str
    state: State
    attempts: int = 0
    due: datetime | None = None
    lease: datetime | None = None
    cancel: bool = False
    reopened: bool = False


@dataclass
class Model:
    """What should be."""

    tasks: dict[str, Expected] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    """Task id → its messages in the queue."""

    def first_of_its_key(self, task: Expected) -> bool:
        others = [other for other in self.tasks.values() if other.key == task.key and other is not task]
        return not any(
            other.state in UNFINISHED and (other.seq < task.seq or other.state is State.PROCESSING) for other in others
        )

    def publish(self, task: Expected) -> None:
        task.state, task.due = State.PENDING, None
        self.messages[task.id] += 1

    def release(self, key: str) -> None:
        held = sorted((task for task in self.tasks.values() if task.key == key and task.state is State.HELD),
                      key=lambda task: task.seq)  # fmt: skip
        for task in held:
            if self.first_of_its_key(task):
                self.publish(task)
                return


def has_tasks(machine: LedgerMachine) -> bool:
    return bool(machine.model.tasks)


def has_running_tasks(machine: LedgerMachine) -> bool:
    return bool(machine.live)


def has_attempts(machine: LedgerMachine) -> bool:
    return bool(machine.attempts)


def has_messages(machine: LedgerMachine) -> bool:
    return machine.model.messages.total() > 0


class LedgerMachine(RuleBasedStateMachine):
    """Random calls on both sides."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform = platform
        self.steward = self.platform.steward()
        self.model = Model()
        self.attempts: list[TaskRun] = []
        """Every attempt that was ever claimed: also those that lost their lease."""
        self.live: dict[str, TaskRun] = {}
        self.order: dict[str, list[int]] = {}
        self.now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
        self._clock, clock.now = clock.now, self._tell

    def _tell(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    # --- what callers do ------------------------------------------------------------------------------------

    @rule(key=KEYS, delayed=st.booleans())
    def submit(self, key: str, delayed: bool) -> None:
        number = len(self.model.tasks)
        id = f"t{number}"
        delay = DELAY_SECONDS if delayed else 0
        handle = self.platform.tasks.submit(
            catalog.PROCESS_MESSAGE, {"conversation_id": key, "text": f"text {number}"}, id=id, delay=delay
        )
        task = Expected(id, number, key, f"text {number}", State.SCHEDULED if delayed else State.PENDING)
        self.model.tasks[id] = task
        assert handle.created
        if delayed:
            task.due = self.now + timedelta(seconds=delay)
        else:
            self.model.messages[id] += 1

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submit_again(self, index: int) -> None:
        task = self.some(index)
        payload = {"conversation_id": task.key, "text": task.text}
        handle = self.platform.tasks.submit(catalog.PROCESS_MESSAGE, payload, id=task.id)
        assert (handle.created, handle.state) == (False, task.state)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submit_something_else_under_its_id(self, index: int) -> None:
        task = self.some(index)
        with pytest.raises(Conflict):
            self.platform.tasks.submit(
                catalog.PROCESS_MESSAGE, {"conversation_id": task.key, "text": "other"}, id=task.id
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
            task.state, task.due = State.CANCELLED, None
            self.model.release(task.key)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def retry_by_hand(self, index: int) -> None:
        task = self.some(index)
        if task.state not in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.retry(task.id)
            return
        self.platform.tasks.retry(task.id)
        task.attempts, task.cancel, task.reopened = 0, False, True
        self.model.publish(task)

    # --- what workers do ------------------------------------------------------------------------------------

    @rule()
    def deliver(self) -> None:
        """A worker takes the next message from the real queue."""
        id = self.platform.take(QUEUE)
        if id is None:
            assert self.model.messages.total() == 0
            return
        self.model.messages[id] -= 1
        assert self.model.messages[id] >= 0, "a message that nobody sent"
        self.claim(self.model.tasks[id])

    @precondition(has_tasks)
    @rule(index=INDEX)
    def deliver_twice(self, index: int) -> None:
        """The broker hands out a message that it handed out before."""
        self.claim(self.some(index))

    @precondition(has_running_tasks)
    @rule(index=INDEX, outcome=st.sampled_from([Completed({}), Raised(OSError()), Raised(ValueError()), Stopped()]))
    def settle(self, index: int, outcome: Outcome) -> None:
        run = list(self.live.values())[index % len(self.live)]
        self.end(run, outcome)

    @precondition(has_attempts)
    @rule(index=INDEX)
    def settle_an_attempt_that_may_be_old(self, index: int) -> None:
        run = self.attempts[index % len(self.attempts)]
        if self.live.get(run.id) is run:
            return
        assert self.platform.end(run, Completed({"old": True}), policy=POLICY) is None
        assert self.platform.executions.renew([run]) == {}
        assert self.platform.executions.progress(run, percent=1, message=None) is None

    @precondition(has_running_tasks)
    @rule()
    def renew(self) -> None:
        answers = self.platform.executions.renew(list(self.live.values()))
        assert answers == {(run.id, run.started_at): self.model.tasks[run.id].cancel for run in self.live.values()}
        for id in self.live:
            self.model.tasks[id].lease = self.now + timedelta(seconds=LEASE_SECONDS)

    # --- what goes wrong, and what the steward does ---------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 11.0, 16.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(has_messages)
    @rule()
    def the_broker_loses_a_message(self) -> None:
        id = self.platform.take(QUEUE)
        assert id is not None
        self.model.messages[id] -= 1

    @rule()
    def steward_sends_what_is_due(self) -> None:
        due = [task for task in self.model.tasks.values()
               if task.state is State.SCHEDULED and task.due and task.due <= self.now]  # fmt: skip
        assert self.steward.send_due() == len(due)
        for task in due:
            self.model.publish(task)

    @rule()
    def steward_sends_what_is_released(self) -> None:
        ready = [task for task in self.model.tasks.values()
                 if task.state is State.HELD and self.model.first_of_its_key(task)]  # fmt: skip
        assert self.steward.send_released() == len(ready)
        for task in ready:
            self.model.publish(task)

    @rule()
    def steward_takes_over(self) -> None:
        late = [task for task in self.model.tasks.values()
                if task.state is State.PROCESSING and task.lease and task.lease < self.now]  # fmt: skip
        assert self.steward.take_over() == len(late)
        for task in late:
            del self.live[task.id]
            self.fail(task, retryable=True, wait=0)

    @rule()
    def steward_looks_for_lost_messages(self) -> None:
        self.now += steward_module.LOST_AFTER + timedelta(seconds=1)
        lost = [task for task in self.model.tasks.values()
                if task.state is State.PENDING and not self.model.messages[task.id]]  # fmt: skip
        assert self.steward.send_lost() == len(lost)
        for task in lost:
            self.model.publish(task)

    # --- the promises ---------------------------------------------------------------------------------------

    @invariant()
    def both_sides_agree(self) -> None:
        rows = {row.id: row for row in self.platform.rows()}
        assert list(rows) == list(self.model.tasks), "every accepted task is there, once, in its order"
        for id, task in self.model.tasks.items():
            row = rows[id]
            assert (row.state, row.attempts, row.cancel_requested) == (task.state, task.attempts, task.cancel), id
            assert (row.lease_until is None) is (task.state is not State.PROCESSING)
            assert (row.finished_at is not None) is (task.state in FINISHED)
            assert (row.due_at is not None) is (task.state is State.SCHEDULED)
        running = Counter(row.key for row in rows.values() if row.state == State.PROCESSING)
        assert all(count == 1 for count in running.values()), "at most one task of a key runs"

    @invariant()
    def messages_agree(self) -> None:
        assert Counter(self.platform.sent(QUEUE)) == +self.model.messages

    @invariant()
    def tasks_of_a_key_complete_in_the_order_of_submission(self) -> None:
        for completed in self.order.values():
            assert completed == sorted(completed)

    def teardown(self) -> None:
        """However it went: with workers and stewards at work, every task comes to its end."""
        try:
            for _ in range(30 * (1 + len(self.model.tasks))):
                if all(task.state in FINISHED for task in self.model.tasks.values()):
                    break
                self.now += timedelta(seconds=31)
                for job in (self.steward_takes_over, self.steward_sends_what_is_due,
                            self.steward_sends_what_is_released, self.steward_looks_for_lost_messages):  # fmt: skip
                    job()
                self.deliver()
                for run in list(self.live.values()):
                    self.end(run, Completed({}))
            self.both_sides_agree()
            assert all(task.state in FINISHED for task in self.model.tasks.values()), "a task waits for ever"
        finally:
            clock.now = self._clock

    # --- both sides of a claim and of an outcome ------------------------------------------------------------

    def some(self, index: int) -> Expected:
        return list(self.model.tasks.values())[index % len(self.model.tasks)]

    def claim(self, task: Expected) -> None:
        claimed = self.platform.executions.claim(task.id, worker="w")
        may_run = task.state in (State.PENDING, State.HELD) and self.model.first_of_its_key(task)
        assert isinstance(claimed, Refused) is not may_run, claimed
        if not isinstance(claimed, TaskRun):
            task.state = State.HELD if task.state is State.PENDING else task.state
            return
        assert task.id not in self.live, "claimed twice"
        task.state, task.due = State.PROCESSING, None
        task.attempts += 1
        task.lease = self.now + timedelta(seconds=LEASE_SECONDS)
        self.live[task.id] = claimed
        self.attempts.append(claimed)

    def end(self, run: TaskRun, outcome: Outcome) -> None:
        task = self.model.tasks[run.id]
        state = self.platform.end(run, outcome, policy=POLICY)
        del self.live[run.id]
        if isinstance(outcome, Raised):
            self.fail(task, retryable=isinstance(outcome.error, OSError), wait=RETRY_SECONDS)
        else:
            task.state = State.COMPLETED if isinstance(outcome, Completed) else State.CANCELLED
            if task.state is State.COMPLETED and not task.reopened:
                self.order.setdefault(task.key, []).append(task.seq)
            self.model.release(task.key)
        assert state == task.state

    def fail(self, task: Expected, *, retryable: bool, wait: float) -> None:
        task.lease = None
        if task.cancel:
            task.state = State.CANCELLED
        elif retryable and task.attempts <= MAX_RETRIES:
            task.state, task.due = State.SCHEDULED, self.now + timedelta(seconds=wait * 1.1)
        else:
            task.state = State.DEAD_LETTER if retryable else State.FAILED
        if task.state in FINISHED:
            self.model.release(task.key)


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
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
