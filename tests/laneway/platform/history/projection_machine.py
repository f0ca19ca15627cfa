"""The history against a model of it: random calls, recorded at random moments, and the same on both sides.

The real side is the task manager, the executions on a real engine, the recorder and the steward's comparison, on a
SQLite file. The model knows what the engine was told, and keeps rows in a dictionary. Whenever everything is
recorded both must agree on every task and each of its attempts; in the end nothing is left unfinished that the
engine does not have. Order and delays are the engine's, whose own model is `test_engine_model`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from laneway.engine import Delivery, RoundRobin
from laneway.platform.db.queries import task_events
from laneway.platform.errors import Conflict, WrongState
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Skip, Snoozed, Stopped
from laneway.platform.schemas.task import FINISHED, UNFINISHED, WAITING, TaskState
from tests.fixtures.platform import Platform

QUEUE = "webhooks"
MAX_RETRIES, MOST_DELIVERIES = 2, 5
MOST_TASKS = 3
"""So few that much happens to each."""
INDEX = st.integers(0, 50)
AGAIN, LATER, SNOOZE = "again", "later", "snooze"
OUTCOMES: dict[str, tuple[Outcome, TaskState, str]] = {
    "done": (Completed({}), TaskState.COMPLETED, "completed"),
    "bug": (Raised(ValueError()), TaskState.FAILED, "failed"),
    "stopped": (Stopped(), TaskState.CANCELLED, "cancelled"),
    AGAIN: (Raised(OSError()), TaskState.SCHEDULED, "retry"),
    LATER: (Raised(OSError()), TaskState.SCHEDULED, "retry"),
    SNOOZE: (Snoozed(0), TaskState.SCHEDULED, "snoozed"),
}


@dataclass(eq=False)
class Sent:
    """A message as the model has it: `place` is ready, later, leased, dead or gone."""

    place: str
    deliveries: int = 0
    begun: int = 0
    running: bool = False
    verdict: str | None = None
    marked: bool = False


@dataclass(eq=False)
class Expected:
    """One task as the model has it."""

    id: str
    text: str
    state: TaskState
    message: Sent
    attempts: int = 0
    cancel: bool = False
    numbered: list[str | None] = field(default_factory=list)
    """The outcome of every attempt that there was."""

    def end_attempt(self, outcome: str) -> None:
        if self.numbered and self.numbered[-1] is None:
            self.numbered[-1] = outcome


@dataclass(eq=False)
class Held:
    """A delivery that somebody holds, or held."""

    task: Expected
    message: Sent
    delivery: Delivery
    lease: int
    attempt: Attempt | None = None


def has_tasks(machine: HistoryMachine) -> bool:
    return bool(machine.tasks)


def has_held(machine: HistoryMachine) -> bool:
    return bool(machine.held)


class HistoryMachine(RuleBasedStateMachine):
    """Random calls on both sides."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform = platform
        self.tasks: dict[str, Expected] = {}
        self.held: list[Held] = []
        """Every delivery that there was, also those whose lease is over."""
        self.leases: Counter[int] = Counter()

    # --- what callers do ------------------------------------------------------------------------------------

    @precondition(lambda machine: len(machine.tasks) < MOST_TASKS)
    @rule(delayed=st.sampled_from([False, False, False, True]))
    def submit(self, delayed: bool) -> None:
        number = len(self.tasks)
        id, text = f"t{number}", f"text {number}"
        handle = self.platform.tasks.submit(
            "send_webhook_response_task", payload(text), id=id, delay=3600 if delayed else 0
        )
        state = TaskState.SCHEDULED if delayed else TaskState.PENDING
        self.tasks[id] = Expected(id, text, state, Sent("later" if delayed else "ready"))
        assert handle.created

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submit_again(self, index: int) -> None:
        task = self.some(index)
        handle = self.platform.tasks.submit("send_webhook_response_task", payload(task.text), id=task.id)
        assert not handle.created
        with pytest.raises(Conflict):
            self.platform.tasks.submit("send_webhook_response_task", payload("other"), id=task.id)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        task, message = self.some(index), self.some(index).message
        if task.state in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.cancel(task.id)
            return
        answer = self.platform.tasks.cancel(task.id)
        if message.place == "leased":
            message.marked = task.cancel = True
        elif message.place != "gone" or task.state in WAITING:
            task.state, message.place = TaskState.CANCELLED, "gone"
        else:
            task.cancel = True
        assert answer.cancelled is (task.state is TaskState.CANCELLED)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def retry_by_hand(self, index: int) -> None:
        task = self.some(index)
        if task.state not in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.retry(task.id)
            return
        self.platform.tasks.retry(task.id)
        task.state, task.attempts, task.cancel = TaskState.PENDING, 0, False
        if task.message.place != "leased":  # while its old message is unacknowledged a new one is not taken
            task.message = Sent("ready")

    # --- what workers do ------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(["w1", "w2"]), starts=st.integers(0, 5))
    def fetch_and_begin(self, worker: str, starts: int) -> None:
        """Begin, mostly; a message can also be lost, or acknowledged, before anything began."""
        delivery = self.platform.fetch(QUEUE)
        ready = {task.id for task in self.tasks.values() if task.message.place == "ready"}
        if delivery is None:
            assert ready == set()
            return
        task = self.tasks[delivery.stored.message.task_id]
        assert task.id in ready
        message = task.message
        message.place, message.deliveries = "leased", message.deliveries + 1
        assert delivery.deliveries == message.deliveries
        self.leases[id(message)] += 1
        held = Held(task, message, delivery, self.leases[id(message)])
        self.held.append(held)
        if starts:
            self.begins(held, worker)

    @precondition(lambda machine: any(task.message.place == "ready" for task in machine.tasks.values()))
    @rule(kind=st.sampled_from(sorted(OUTCOMES)), acknowledged=st.booleans())
    def work(self, kind: str, acknowledged: bool) -> None:
        """What mostly happens: all of it, one after the other."""
        self.fetch_and_begin("w1", 1)
        if self.held and self.held[-1].attempt:
            self.conclude(0, kind)
        if self.held and acknowledged:
            self.acknowledge(0)

    def begins(self, held: Held, worker: str) -> None:
        task, message = held.task, held.message
        begun = self.platform.begun(held.delivery, worker=worker)
        message.begun += 1
        task.attempts = message.begun
        if message.begun > MAX_RETRIES + 1:
            assert isinstance(begun, Skip)
            task.numbered.append("dead_letter")
            task.state, message.verdict = TaskState.DEAD_LETTER, "dead"
            return
        assert isinstance(begun, Attempt)
        assert begun.number == message.begun
        begun.max_retries = MAX_RETRIES
        task.numbered.append(None)
        task.state, message.running = TaskState.PROCESSING, True
        held.attempt = begun

    @precondition(has_held)
    @rule(index=INDEX, kind=st.sampled_from(sorted(OUTCOMES)))
    def conclude(self, index: int, kind: str) -> None:
        """Any attempt that there ever was: only the present one has a say, and its first word stands."""
        held = self.held[-1 - index % len(self.held)]
        attempt, message, task = held.attempt, held.message, held.task
        if attempt is None:
            return
        outcome, state, told = OUTCOMES[kind]
        schedule = (3600.0,) if kind == LATER else (0.0,)
        ruling = self.platform.attempts.rule.decide(attempt, outcome, schedule=schedule)
        if kind in (AGAIN, LATER) and attempt.number > MAX_RETRIES:
            state, told = TaskState.DEAD_LETTER, "dead_letter"
        assert ruling.state is state
        assert self.platform.attempts.conclude(attempt, ruling) is self.holds(held)
        if not self.holds(held) or message.verdict is not None:
            return
        message.verdict, message.running = kind if state is TaskState.SCHEDULED else "over", False
        task.end_attempt(told)
        task.state = state
        if kind == SNOOZE:
            message.begun -= 1
            task.attempts -= 1

    @precondition(has_held)
    @rule(index=INDEX)
    def acknowledge(self, index: int) -> None:
        held = self.held[-1 - index % len(self.held)]
        self.platform.engine.ack([held.delivery])
        if not self.holds(held):
            return
        task, message = held.task, held.message
        if message.verdict is None:
            if task.state not in FINISHED:
                task.state = TaskState.CANCELLED if task.cancel else TaskState.FAILED
                task.end_attempt(task.state.value)
            message.place = "gone"
        else:
            self.carry_out(task, message)

    @precondition(has_held)
    @rule(index=INDEX)
    def lose_the_lease(self, index: int) -> None:
        """It is over at once, and the next who looks for work takes the message back."""
        held = self.held[-1 - index % len(self.held)]
        self.platform.engine.renew([held.delivery], lease_ms=0)
        self.platform.engine.fetch(RoundRobin({QUEUE: 1}), 0)
        if not self.holds(held):
            return
        task, message = held.task, held.message
        if message.running:
            message.running = False
            task.end_attempt("lost")
            task.state = TaskState.PENDING
        if message.verdict is not None:
            self.carry_out(task, message)
        elif message.marked:
            task.state, message.place = TaskState.CANCELLED, "gone"
        elif message.deliveries >= MOST_DELIVERIES:
            task.state, message.place = TaskState.DEAD_LETTER, "dead"
        else:
            message.place = "ready"

    def carry_out(self, task: Expected, message: Sent) -> None:
        if message.verdict not in (AGAIN, LATER, SNOOZE):
            message.place = "gone"
        elif message.marked:
            task.state, message.place = TaskState.CANCELLED, "gone"
        else:
            message.place = "later" if message.verdict == LATER else "ready"
            message.verdict, message.deliveries = None, 0

    # --- what goes wrong, and what the steward does ---------------------------------------------------------

    @rule(first=st.booleans())
    def the_broker_loses_everything(self, first: bool) -> None:
        """What it had told before is recorded; seldom, or nothing else would happen."""
        if not first or len(self.held) % 7 != 6:
            return
        self.record()
        self.platform.lose(QUEUE)
        self.platform.broker._bounded.clear()  # pyright: ignore[reportPrivateUsage]
        self.platform.broker.prepare()
        for task in self.tasks.values():
            task.message = Sent("gone")

    @rule()
    def steward_compares(self) -> None:
        self.platform.maintenance().reconcile()
        for task in self.tasks.values():
            if task.state not in UNFINISHED or task.message.place != "gone":
                continue
            if task.cancel:
                task.end_attempt("cancelled")
                task.state = TaskState.CANCELLED
                continue
            task.end_attempt("lost")
            task.attempts = 0
            later = self.platform.engine.find(QUEUE, task.id).state == "scheduled"
            task.message = Sent("later" if later else "ready")
            task.state = TaskState.PENDING if task.state is TaskState.PROCESSING else task.state

    # --- the promises ---------------------------------------------------------------------------------------

    @rule()
    def record(self) -> None:
        """Both sides agree whenever everything is recorded."""
        self.platform.recorder.catch_up()
        rows = {row.id: row for row in self.platform.rows()}
        assert list(rows) == list(self.tasks), "every accepted task is there, once, in its order"
        for id, task in self.tasks.items():
            row = rows[id]
            assert row.state == task.state, id
            if task.state not in FINISHED:
                assert (row.attempts, row.cancel_requested) == (task.attempts, task.cancel), id
            assert (row.finished_at is not None) is (task.state in FINISHED)
            assert row.due_at is None or task.state in WAITING
            with self.platform.database.reading() as session:
                kept = task_events.attempts(session, id)
            assert [one.number for one in kept] == list(range(1, len(kept) + 1)), "numbered without gaps"
            assert [one.outcome for one in kept] == task.numbered
            assert all((one.ended_at is None) is (one.outcome is None) for one in kept)
        counted = self.platform.tasks.counts()
        assert sum(counted.values()) == len(self.tasks)

    def teardown(self) -> None:
        """In the end everybody has let go, and nothing is unfinished that the engine does not have."""
        for held in self.held:
            if self.holds(held):
                self.platform.engine.ack([held.delivery])
                self.settle_in_the_end(held)
        self.steward_compares()
        self.record()
        for task in self.tasks.values():
            if task.state in UNFINISHED:
                assert self.platform.engine.find_many(QUEUE, [task.id]) != [None], "unfinished, and the engine has it"

    def settle_in_the_end(self, held: Held) -> None:
        task, message = held.task, held.message
        if message.verdict is not None:
            self.carry_out(task, message)
            return
        if task.state not in FINISHED:
            task.state = TaskState.CANCELLED if task.cancel else TaskState.FAILED
            task.end_attempt(task.state.value)
        message.place = "gone"

    # --- the model's own rules ------------------------------------------------------------------------------

    def some(self, index: int) -> Expected:
        return list(self.tasks.values())[index % len(self.tasks)]

    def holds(self, held: Held) -> bool:
        """Whether it is still its lease."""
        message = held.message
        return held.task.message is message and message.place == "leased" and self.leases[id(message)] == held.lease


def payload(text: str) -> dict[str, object]:
    return {"url": "https://example.com/", "event": text, "data": {}}
