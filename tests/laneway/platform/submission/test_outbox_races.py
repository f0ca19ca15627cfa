"""The outbox while something else happens: a cancel, a duplicate submit, a slow relay, a broker that goes away."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from celery.signals import before_task_publish

from laneway.engine import Durability
from laneway.platform.broker import Broker
from laneway.platform.circuit_breaker import ANSWER_SECONDS, CONNECT_SECONDS, SLOW
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import BrokerUnavailable, PlatformError
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.waiting import wait_until
from tests.laneway.platform.submission.test_outbox import Refusals, died_before_noting, put_order, say


def test_a_cancel_after_the_relay_has_sent_reaches_the_message(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.valkey.stop()
    id = platform.chore()
    platform.valkey.start()
    control = platform.tasks._control  # pyright: ignore[reportPrivateUsage]
    note_cancel = control._note_cancel  # pyright: ignore[reportPrivateUsage]

    def relay_first(run: TaskRun) -> None:
        assert platform.tasks.outbox.relay() == 1
        note_cancel(run)

    monkeypatch.setattr(control, "_note_cancel", relay_first)

    assert platform.tasks.cancel(id).cancelled
    assert platform.work("maintenance") is None


def test_a_task_deleted_while_it_is_sent_does_not_run(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Broker.publish_many

    def delete_then_publish(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        for run in runs:
            platform.tasks.delete(run.id)
        return publish(broker, runs)

    monkeypatch.setattr(Broker, "publish_many", delete_then_publish)
    with platform.tasks.transaction() as transaction:
        transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(id="m-1"))

    assert platform.sent("maintenance") == []


def test_a_relay_does_not_resend_tasks_that_were_sent_while_it_read_the_journals(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, movable_clock: MovableClock
) -> None:
    """The claim of a sender is valid when the relay starts to read the journals, and ended when it has read them."""
    platform.valkey.stop()
    platform.chore("other")
    platform.valkey.start()
    died_before_noting(platform, monkeypatch, published=False)
    movable_clock.forward(7)
    catch_up, worked = platform.recorder.catch_up, list[str | None]()

    def slowly(*queues: Any, **budget: Any) -> int:
        read = catch_up(*queues, **budget)
        if not worked:  # the message of the dead sender, which was under way
            worked.append("m-1")
            movable_clock.forward(-7)  # the dead sender sent it in time
            platform.broker.publish(platform.row("m-1"))
            movable_clock.forward(7)
            assert platform.work() == "m-1"
            movable_clock.forward(2)
        return read

    monkeypatch.setattr(platform.recorder, "catch_up", slowly)
    platform.tasks.outbox.relay()
    worked.append(platform.work())

    assert worked == ["m-1", None]
    assert platform.row("m-1").state == TaskState.COMPLETED


def test_a_repeat_while_the_broker_is_tried_does_not_keep_a_task_from_the_outbox(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeated_meanwhile(_broker: Broker, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        for run in runs:
            assert not platform.tasks.submit("process_conversation_message_task", say("1"), id=run.id).created
        return [BrokerUnavailable("away") for _ in runs]

    with monkeypatch.context() as away:
        away.setattr(Broker, "publish_many", repeated_meanwhile)
        assert (
            platform.tasks.submit("process_conversation_message_task", say("1"), id="m-1").state == TaskState.ACCEPTED
        )
    assert platform.row("m-1").state == TaskState.ACCEPTED

    assert platform.tasks.submit("process_conversation_message_task", say("2"), id="m-2").state == TaskState.ACCEPTED
    assert platform.tasks.outbox.relay() == 2
    assert put_order(platform) == ["m-1", "m-2"]


@pytest.mark.parametrize(
    "options",
    [SubmitOptions(id="m-2", unique="one"), SubmitOptions(id="m-2", durability=Durability.DISK)],
    ids=["uniqueness", "durability"],
)
def test_a_unique_task_does_not_wait_behind_unsent_tasks_of_its_key(platform: Platform, options: SubmitOptions) -> None:
    platform.valkey.stop()
    platform.message(id="m-1")
    platform.valkey.start()

    with pytest.raises(BrokerUnavailable, match="earlier tasks"):
        platform.tasks.submit("process_conversation_message_task", say("2"), options=options)

    assert [row.id for row in platform.rows()] == ["m-1"]


def test_tasks_that_were_sent_before_the_broker_went_away_are_noted_as_sent(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.broker.__dict__["engine"] = None  # as on RabbitMQ
    published: list[str] = []

    def publish_one_then_fail(_broker: Broker, run: TaskRun, **_: Any) -> None:
        if published:
            raise BrokerUnavailable("away")
        published.append(run.id)

    monkeypatch.setattr(Broker, "publish", publish_one_then_fail)
    with platform.tasks.transaction() as transaction:
        for number in range(3):
            transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(id=f"m-{number}"))

    assert [handle.state for handle in transaction.handles] == [
        TaskState.PENDING,
        TaskState.ACCEPTED,
        TaskState.ACCEPTED,
    ]
    assert [row.state for row in platform.rows()] == [TaskState.PENDING, TaskState.ACCEPTED, TaskState.ACCEPTED]


@pytest.mark.parametrize("by_celery", [False, True], ids=["by the engine", "by Celery's own publishing"])
def test_while_the_broker_is_frozen_one_caller_waits_a_moment_and_the_others_are_accepted_at_once(
    platform: Platform, by_celery: bool
) -> None:
    platform.broker.prepare()  # with an open connection the caller waits twice: for an answer, and for a new connection
    took: list[float] = []
    with platform.valkey.frozen(), before_task_publish_received(by_celery):
        for number in range(5):
            began = monotonic()
            handle = platform.tasks.submit("process_conversation_message_task", say(str(number)), id=f"m-{number}")
            assert (handle.state, platform.tasks.status(handle.task_id).status) == (
                TaskState.ACCEPTED,
                TaskState.ACCEPTED,
            )
            took.append(monotonic() - began)

    assert ANSWER_SECONDS + CONNECT_SECONDS < 2
    assert ANSWER_SECONDS < took[0] < 2 * (ANSWER_SECONDS + CONNECT_SECONDS)  # twice: the machine may be busy
    assert max(took[1:]) < SLOW
    wait_until(lambda: _relayed(platform), seconds=15)
    assert put_order(platform) == [f"m-{number}" for number in range(5)]


@contextmanager
def before_task_publish_received(wanted: bool) -> Generator[None]:
    """Have a receiver of Celery's signal, so that the platform leaves publishing to Celery."""

    def receive(**_: Any) -> None: ...

    if wanted:
        before_task_publish.connect(receive)
    try:
        yield
    finally:
        before_task_publish.disconnect(receive)


def _relayed(platform: Platform) -> bool:
    try:
        platform.tasks.outbox.relay()
    except BrokerUnavailable:
        return False
    return all(row.state == TaskState.PENDING for row in platform.rows())
