"""A state machine that makes random calls on the platform and on a model of its history, and compares the two.

The real side is the task manager, the attempts on a real engine, the recorder and the reconciliation of the maintenance
thread, on a SQLite file. The model keeps the tasks and messages in dictionaries. Whenever everything is recorded, both
must agree on every task and each of its attempts. In the end, every unfinished task must be on the engine. The order
and the delays of messages are the engine's, which has a model of its own (`test_engine_model`).
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
from laneway.schemas.task import FINISHED, UNFINISHED, WAITING, TaskState
from tests.fixtures.platform import Platform

QUEUE = "webhooks"
MAX_RETRIES, MAX_DELIVERIES = 2, 5
MAX_TASKS = 3
"""Few, so that much happens to each of them."""
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
class ModelMessage:
    """A message in the model. `state`: ready, later, leased, dead or gone."""

    state: str
    deliveries: int = 0
    attempts: int = 0
    running: bool = False
    verdict: str | None = None
    """What the acknowledgement does: a key of OUTCOMES that is repeated, over or dead; None: no result is stored."""
    cancel_requested: bool = False


@dataclass(eq=False)
class ModelTask:
    """A task in the model."""

    id: str
    text: str
    state: TaskState
    message: ModelMessage
    attempts: int = 0
    cancel: bool = False
    outcomes: list[str | None] = field(default_factory=list)
    """The outcome of every attempt, by number."""

    def end_attempt(self, outcome: str) -> None:
        if self.outcomes and self.outcomes[-1] is None:
            self.outcomes[-1] = outcome


@dataclass(eq=False)
class ModelDelivery:
    """A delivery to a worker, whose lease may be over."""

    task: ModelTask
    message: ModelMessage
    delivery: Delivery
    lease: int
    attempt: Attempt | None = None


def has_tasks(machine: HistoryMachine) -> bool:
    return bool(machine.tasks)


def has_deliveries(machine: HistoryMachine) -> bool:
    return bool(machine.held)


class HistoryMachine(RuleBasedStateMachine):
    """Makes random calls on both sides."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform = platform
        self.tasks: dict[str, ModelTask] = {}
        self.held: list[ModelDelivery] = []
        """Every delivery, also those whose lease is over."""
        self.leases: Counter[int] = Counter()

    # --- what callers do ------------------------------------------------------------------------------------

    @precondition(lambda machine: len(machine.tasks) < MAX_TASKS)
    @rule(delayed=st.sampled_from([False, False, False, True]))
    def submit(self, delayed: bool) -> None:
        number = len(self.tasks)
        id, text = f"t{number}", f"text {number}"
        handle = self.platform.tasks.submit(
            "send_webhook_response_task", payload(text), id=id, delay=3600 if delayed else 0
        )
        state = TaskState.SCHEDULED if delayed else TaskState.PENDING
        self.tasks[id] = ModelTask(id, text, state, ModelMessage("later" if delayed else "ready"))
        assert handle.created

    @precondition(has_tasks)
    @rule(index=INDEX)
    def submit_again(self, index: int) -> None:
        task = self.task_at(index)
        handle = self.platform.tasks.submit("send_webhook_response_task", payload(task.text), id=task.id)
        assert not handle.created
        with pytest.raises(Conflict):
            self.platform.tasks.submit("send_webhook_response_task", payload("other"), id=task.id)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        task, message = self.task_at(index), self.task_at(index).message
        if task.state in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.cancel(task.id)
            return
        answer = self.platform.tasks.cancel(task.id)
        if message.state == "leased":
            message.cancel_requested = task.cancel = True
        elif message.state != "gone" or task.state in WAITING:
            task.state, message.state = TaskState.CANCELLED, "gone"
        else:
            task.cancel = True
        assert answer.cancelled is (task.state is TaskState.CANCELLED)

    @precondition(has_tasks)
    @rule(index=INDEX)
    def retry_by_hand(self, index: int) -> None:
        task = self.task_at(index)
        if task.state not in FINISHED:
            with pytest.raises(WrongState):
                self.platform.tasks.retry(task.id)
            return
        self.platform.tasks.retry(task.id)
        task.state, task.attempts, task.cancel = TaskState.PENDING, 0, False
        if task.message.state != "leased":  # while its old message is unacknowledged a new one is not taken
            task.message = ModelMessage("ready")

    # --- what workers do ------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(["w1", "w2"]), starts=st.integers(0, 5))
    def fetch_and_start(self, worker: str, starts: int) -> None:
        """Fetch a message, and mostly start an attempt: a message can be lost or acknowledged before that."""
        delivery = self.platform.fetch(QUEUE)
        ready = {task.id for task in self.tasks.values() if task.message.state == "ready"}
        if delivery is None:
            assert ready == set()
            return
        task = self.tasks[delivery.stored.message.task_id]
        assert task.id in ready
        message = task.message
        message.state, message.deliveries = "leased", message.deliveries + 1
        assert delivery.deliveries == message.deliveries
        self.leases[id(message)] += 1
        held = ModelDelivery(task, message, delivery, self.leases[id(message)])
        self.held.append(held)
        if starts:
            self.start_attempt(held, worker)

    @precondition(lambda machine: any(task.message.state == "ready" for task in machine.tasks.values()))
    @rule(kind=st.sampled_from(sorted(OUTCOMES)), acknowledged=st.booleans())
    def work(self, kind: str, acknowledged: bool) -> None:
        """The usual case: fetch, start, finish and acknowledge."""
        self.fetch_and_start("w1", 1)
        if self.held and self.held[-1].attempt:
            self.finish(0, kind)
        if self.held and acknowledged:
            self.acknowledge(0)

    def start_attempt(self, held: ModelDelivery, worker: str) -> None:
        task, message = held.task, held.message
        started = self.platform.begun(held.delivery, worker=worker)
        if message.attempts > MAX_RETRIES:  # it has had all its attempts, and the last one was lost
            assert isinstance(started, Skip)
            task.state, message.verdict = TaskState.DEAD_LETTER, "dead"
            return
        message.attempts += 1
        task.attempts = message.attempts
        assert isinstance(started, Attempt)
        assert started.number == message.attempts
        started.max_retries = MAX_RETRIES
        task.outcomes.append(None)
        task.state, message.running = TaskState.PROCESSING, True
        held.attempt = started

    @precondition(has_deliveries)
    @rule(index=INDEX, kind=st.sampled_from(sorted(OUTCOMES)))
    def finish(self, index: int, kind: str) -> None:
        """Finish any attempt: only the current one can store a result, and its first result stands."""
        held = self.held[-1 - index % len(self.held)]
        attempt, message, task = held.attempt, held.message, held.task
        if attempt is None:
            return
        outcome, state, name = OUTCOMES[kind]
        schedule = (3600.0,) if kind == LATER else (0.0,)
        result = self.platform.attempts.policy.decide(attempt, outcome, schedule=schedule)
        if kind in (AGAIN, LATER) and attempt.number > MAX_RETRIES:
            state, name = TaskState.DEAD_LETTER, "dead_letter"
        assert result.state is state
        assert self.platform.attempts.finish(attempt, result) is self.holds(held)
        if not self.holds(held) or message.verdict is not None:
            return
        message.verdict, message.running = kind if state is TaskState.SCHEDULED else "over", False
        task.end_attempt(name)
        task.state = state
        if kind == SNOOZE:
            message.attempts -= 1
            task.attempts -= 1

    @precondition(has_deliveries)
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
            message.state = "gone"
        else:
            self.carry_out(task, message)

    @precondition(has_deliveries)
    @rule(index=INDEX)
    def lose_the_lease(self, index: int) -> None:
        """End a lease. The next fetch of any worker takes the message back."""
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
        elif message.cancel_requested:
            task.state, message.state = TaskState.CANCELLED, "gone"
        elif message.deliveries >= MAX_DELIVERIES:
            task.state, message.state = TaskState.DEAD_LETTER, "dead"
        else:
            message.state = "ready"

    def carry_out(self, task: ModelTask, message: ModelMessage) -> None:
        if message.verdict not in (AGAIN, LATER, SNOOZE):
            message.state = "gone"
        elif message.cancel_requested:
            task.state, message.state = TaskState.CANCELLED, "gone"
        else:
            message.state = "later" if message.verdict == LATER else "ready"
            message.verdict, message.deliveries = None, 0

    # --- what goes wrong, and what maintenance does ---------------------------------------------------------

    @rule(first=st.booleans())
    def lose_the_broker(self, first: bool) -> None:
        """Record everything, and delete all data of the broker. This is rare, or nothing else would happen."""
        if not first or len(self.held) % 7 != 6:
            return
        self.record()
        self.platform.lose(QUEUE)
        self.platform.broker._configured.clear()  # pyright: ignore[reportPrivateUsage]
        self.platform.broker.prepare()
        for task in self.tasks.values():
            task.message = ModelMessage("gone")

    @rule()
    def reconcile(self) -> None:
        self.platform.maintenance().reconcile()
        for task in self.tasks.values():
            if task.state not in UNFINISHED or task.message.state != "gone":
                continue
            if task.cancel:
                task.end_attempt("cancelled")
                task.state = TaskState.CANCELLED
                continue
            task.end_attempt("lost")
            task.attempts = 0
            later = self.platform.engine.find(QUEUE, task.id).state == "scheduled"
            task.message = ModelMessage("later" if later else "ready")
            task.state = TaskState.PENDING if task.state is TaskState.PROCESSING else task.state

    # --- what must be true ----------------------------------------------------------------------------------

    @rule()
    def record(self) -> None:
        """Record everything. Both sides must agree now."""
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
                recorded = task_events.attempts(session, id)
            assert [each.number for each in recorded] == list(range(1, len(recorded) + 1)), "numbered without gaps"
            assert [each.outcome for each in recorded] == task.outcomes
            assert all((each.ended_at is None) is (each.outcome is None) for each in recorded)
        counts = self.platform.tasks.counts()
        assert sum(counts.values()) == len(self.tasks)

    def teardown(self) -> None:
        """Acknowledge every delivery. Afterwards, every unfinished task must be on the engine."""
        for held in self.held:
            if self.holds(held):
                self.platform.engine.ack([held.delivery])
                self.acknowledge_in_model(held)
        self.reconcile()
        self.record()
        for task in self.tasks.values():
            if task.state in UNFINISHED:
                assert self.platform.engine.find_many(QUEUE, [task.id]) != [None], "an unfinished task is on the engine"

    def acknowledge_in_model(self, held: ModelDelivery) -> None:
        task, message = held.task, held.message
        if message.verdict is not None:
            self.carry_out(task, message)
            return
        if task.state not in FINISHED:
            task.state = TaskState.CANCELLED if task.cancel else TaskState.FAILED
            task.end_attempt(task.state.value)
        message.state = "gone"

    # --- the model's own rules ------------------------------------------------------------------------------

    def task_at(self, index: int) -> ModelTask:
        return list(self.tasks.values())[index % len(self.tasks)]

    def holds(self, held: ModelDelivery) -> bool:
        """Whether the lease of the delivery still holds."""
        message = held.message
        return held.task.message is message and message.state == "leased" and self.leases[id(message)] == held.lease


def payload(text: str) -> dict[str, object]:
    return {"url": "https://example.com/", "event": text, "data": {}}
