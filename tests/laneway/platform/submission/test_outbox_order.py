"""Tasks of one ordering key: one sender at a time, hundreds in one call, and no task before an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from laneway.engine import Engine, PutResult
from laneway.platform import broker as broker_module
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import outbox as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, PlatformError
from laneway.platform.registry import registry
from laneway.platform.submission import outbox as outbox_module
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission, SubmissionTransaction
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform

Refusals = list[PlatformError | None]


def submit(transaction: SubmissionTransaction, *ids: str, conversation: str = "c-1") -> None:
    """Submit messages of one conversation: it is their key."""
    payload = {"conversation_id": conversation, "message": "Hello"}
    transaction.submit_many(
        [Submission(registry["process_conversation_message_task"], payload, SubmitOptions(id=id)) for id in ids]
    )


def kept(platform: Platform, monkeypatch: pytest.MonkeyPatch, *ids: str, conversation: str = "c-1") -> None:
    """Messages that are in the outbox and not claimed, because the broker was away."""
    with monkeypatch.context() as away:
        away.setattr(Broker, "publish_many", lambda _, runs: [BrokerUnavailable("away") for _ in runs])
        with platform.tasks.transaction() as transaction:
            submit(transaction, *ids, conversation=conversation)
    assert {handle.state for handle in transaction.handles} == {TaskState.ACCEPTED}


def test_a_long_queue_of_one_key_is_sent_by_the_page(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "PAGE", 20)
    ids = [f"m-{number:03}" for number in range(45)]
    kept(platform, monkeypatch, *ids)
    sizes = _counted(monkeypatch)

    assert platform.tasks.outbox.relay() == 45
    assert platform.sent() == ids[:1], "the others wait for their turn"
    assert [platform.work() for _ in ids] == ids
    assert sizes == [20, 20, 5]


def test_a_full_queue_takes_the_first_of_a_key_and_the_others_follow_in_order(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.set_max_size("conversations", 3)
    ids = [f"m-{number}" for number in range(7)]
    with platform.tasks.transaction() as transaction:
        submit(transaction, *ids)
    assert [handle.state for handle in transaction.handles] == [TaskState.PENDING] * 3 + [TaskState.ACCEPTED] * 4

    worked: list[str | None] = []
    for _ in ids:
        worked.append(platform.work())
        platform.tasks.outbox.relay()
    assert worked == ids


def test_room_that_comes_between_two_calls_lets_no_task_overtake(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_many = Engine.put_many
    platform.broker.prepare()
    platform.engine.set_max_size("conversations", 2)

    def and_then_one_ends(engine: Engine, *args: Any, **more: Any) -> list[PutResult]:
        outcomes = put_many(engine, *args, **more)
        worked.append(platform.work())
        return outcomes

    worked: list[str | None] = []
    monkeypatch.setattr(broker_module, "CHUNK", 3)
    monkeypatch.setattr(Engine, "put_many", and_then_one_ends)
    with platform.tasks.transaction() as transaction:
        submit(transaction, "m-1", "m-2", "m-3", "m-4", "m-5", "m-6")
        submit(transaction, "other-1", "other-2", conversation="c-2")

    assert [handle.state for handle in transaction.handles[:6]] == [TaskState.PENDING] * 2 + [TaskState.ACCEPTED] * 4
    assert transaction.handles[6].state == TaskState.PENDING, "another key goes on"
    monkeypatch.setattr(Engine, "put_many", put_many)
    for _ in range(8):
        platform.tasks.outbox.relay()
        worked.append(platform.work())
    assert [id for id in worked if id and id.startswith("m")] == ["m-1", "m-2", "m-3", "m-4", "m-5", "m-6"]


def test_nothing_is_claimed_behind_a_task_that_somebody_else_is_sending(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(platform, monkeypatch, "m-1", "m-2", "m-3")
    now = clock.now()
    with platform.database.transaction() as session:
        session.scalars(select(TaskRun).where(TaskRun.id == "m-2")).one().published_at = now

    assert platform.tasks.outbox.relay() == 1
    assert platform.row("m-1").state == TaskState.PENDING
    assert {platform.row(id).state for id in ("m-2", "m-3")} == {TaskState.ACCEPTED}


def test_nothing_is_claimed_behind_a_task_that_another_transaction_has_locked(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.database.url.get_backend_name() == "sqlite":
        pytest.skip("one writer at a time: no row is locked by itself")
    kept(platform, monkeypatch, "m-1", "m-2", "m-3")
    kept(platform, monkeypatch, "other", conversation="c-2")

    with platform.database.transaction() as other:
        other.scalars(select(TaskRun).where(TaskRun.id == "m-2").with_for_update()).one()
        with platform.database.transaction() as session:
            now = clock.now()
            claimed = repository.claim(
                session,
                now=now,
                abandoned_before=now - outbox_module.CLAIM,
                limit=10,
                most_bytes=outbox_module.PAGE_BYTES,
                queues={"conversations"},
            )
            assert [run.id for run in claimed] == ["m-1", "other"]


def test_a_sender_that_was_too_slow_tries_once_more(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.broker.prepare()
    calls = _slow(monkeypatch, times=2)
    with platform.tasks.transaction() as transaction:
        submit(transaction, "m-1", "m-2", "m-3")
        submit(transaction, "other", conversation="c-2")
    assert [handle.state for handle in transaction.handles] == [TaskState.PENDING] * 4
    assert platform.message("c-3", id="alone")
    assert platform.row("alone").state == TaskState.PENDING

    assert calls == ["late", "in time", "late", "in time"]
    assert platform.tasks.outbox.relay() == 0
    worked = [platform.work() for _ in range(5)]
    assert sorted(id for id in worked if id) == ["alone", "m-1", "m-2", "m-3", "other"]
    assert [id for id in worked if id and id.startswith("m")] == ["m-1", "m-2", "m-3"]


def test_a_sender_that_was_too_slow_leaves_what_others_have_taken(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.broker.prepare()

    def taken() -> None:
        with platform.database.transaction() as session:
            rows = {run.id: run for run in session.scalars(select(TaskRun))}
            rows["m-1"].published_at = clock.now()

    _slow(monkeypatch, times=1, meanwhile=taken)
    with platform.tasks.transaction() as transaction:
        submit(transaction, "m-1", "m-2")
        submit(transaction, "other", conversation="c-2")

    assert [handle.state for handle in transaction.handles] == [
        TaskState.ACCEPTED,
        TaskState.ACCEPTED,
        TaskState.PENDING,
    ]
    assert platform.sent() == ["other"]


def test_an_uncommitted_claim_is_no_claim(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.broker.prepare()
    begin = Database.transaction

    @contextmanager
    def lost_at_the_commit(database: Database) -> Generator[Session]:
        with begin(database) as session:
            yield session
            session.rollback()
        monkeypatch.setattr(Database, "transaction", begin)
        raise DatabaseUnavailable("away")

    calls = _slow(
        monkeypatch, times=1, meanwhile=lambda: monkeypatch.setattr(Database, "transaction", lost_at_the_commit)
    )
    with platform.tasks.transaction() as transaction:
        submit(transaction, "m-1", "m-2")

    assert [handle.state for handle in transaction.handles] == [TaskState.ACCEPTED] * 2
    assert calls == ["late"]
    assert platform.sent() == []


def _slow(monkeypatch: pytest.MonkeyPatch, *, times: int, meanwhile: Callable[[], None] = lambda: None) -> list[str]:
    """Make the first `times` of every two calls of the broker too late for their claim."""
    calls = list[str]()
    publish, publish_many, within = Broker.publish, Broker.publish_many, broker_module.PUBLISH_WITHIN

    def late() -> bool:
        calls.append("late" if len(calls) % 2 == 0 and len(calls) < 2 * times else "in time")
        monkeypatch.setattr(broker_module, "PUBLISH_WITHIN", -10.0 if calls[-1] == "late" else within)
        return calls[-1] == "late"

    def one(broker: Broker, run: TaskRun, **more: Any) -> None:
        late()
        publish(broker, run, **more)

    def many(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        with monkeypatch.context() as plain:
            plain.setattr(Broker, "publish", publish)
            was_late = late()
            refusals = publish_many(broker, runs)
        if was_late:
            meanwhile()
        return refusals

    monkeypatch.setattr(Broker, "publish", one)
    monkeypatch.setattr(Broker, "publish_many", many)
    return calls


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tasks of each call of the broker."""
    publish_many, sizes = Broker.publish_many, list[int]()

    def counted(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        if runs:
            sizes.append(len(runs))
        return publish_many(broker, runs)

    monkeypatch.setattr(Broker, "publish_many", counted)
    return sizes
