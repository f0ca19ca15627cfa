"""The outbox: submissions that belong to a transaction, and tasks that a broker gets when it is back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select

from app.db.models import Conversation
from app.db.queries import conversations
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskEvent, TaskRun
from laneway.platform.errors import BrokerUnavailable, Conflict, PlatformError, QueueFull, Unsupported
from laneway.platform.registry import registry
from laneway.platform.submission import outbox as outbox_module
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

CONVERSATION = "c-1"
Refusals = list[PlatformError | None]


def say(text: str = "Hello", conversation: str = CONVERSATION) -> dict[str, Any]:
    """The payload of a task with an ordering key."""
    return {"conversation_id": conversation, "message": text}


def put_order(platform: Platform) -> list[str]:
    """The tasks in the order in which the engine got them, as its journal shows."""
    platform.recorder.catch_up()
    with platform.database.reading() as session:
        wanted = select(TaskEvent.task_id).where(TaskEvent.kind == "put").order_by(TaskEvent.seq)
        return list(session.scalars(wanted))


def died_before_noting(platform: Platform, monkeypatch: pytest.MonkeyPatch, *, published: bool) -> None:
    """Submit and die after the commit: before the tasks are published, or after it and before that is noted."""
    publish = Broker.publish_many

    def die(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        if published:
            publish(broker, runs)
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Broker, "publish_many", die)
        with pytest.raises(KeyboardInterrupt), platform.tasks.transaction() as transaction:
            transaction.submit("process_conversation_message_task", say("first"), options=SubmitOptions(id="m-1"))


def test_a_change_and_its_submissions_are_committed_together_and_sent_at_once(platform: Platform) -> None:
    with platform.tasks.transaction() as transaction:
        conversations.open_or_continue(transaction.session, CONVERSATION, channel="api", customer={}, now=clock.now())
        assert (
            transaction.submit("process_conversation_message_task", say(), options=SubmitOptions(id="m-1")).state
            == TaskState.ACCEPTED
        )

    assert [handle.state for handle in transaction.handles] == [TaskState.PENDING]
    assert platform.row("m-1").state == TaskState.PENDING
    assert platform.sent() == ["m-1"]
    with platform.database.reading() as session:
        assert session.scalars(select(Conversation.id)).all() == [CONVERSATION]


def test_an_error_in_the_transaction_leaves_nothing_behind(platform: Platform) -> None:
    with pytest.raises(Conflict), platform.tasks.transaction() as transaction:
        transaction.submit("process_conversation_message_task", say(), options=SubmitOptions(id="m-1"))
        transaction.submit("process_conversation_message_task", say("other"), options=SubmitOptions(id="m-1"))

    assert platform.rows() == []
    assert platform.sent() == []


def test_a_repeat_submits_nothing_twice(platform: Platform) -> None:
    for _ in range(2):
        with platform.tasks.transaction() as transaction:
            transaction.submit("process_conversation_message_task", say(), options=SubmitOptions(id="m-1"))

    assert [handle.created for handle in transaction.handles] == [False]
    assert platform.sent() == ["m-1"]


def test_tasks_of_an_unreachable_broker_are_sent_in_order_when_it_is_back(platform: Platform) -> None:
    platform.valkey.stop()
    with platform.tasks.transaction() as transaction:
        transaction.submit("process_conversation_message_task", say("1"), options=SubmitOptions(id="m-1"))
        transaction.submit("process_conversation_message_task", say("2"), options=SubmitOptions(id="m-2"))
    platform.message(id="m-3")
    platform.message("c-2", id="other")
    assert {platform.row(id).state for id in ("m-1", "m-2", "m-3", "other")} == {TaskState.ACCEPTED}
    with pytest.raises(BrokerUnavailable):
        platform.tasks.outbox.relay()
    platform.valkey.start()

    late = platform.tasks.submit("process_conversation_message_task", say("4"), id="m-4")
    assert late.state == TaskState.ACCEPTED, "it must not overtake"
    assert platform.tasks.outbox.relay() == 5

    assert [id for id in put_order(platform) if id != "other"] == ["m-1", "m-2", "m-3", "m-4"]
    assert platform.tasks.outbox.relay() == 0
    assert [platform.work() for _ in range(6)].count(None) == 1


@pytest.mark.parametrize("published", [False, True], ids=["before it was sent", "after it was sent"])
def test_the_tasks_of_a_submitter_that_dies_are_sent_and_run_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, movable_clock: MovableClock, published: bool
) -> None:
    died_before_noting(platform, monkeypatch, published=published)
    worked = [platform.work()] if published else []
    platform.message(id="m-2")

    assert platform.tasks.outbox.relay() == published, "its claim holds; what is known to be sent lets the next one go"
    movable_clock.forward(9)
    platform.tasks.outbox.relay()

    assert put_order(platform)[-1] == "m-2"
    worked += [platform.work() for _ in range(3 - len(worked))]
    assert worked == ["m-1", "m-2", None]


@pytest.mark.parametrize("number", [1, 3], ids=["alone", "together"])
def test_a_sender_that_was_paused_sends_nothing_that_others_have_sent(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, movable_clock: MovableClock, number: int
) -> None:
    """It was paused between its commit and the publish. Another process sent the tasks, and a worker ran them."""
    publish, worked = Broker.publish_many, list[str | None]()
    ids = [f"m-{each}" for each in range(number)]

    def stand_still(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        monkeypatch.setattr(Broker, "publish_many", publish)
        movable_clock.forward(60)
        platform.tasks.outbox.relay()
        worked.extend(platform.work() for _ in runs)
        for run in runs:
            run.published_at = None if run.published_at is None else run.published_at.replace(year=2020)
        return publish(broker, runs)

    monkeypatch.setattr(Broker, "publish_many", stand_still)
    with platform.tasks.transaction() as transaction:
        for id in ids:
            transaction.submit("process_conversation_message_task", say(conversation=id), options=SubmitOptions(id=id))

    assert worked == ids
    assert platform.work() is None
    assert {platform.row(id).state for id in ids} == {TaskState.COMPLETED}


def test_several_relays_at_once_send_each_task_once_and_in_order(platform: Platform) -> None:
    platform.valkey.stop()
    for number in range(30):
        platform.message(f"c-{number % 3}", id=f"m-{number:02}")
    platform.valkey.start()

    relays = [threading.Thread(target=_until_empty, args=(platform,)) for _ in range(4)]
    for relay in relays:
        relay.start()
    for relay in relays:
        relay.join(30)

    order = put_order(platform)
    assert sorted(order) == [f"m-{number:02}" for number in range(30)]
    for key in range(3):
        own = [id for id in order if int(id[2:]) % 3 == key]
        assert own == sorted(own)


def test_a_full_queue_does_not_hold_up_the_others(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "PAGE", 2)
    platform.broker.prepare()
    platform.engine.set_max_size("maintenance", 1)
    platform.chore("there")
    with monkeypatch.context() as away:
        away.setattr(Broker, "publish_many", _away)
        with platform.tasks.transaction() as transaction:
            for number in range(3):
                transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(id=f"full-{number}"))
            transaction.submit("process_conversation_message_task", say(), options=SubmitOptions(id="free"))
    assert [handle.state for handle in transaction.handles] == [TaskState.ACCEPTED] * 4

    assert platform.tasks.outbox.relay() == 1
    assert platform.sent() == ["free"]
    assert platform.work("maintenance") == "there"
    assert platform.tasks.outbox.relay() == 1
    assert platform.sent("maintenance") == ["full-0"]


def test_a_bounded_transaction_is_refused_as_a_whole(platform: Platform) -> None:
    outbox = platform.tasks.outbox
    outbox._settings = outbox._settings.model_copy(update={"max_queue_size": 2})  # pyright: ignore[reportPrivateUsage]

    with pytest.raises(QueueFull), platform.tasks.transaction(bounded=True) as transaction:
        for number in range(3):
            transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(id=f"m-{number}"))

    assert platform.rows() == []
    platform.valkey.stop()
    for number in range(2):
        assert platform.tasks.submit("cleanup_old_data_task", {}, id=f"m-{number}").state == TaskState.ACCEPTED
    with pytest.raises(QueueFull):
        platform.tasks.submit("cleanup_old_data_task", {}, id="m-2")
    assert [row.id for row in platform.rows()] == ["m-0", "m-1"]


def test_an_unsent_task_can_be_cancelled_while_the_broker_is_away(platform: Platform) -> None:
    platform.valkey.stop()
    id = platform.chore()

    assert platform.tasks.cancel(id).cancelled

    platform.valkey.start()
    assert platform.tasks.outbox.relay() == 0
    assert platform.row(id).state == TaskState.CANCELLED


def test_a_task_that_is_cancelled_while_it_is_sent_does_not_run(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Broker.publish_many

    def cancelled_meanwhile(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        for run in runs:
            platform.tasks.cancel(run.id)
        return publish(broker, runs)

    monkeypatch.setattr(Broker, "publish_many", cancelled_meanwhile)
    with platform.tasks.transaction() as transaction:
        transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(id="m-1"))

    assert platform.sent("maintenance") == []
    assert platform.row("m-1").state == TaskState.CANCELLED


def test_uniqueness_is_refused_in_a_transaction(platform: Platform) -> None:
    with pytest.raises(Unsupported), platform.tasks.transaction() as transaction:
        transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(unique="one"))


def _away(_broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
    return [BrokerUnavailable("away")] * len(runs)


def _until_empty(platform: Platform) -> None:
    for _ in range(50):
        platform.tasks.outbox.relay()


def test_many_are_accepted_together_and_sent_in_order(platform: Platform) -> None:
    with platform.tasks.transaction() as transaction:
        handles = transaction.submit_many(
            [
                Submission(registry["cleanup_old_data_task"], {}, SubmitOptions(id=f"m-{number:03}"))
                for number in range(700)
            ]
            + [Submission(registry["cleanup_old_data_task"], {}, SubmitOptions(id="later", delay=60))]
            + [
                Submission(registry["process_conversation_message_task"], say(), SubmitOptions(id=f"c-{number}"))
                for number in range(2)
            ]
        )

    assert [handle.created for handle in handles] == [True] * 703
    states = {handle.task_id: handle.state for handle in transaction.handles}
    assert (states["m-699"], states["later"], states["c-1"]) == (
        TaskState.PENDING,
        TaskState.SCHEDULED,
        TaskState.PENDING,
    )
    assert platform.sent("maintenance") == [f"m-{number:03}" for number in range(700)]
    assert [id for id in put_order(platform) if id.startswith("c-")] == ["c-0", "c-1"]
    assert platform.tasks.outbox.relay() == 0
    assert platform.work("maintenance") == "m-000"
    assert platform.row("m-000").state == TaskState.COMPLETED


def test_known_ids_return_handles_and_one_conflict_stops_all(platform: Platform) -> None:
    platform.chore("known")
    with platform.tasks.transaction() as transaction:
        some = [
            Submission(registry["cleanup_old_data_task"], {}, SubmitOptions(id=id)) for id in ("known", "new", "new")
        ]
        assert [handle.created for handle in transaction.submit_many(some)] == [False, True, False]

    with pytest.raises(Conflict), platform.tasks.transaction() as transaction:
        transaction.submit_many(
            [
                Submission(registry["cleanup_old_data_task"], {}, SubmitOptions(id="one more")),
                Submission(registry["process_conversation_message_task"], say(), SubmitOptions(id="known")),
            ]
        )

    assert [row.id for row in platform.rows()] == ["known", "new"]


def test_as_many_as_fit_into_the_queue_are_sent(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.set_max_size("maintenance", 3)
    with platform.tasks.transaction() as transaction:
        transaction.submit_many(
            [Submission(registry["cleanup_old_data_task"], {}, SubmitOptions(id=f"m-{number}")) for number in range(5)]
        )

    assert [handle.state for handle in transaction.handles] == [TaskState.PENDING] * 3 + [TaskState.ACCEPTED] * 2
    assert [platform.work("maintenance") for _ in range(3)] == ["m-0", "m-1", "m-2"]
    assert platform.tasks.outbox.relay() == 2
