"""The audit: what was accepted is counted, and what is missing on either side is named."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import delete, update

from laneway.engine import Message, StrayKind
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.errors import BrokerUnavailable, UpstreamRefused, WrongState
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.execution.outcomes import Raised
from laneway.platform.operations.audit import Audit
from laneway.platform.operations.dead_letters import DeadLetters
from laneway.schemas.task import TaskState
from tests.fixtures.budget import budget
from tests.fixtures.platform import MovableClock, Platform

LATER = 10.0
"""Seconds after which what was sent is looked for."""


@pytest.fixture
def audit(platform: Platform) -> Audit:
    return Audit(platform.database, platform.broker, platform.recorder, platform.tasks, CeleryResults(platform.app))


def test_an_empty_platform_is_balanced(audit: Audit) -> None:
    report = audit.run()

    assert (report.accepted, report.by_state, report.unread, report.balanced) == (0, {}, 0, True)


def test_a_healthy_platform_is_balanced_with_a_task_in_every_state(
    platform: Platform, audit: Audit, movable_clock: MovableClock
) -> None:
    for state in reversed(TaskState):  # what waits comes last: it would be taken
        platform.brought_to(state, conversation=f"c-{state}")
    platform.message("c-pending")
    movable_clock.forward(LATER)
    report = audit.run()

    assert report.by_state == dict.fromkeys(TaskState, 1) | {TaskState.PENDING: 2}
    assert report.accepted == len(TaskState) + 1
    assert (report.unaccounted, report.unknown, report.unread, report.balanced) == ([], [], 0, True)
    stats = report.engine["conversations"]
    assert (stats.waiting, stats.leased) == (4, 1), "held and delayed ones wait, too, and the one nobody noted as sent"


def test_the_audit_first_records_events_that_are_not_recorded_yet(
    platform: Platform, audit: Audit, movable_clock: MovableClock
) -> None:
    id = platform.message()
    movable_clock.forward(LATER)
    platform.work()
    report = audit.run()

    assert report.by_state == {TaskState.COMPLETED: 1}
    assert report.balanced
    assert platform.state(id) == TaskState.COMPLETED


def test_a_message_that_was_deleted_in_the_broker_is_reported_and_sent_again(
    platform: Platform, audit: Audit, movable_clock: MovableClock
) -> None:
    lost, kept = platform.message("c-1"), platform.chore()
    assert audit.run().balanced, "sent a moment ago: it may be on its way"
    platform.lose("conversations")
    movable_clock.forward(LATER)

    report = audit.run()
    assert [(one.task_id, one.queue, one.state, one.why) for one in report.unaccounted] == [
        (lost, "conversations", TaskState.PENDING, "the engine does not have it"),
    ]
    assert (report.balanced, report.repaired, platform.sent()) == (False, 0, []), "nothing is done unasked"
    repaired = audit.run(repair=True)
    assert (len(repaired.unaccounted), repaired.repaired) == (1, 1)
    movable_clock.forward(LATER)
    assert audit.run().balanced
    assert platform.work() == lost
    assert platform.sent("maintenance") == [kept]


def test_the_lost_message_of_a_running_task_is_reported_and_sent_again(
    platform: Platform, audit: Audit, movable_clock: MovableClock
) -> None:
    id = platform.message()
    platform.start()
    assert platform.state(id) == TaskState.PROCESSING
    platform.lose("conversations")
    movable_clock.forward(LATER)

    assert [(one.task_id, one.state) for one in audit.run().unaccounted] == [(id, TaskState.PROCESSING)]
    assert audit.run(repair=True).repaired == 1
    assert platform.sent() == [id]


def test_a_message_of_a_task_unknown_to_the_history_is_reported_and_gets_a_row(
    platform: Platform, audit: Audit
) -> None:
    known, waiting, later, held = (
        platform.message("c-1"),
        platform.message("c-2"),
        platform.message("c-3", delay=60),
        platform.message("c-2"),
    )
    running = platform.start().task_id
    platform.recorder.catch_up()
    with platform.database.transaction() as session:
        session.execute(delete(TaskRun).where(TaskRun.id != known))
    report = audit.run()

    assert running == known
    assert sorted(report.unknown) == sorted([waiting, later, held])
    assert (report.accepted, report.unaccounted, report.balanced, report.open) == (1, [], False, 3)
    repaired = audit.run(repair=True)
    assert (repaired.accepted, repaired.repaired, repaired.open) == (4, 3, 0)
    assert audit.run().balanced


def test_messages_in_no_state_are_reported_and_put_back(
    platform: Platform, audit: Audit, movable_clock: MovableClock
) -> None:
    id = platform.message("c-1")
    platform.engine.runner.call("DEL", platform.engine.keys.key("conversations", "ready"))
    movable_clock.forward(LATER)

    report = audit.run()
    assert [(stray.id, stray.kind) for stray in report.strays] == [(id, StrayKind.MESSAGE)]
    assert (report.balanced, report.open, platform.sent()) == (False, 1, [])
    assert (audit.run(repair=True).open, audit.run().balanced) == (0, True)
    assert platform.work() == id


def test_a_finished_task_that_would_run_again_is_reported_and_its_message_deleted(
    platform: Platform, audit: Audit
) -> None:
    id = platform.message("c-1")
    platform.recorder.catch_up()
    with platform.database.transaction() as session:
        ended = {"state": TaskState.COMPLETED, "finished_at": clock.now() + timedelta(seconds=1)}
        session.execute(update(TaskRun).where(TaskRun.id == id).values(ended))

    assert (audit.run().again, audit.run().open) == ([id], 1)
    assert (audit.run(repair=True).open, audit.run().balanced) == (0, True)
    assert platform.work() is None
    assert platform.state(id) == TaskState.COMPLETED


def test_a_task_that_did_not_come_through_the_platform_is_known_by_its_message(
    platform: Platform, audit: Audit
) -> None:
    platform.broker.prepare()
    platform.engine.put("webhooks", Message(task_id="by-beat", name="cleanup_old_data_task", body=b"[[], {}, {}]"))
    report = audit.run()

    assert (report.accepted, report.unknown, report.balanced) == (1, [], True)


def test_a_message_that_the_engine_gave_up_is_a_dead_letter_and_accounted_for(
    platform: Platform, audit: Audit, movable_clock: MovableClock
) -> None:
    platform.message()
    platform.engine.bury([platform.fetched()], reason="poison")
    movable_clock.forward(LATER)
    report = audit.run()

    assert (report.by_state, report.balanced) == ({TaskState.DEAD_LETTER: 1}, True)


def test_without_the_broker_there_is_no_audit(platform: Platform, audit: Audit) -> None:
    platform.message()
    platform.valkey.stop()

    with pytest.raises(BrokerUnavailable):
        audit.run()


class Chance:
    """Does one thing after another, at random, as customers, workers and operators do."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self.platform, self.draw = platform, random.Random(seed)
        self.dead_letters = DeadLetters(platform.database, platform.broker, platform.recorder, platform.tasks)
        self.accepted: list[str] = []
        self.submit()

    def step(self) -> None:
        doings = (
            self.submit,
            self.submit,
            self.work,
            self.work,
            self.work,
            self.cancel,
            self.retry,
            self.leave,
            self.requeue,
        )
        with suppress(WrongState):
            self.draw.choice(doings)()

    def submit(self) -> None:
        conversation, delay = f"c-{self.draw.randrange(4)}", self.draw.choice((0, 0, 0.05, 60))
        self.accepted.append(self.platform.message(conversation, delay=delay))

    def work(self) -> None:
        schedule = self.draw.choice(((0.0,), (0.0, 0.0, 0.0), (60.0,)))
        self.platform.work(outcome=self.draw.choice(OUTCOMES), schedule=schedule)

    def cancel(self) -> None:
        self.platform.tasks.cancel(self.draw.choice(self.accepted))

    def retry(self) -> None:
        self.platform.tasks.retry(self.draw.choice(self.accepted))

    def requeue(self) -> None:
        self.dead_letters.requeue(Filter())

    def leave(self) -> None:
        """A worker takes a message, and is not heard of again."""
        self.platform.fetch()


OUTCOMES = (None, None, Raised(OSError("away")), Raised(ValueError("wrong")), Raised(UpstreamRefused("m", "no")))


@pytest.mark.parametrize("seed", range(budget(short=1, long=5)))
def test_history_and_engine_agree_after_random_work(
    platform: Platform, audit: Audit, movable_clock: MovableClock, seed: int
) -> None:
    chance = Chance(platform, seed)
    for _ in range(150):
        chance.step()
    movable_clock.forward(LATER)
    report = audit.run()

    assert (report.unaccounted, report.unknown, report.unread) == ([], [], 0)
    assert report.balanced
    assert report.accepted == len(chance.accepted) == sum(report.by_state.values())
    stats = report.engine["conversations"]
    unfinished = sum(
        report.by_state.get(state, 0) for state in (TaskState.PENDING, TaskState.SCHEDULED, TaskState.PROCESSING)
    )
    assert stats.waiting + stats.leased == unfinished
