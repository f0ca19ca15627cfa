"""Submissions of several threads at the same moment: one transaction, one call, and an outcome for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest

from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import BrokerUnavailable, Conflict, DatabaseUnavailable, PlatformError, QueueFull
from laneway.platform.registry import registry
from laneway.platform.submission import group_submit
from laneway.platform.submission.acceptance import SubmitOptions, row_of
from laneway.platform.task_messages import TaskMessage, TaskMessages
from laneway.schemas.task import TaskHandle, TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

Submit = Callable[[], TaskHandle]
THREADS = 8


def message(platform: Platform, id: str, *, text: str = "Hello", conversation: str | None = None) -> Submit:
    """A call that submits a message, by default of a conversation of its own."""
    payload = {"conversation_id": conversation or f"c-{id}", "message": text}
    return lambda: platform.tasks.submit("process_conversation_message_task", payload, id=id)


def together(platform: Platform, monkeypatch: pytest.MonkeyPatch, *submits: Submit) -> list[TaskHandle | Exception]:
    """Submit these while another submission is being sent, so that they form one group; returns their outcomes."""
    publish_many, held, release = Broker.publish_many, Event(), Event()

    def wait_then_publish(broker: Broker, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        if not held.is_set():
            held.set()
            assert release.wait(20)
        return publish_many(broker, runs)

    with monkeypatch.context() as slow, ThreadPoolExecutor(len(submits) + 1) as pool:
        slow.setattr(Broker, "publish_many", wait_then_publish)
        first = pool.submit(message(platform, "first"))
        assert held.wait(20)
        futures = [pool.submit(_outcome_of, submit) for submit in submits]
        waiting = platform.tasks._submitter._group_commit._waiting  # pyright: ignore[reportPrivateUsage]
        wait_until(lambda: len(waiting) == len(submits), seconds=20)
        release.set()
        assert first.result().state == TaskState.PENDING
        return [future.result() for future in futures]


def _outcome_of(submit: Submit) -> TaskHandle | Exception:
    try:
        return submit()
    except PlatformError as error:
        return error


def test_a_group_is_one_transaction_and_one_call_and_each_task_is_queued_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.broker.prepare()
    calls = list[int]()
    accept_many, put_many = group_submit.accept_many, type(platform.engine).put_many

    def accept(session: Any, rows: Sequence[Any]) -> Any:
        calls.append(len(rows))
        return accept_many(session, rows)

    monkeypatch.setattr(group_submit, "accept_many", accept)

    def put(engine: Any, queue: str, messages: Sequence[Any], **more: Any) -> Any:
        calls.append(-len(messages))
        return put_many(engine, queue, messages, **more)

    monkeypatch.setattr(type(platform.engine), "put_many", put)
    ids = [f"m-{number}" for number in range(THREADS)]
    outcomes = together(platform, monkeypatch, *(message(platform, id) for id in ids))

    handles = [outcome for outcome in outcomes if isinstance(outcome, TaskHandle)]
    assert {(handle.task_id, handle.created, handle.state) for handle in handles} == {
        (id, True, TaskState.PENDING) for id in ids
    }
    assert calls == [1, -1, THREADS, -THREADS]
    worked = [platform.work() for _ in range(THREADS + 2)]
    assert sorted(id for id in worked if id) == ["first", *ids]


def test_a_conflicting_submission_is_refused_alone(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    message(platform, "known", text="one thing", conversation="c-1")()
    outcomes = together(
        platform,
        monkeypatch,
        message(platform, "m-1"),
        message(platform, "known", text="another", conversation="c-1"),
        message(platform, "known", text="one thing", conversation="c-1"),
        message(platform, "m-2"),
    )

    assert isinstance(outcomes[1], Conflict)
    assert [outcome.created for outcome in outcomes if isinstance(outcome, TaskHandle)] == [True, False, True]
    assert {run.id for run in platform.rows()} == {"known", "first", "m-1", "m-2"}
    assert {run.state for run in platform.rows()} == {TaskState.PENDING}


def test_one_id_twice_in_a_group_is_one_task(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    same = message(platform, "m-1", conversation="c-1")
    outcomes = together(platform, monkeypatch, same, same, same)

    assert sorted(outcome.created for outcome in outcomes if isinstance(outcome, TaskHandle)) == [False, False, True]
    assert sorted(id for id in (platform.work() for _ in range(4)) if id) == ["first", "m-1"]


def test_two_processes_that_submit_the_same_ids_in_another_order_do_not_deadlock(platform: Platform) -> None:
    several = [SubmitOptions(id=f"m-{number}") for number in range(20)]
    spec, payload = registry["cleanup_old_data_task"], registry["cleanup_old_data_task"].payload()
    rows = [row_of(spec, payload, options, platform.settings.tasks) for options in several]
    barrier = Barrier(2)

    def accept(some: Sequence[Any]) -> int:
        barrier.wait(20)
        group = group_submit.GroupSubmit(platform.database, platform.broker)
        accepted = [outcome for outcome in group.submit_group(some) if isinstance(outcome, group_submit.Accepted)]
        return sum(isinstance(outcome.run, TaskRun) for outcome in accepted)

    with ThreadPoolExecutor(2) as pool:
        created = list(pool.map(accept, [[dict(row) for row in rows], [dict(row) for row in reversed(rows)]]))
    assert sum(created) == len(rows)


def test_submissions_beyond_the_limit_are_refused_and_the_others_are_queued(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.broker.prepare()
    platform.engine.set_max_size("conversations", 4)
    outcomes = together(platform, monkeypatch, *(message(platform, f"m-{number}") for number in range(5)))

    assert [type(outcome) for outcome in outcomes].count(QueueFull) == 2
    accepted = {outcome.task_id for outcome in outcomes if isinstance(outcome, TaskHandle)}
    assert {run.id for run in platform.rows()} == accepted | {"first"}
    assert set(platform.sent()) == accepted | {"first"}


def test_a_broker_that_is_away_gets_the_whole_group_later(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_many = Broker.publish_many

    def away(broker: Broker, runs: Sequence[TaskRun]) -> list[PlatformError | None]:
        if len(runs) == 1:
            return publish_many(broker, runs)
        return [BrokerUnavailable("away") for _ in runs]

    monkeypatch.setattr(Broker, "publish_many", away)
    outcomes = together(platform, monkeypatch, message(platform, "m-1"), message(platform, "m-2"))

    assert [outcome.state for outcome in outcomes if isinstance(outcome, TaskHandle)] == [TaskState.ACCEPTED] * 2
    monkeypatch.setattr(Broker, "publish_many", publish_many)
    assert platform.tasks.outbox.relay() == 2


def test_an_unexpected_error_of_one_message_harms_no_other(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    build = TaskMessages.build

    def fail_for_odd(messages: TaskMessages, run: TaskRun, **options: Any) -> TaskMessage:
        if run.id == "odd":
            raise RuntimeError("unexpected")
        return build(messages, run, **options)

    monkeypatch.setattr(TaskMessages, "build", fail_for_odd)
    odd: list[BaseException] = []

    def submit_odd() -> TaskHandle:
        try:
            return message(platform, "odd")()
        except RuntimeError as error:
            odd.append(error)
            return TaskHandle(task_id="odd", state=TaskState.PENDING, created=False)

    outcomes = together(platform, monkeypatch, message(platform, "m-1"), submit_odd, message(platform, "m-2"))
    assert [outcome.created for outcome in outcomes if isinstance(outcome, TaskHandle)] == [True, False, True]
    assert len(odd) == 1
    assert sorted(platform.sent()) == ["first", "m-1", "m-2"]


def test_a_database_that_is_away_fails_each_submission(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_many = group_submit.accept_many

    def away(session: Any, rows: Sequence[Any]) -> Any:
        if len(rows) > 1:
            raise DatabaseUnavailable("away")
        return accept_many(session, rows)

    monkeypatch.setattr(group_submit, "accept_many", away)
    outcomes = together(platform, monkeypatch, message(platform, "m-1"), message(platform, "m-2"))

    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    assert [run.id for run in platform.rows()] == ["first"]


def test_many_threads_submit_each_in_its_own_order(platform: Platform) -> None:
    platform.broker.prepare()
    barrier = Barrier(THREADS)

    def submit(thread: int) -> None:
        barrier.wait(20)
        for number in range(25):
            message(platform, f"{thread}-{number:02}", conversation=f"c-{thread}")()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(submit, range(THREADS)))
    worked = [id for id in (platform.work() for _ in range(THREADS * 25 + 1)) if id]

    assert len(worked) == THREADS * 25
    for thread in range(THREADS):
        own = [id for id in worked if id.startswith(f"{thread}-")]
        assert own == sorted(own)


def test_a_unique_task_is_submitted_alone(platform: Platform) -> None:
    handle = platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(id="m-1", unique="one"))
    assert handle.created
    assert platform.sent("maintenance") == ["m-1"]
