"""Debounce, throttle and `if_busy`: what becomes of submissions of one key. On SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from laneway.engine import MessageState
from laneway.platform.db.models import SupersededTask, TaskEvent, TaskTag
from laneway.platform.errors import Conflict, QueueFull, Unsupported
from laneway.platform.execution.outcomes import Raised
from laneway.platform.queues import Priority
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import IfBusy, SubmitOutcome
from laneway.schemas.task import UNFINISHED, TaskHandle, TaskState
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import MovableClock, Platform

TASK, QUEUE = "generate_performance_report_task", "analytics"
Submit = Callable[..., TaskHandle]


def submit(platform: Platform, hours: int = 1, **options: Any) -> TaskHandle:
    """Submit a report, with a debounce of 5 seconds unless another rule is given."""
    if not {"throttle", "if_busy"} & options.keys():
        options = {"debounce": 5, "debounce_key": "ada"} | options
    return platform.tasks.submit(TASK, {"hours": hours}, options=SubmitOptions(**options))


def events(platform: Platform, id: str, kind: str) -> list[dict[str, Any]]:
    """The data of a task's events of one kind."""
    with platform.database.reading() as session:
        wanted = select(TaskEvent.data).where(TaskEvent.task_id == id, TaskEvent.kind == kind)
        return list(session.scalars(wanted.order_by(TaskEvent.seq)))


def superseded(platform: Platform) -> list[str]:
    """The tasks that are still to be stopped."""
    with platform.database.reading() as session:
        return list(session.scalars(select(SupersededTask.task_id)))


# --- debounce


def test_a_debounced_task_is_held_and_sent_when_nobody_submits_any_more(
    platform: Platform, movable_clock: MovableClock
) -> None:
    first = submit(platform, 1)
    movable_clock.forward(3)
    again = submit(platform, 2, priority=Priority.HIGH, tags=("late",), key="order")
    movable_clock.forward(3)
    platform.tasks.outbox.relay()

    assert (first.created, first.state, first.outcome) == (True, TaskState.SCHEDULED, SubmitOutcome.ACCEPTED)
    assert again.model_dump() == first.model_dump() | {"created": False, "outcome": SubmitOutcome.MERGED}
    assert platform.sent(QUEUE) == [], "the second submission has moved the start"
    assert platform.tasks.status(first.task_id).waiting_for == "its due time"
    movable_clock.forward(2.5)
    platform.tasks.outbox.relay()
    row = platform.row(first.task_id)
    assert (row.payload, row.priority, row.tags, row.key) == ({"hours": 2}, Priority.HIGH, ["late"], "order")
    with platform.database.reading() as session:
        assert list(session.scalars(select(TaskTag.tag))) == ["late"]
    assert platform.work(QUEUE) == first.task_id
    assert submit(platform, 3).created, "it has started: the next submission is another task"
    assert [event["number"] for event in events(platform, first.task_id, "replaced")] == [1]


def test_a_debounced_task_starts_at_the_latest_after_the_longest_time(
    platform: Platform, movable_clock: MovableClock
) -> None:
    first = submit(platform, debounce_max=8)
    for _ in range(2):
        movable_clock.forward(3)
        submit(platform, debounce_max=8)
    row = platform.row(first.task_id)

    assert row.due_at is not None
    assert timedelta(seconds=7.9) < row.due_at - row.accepted_at < timedelta(seconds=8.1)
    movable_clock.forward(2.5)
    platform.tasks.outbox.relay()
    assert platform.sent(QUEUE) == [first.task_id]


def test_other_keys_and_names_are_other_tasks(platform: Platform) -> None:
    ids = {
        submit(platform).task_id,
        submit(platform, debounce_key="bob").task_id,
        platform.tasks.submit(
            "cleanup_old_data_task", {}, options=SubmitOptions(debounce=5, debounce_key="ada")
        ).task_id,
    }
    assert len(ids) == 3


def test_a_held_task_does_not_hold_others_of_its_ordering_key(platform: Platform, movable_clock: MovableClock) -> None:
    held = submit(platform, key="order", debounce_key=None).task_id
    platform.valkey.stop()
    other = platform.tasks.submit(TASK, {}, options=SubmitOptions(key="order")).task_id
    assert submit(platform, key="order", debounce_key="late", debounce=60).state is TaskState.SCHEDULED
    platform.valkey.start()
    platform.tasks.outbox.relay()

    assert platform.sent(QUEUE) == [other]
    movable_clock.forward(6)
    platform.tasks.outbox.relay()
    assert platform.places(QUEUE) == {other: MessageState.READY, held: MessageState.HELD}


def test_a_repeat_of_any_merged_submission_returns_the_task(platform: Platform, movable_clock: MovableClock) -> None:
    for number, id in enumerate(("a", "b", "c")):
        assert submit(platform, number + 1, id=id).task_id == "a"
    movable_clock.forward(6)
    platform.tasks.outbox.relay()
    assert platform.work(QUEUE) == "a"

    for number, id in enumerate(("a", "b", "c")):
        handle = submit(platform, number + 1, id=id)
        assert (handle.task_id, handle.created, handle.outcome) == ("a", False, SubmitOutcome.REPEATED)
        with pytest.raises(Conflict, match=id):
            submit(platform, 9, id=id)
    assert [row.id for row in platform.rows()] == ["a"]


def test_a_held_task_can_be_cancelled_while_the_broker_is_away(platform: Platform, movable_clock: MovableClock) -> None:
    id = submit(platform).task_id
    platform.valkey.stop()
    assert platform.tasks.cancel(id).cancelled
    platform.valkey.start()
    movable_clock.forward(6)
    platform.tasks.outbox.relay()

    assert platform.sent(QUEUE) == []
    assert submit(platform).task_id != id


def test_the_maintenance_leaves_a_held_task_alone(platform: Platform, movable_clock: MovableClock) -> None:
    id = submit(platform, debounce=600).task_id
    movable_clock.forward(300)
    platform.maintenance().reconcile()

    assert platform.sent(QUEUE) == []
    assert platform.row(id).published_at is None


def test_a_rollback_leaves_the_held_task_as_it_was(platform: Platform) -> None:
    id = submit(platform, 1).task_id
    options = SubmitOptions(debounce=60, debounce_key="ada")
    with pytest.raises(ZeroDivisionError), platform.tasks.transaction() as transaction:
        assert transaction.submit(TASK, {"hours": 2}, options=options).outcome is SubmitOutcome.MERGED
        raise ZeroDivisionError

    assert platform.row(id).payload == {"hours": 1}
    assert events(platform, id, "replaced") == []


def test_a_caller_merges_in_a_transaction_of_its_own(platform: Platform, movable_clock: MovableClock) -> None:
    options = SubmitOptions(debounce=5, debounce_key="ada")
    with Session(platform.database.engine) as session:
        for hours in (1, 2, 3):
            (handle,) = platform.tasks.submit_in(session, [Submission(TASK, {"hours": hours}, options)])
        session.commit()

    assert platform.row(handle.task_id).payload == {"hours": 3}
    assert platform.sent(QUEUE) == []
    movable_clock.forward(6)
    platform.tasks.outbox.relay()
    assert platform.work(QUEUE) == handle.task_id


def test_a_batch_keeps_the_order_of_its_receipts(platform: Platform) -> None:
    plain, held = SubmitOptions(), SubmitOptions(debounce=5, debounce_key="ada")
    options = (plain, held, plain, held)
    handles = platform.tasks.submit_many([Submission(TASK, {"hours": 1}, each) for each in options])

    assert [handle.outcome for handle in handles] == [None, SubmitOutcome.ACCEPTED, None, SubmitOutcome.MERGED]
    assert handles[1].task_id == handles[3].task_id
    assert platform.sent(QUEUE) == [handles[0].task_id, handles[2].task_id]


def test_a_full_queue_takes_no_further_held_task_but_merges(platform: Platform) -> None:
    outbox = platform.tasks.outbox
    outbox._settings = outbox._settings.model_copy(update={"max_queue_size": 1})  # pyright: ignore[reportPrivateUsage]
    submit(platform)

    assert submit(platform).outcome is SubmitOutcome.MERGED
    with pytest.raises(QueueFull):
        submit(platform, debounce_key="bob")


@pytest.mark.parametrize("rule", [{"debounce": 5, "debounce_key": "ada"}, {"if_busy": IfBusy.DROP, "key": "ada"}])
def test_many_threads_leave_one_waiting_task(platform: Platform, rule: dict[str, Any]) -> None:
    at_once = Barrier(8)

    def submit_at_once(number: int) -> TaskHandle:
        at_once.wait(30)
        return submit(platform, number, id=f"r-{number}", **rule)

    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(submit_at_once, range(1, 9)))

    assert [handle.created for handle in handles].count(True) == 1
    assert len({handle.task_id for handle in handles}) == 1
    (row,) = platform.rows()
    assert row.id == handles[0].task_id
    if "debounce" in rule:
        assert len(events(platform, row.id, "replaced")) == 7


# --- throttle


def test_a_throttle_starts_one_task_in_a_period(platform: Platform, movable_clock: MovableClock) -> None:
    rule = {"throttle": 60, "throttle_key": "ada"}
    first = submit(platform, 1, **rule)
    again = submit(platform, 2, **rule)

    assert (first.outcome, first.state) == (SubmitOutcome.ACCEPTED, TaskState.PENDING)
    assert (again.task_id, again.created, again.outcome) == (first.task_id, False, SubmitOutcome.THROTTLED)
    assert platform.row(first.task_id).payload == {"hours": 1}
    movable_clock.forward(61)
    assert submit(platform, 3, **rule).task_id == first.task_id, "it waits still"
    assert platform.work(QUEUE) == first.task_id
    movable_clock.forward(-61)
    assert submit(platform, 4, **rule, id="throttled").task_id == first.task_id, "it started just now"
    movable_clock.forward(122)
    second = submit(platform, 5, **rule)
    assert (second.created, platform.sent(QUEUE)) == (True, [second.task_id])
    assert submit(platform, 4, **rule, id="throttled").task_id == first.task_id, "an id returns the same for ever"


def test_a_task_that_was_cancelled_before_its_start_does_not_throttle(platform: Platform) -> None:
    rule = {"throttle": 60, "throttle_key": "ada"}
    first = submit(platform, **rule)
    platform.tasks.cancel(first.task_id)

    assert submit(platform, **rule).created


# --- while another task waits or runs


def busy(platform: Platform) -> tuple[str, str]:
    """A running and a waiting task of one key."""
    running = submit(platform, 1, key="ada", if_busy=IfBusy.WAIT).task_id
    platform.start(QUEUE)
    return running, submit(platform, 2, key="ada", if_busy=IfBusy.WAIT).task_id


STOPPED = {
    IfBusy.WAIT: (False, False),
    IfBusy.DROP: (False, False),
    IfBusy.REPLACE: (False, True),
    IfBusy.CANCEL_RUNNING: (True, False),
    IfBusy.NEWEST: (True, True),
}


@pytest.mark.parametrize("if_busy", STOPPED)
def test_what_happens_while_tasks_of_the_key_wait_and_run(platform: Platform, if_busy: IfBusy) -> None:
    running, waiting = busy(platform)
    other = submit(platform, 7, key="bob", if_busy=IfBusy.WAIT).task_id
    handle = submit(platform, 3, key="ada", if_busy=if_busy)
    stops = STOPPED[if_busy]

    assert handle.created is (if_busy is not IfBusy.DROP)
    assert set(handle.replaced) == {id for id, is_stopped in zip((running, waiting), stops, strict=True) if is_stopped}
    assert platform.tasks.status(running).cancel_requested is stops[0]
    assert (platform.tasks.status(waiting).status is TaskState.CANCELLED) is stops[1]
    assert platform.tasks.status(other).status is TaskState.PENDING
    assert superseded(platform) == []
    for id, is_stopped in zip((running, waiting), stops, strict=True):
        assert events(platform, id, "superseded") == ([{"by": handle.task_id}] if is_stopped else [])
    if if_busy is IfBusy.DROP:
        assert (handle.task_id, handle.outcome) == (waiting, SubmitOutcome.DROPPED)
        assert len(platform.rows()) == 3


def test_a_key_that_is_free_again_drops_nothing(platform: Platform) -> None:
    first = submit(platform, key="ada", if_busy=IfBusy.DROP)
    assert platform.work(QUEUE) == first.task_id
    assert submit(platform, key="ada", if_busy=IfBusy.DROP).outcome is SubmitOutcome.ACCEPTED


def test_a_task_that_waits_for_its_retry_counts_as_running(platform: Platform) -> None:
    first = submit(platform, key="ada", if_busy=IfBusy.WAIT).task_id
    platform.work(QUEUE, outcome=Raised(OSError("away")), schedule=(600.0,))

    assert submit(platform, key="ada", if_busy=IfBusy.REPLACE).replaced == []
    assert submit(platform, key="ada", if_busy=IfBusy.CANCEL_RUNNING).replaced == [first]
    assert platform.tasks.status(first).status is TaskState.CANCELLED


def test_the_newest_of_many_threads_is_left(platform: Platform) -> None:
    at_once = Barrier(8)

    def submit_at_once(number: int) -> TaskHandle:
        at_once.wait(30)
        return submit(platform, number, key="ada", if_busy=IfBusy.NEWEST)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(submit_at_once, range(1, 9)))
    platform.tasks.outbox.relay()
    platform.recorder.catch_up()

    rows = platform.rows()
    left = [row.id for row in rows if row.state in UNFINISHED]
    assert (len(rows), left) == (8, [max(rows, key=lambda row: row.seq).id])
    assert platform.sent(QUEUE) == left


def test_a_task_is_stopped_only_after_the_commit_and_also_after_a_crash(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit(platform, key="ada", if_busy=IfBusy.WAIT).task_id
    options = SubmitOptions(key="ada", if_busy=IfBusy.NEWEST)
    with pytest.raises(ZeroDivisionError), platform.tasks.transaction() as transaction:
        assert transaction.submit(TASK, {"hours": 2}, options=options).replaced == [first]
        raise ZeroDivisionError
    assert platform.tasks.status(first).status is TaskState.PENDING

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(platform.tasks.outbox.keyed, "stop_superseded_by", die)
        with pytest.raises(KeyboardInterrupt):
            submit(platform, 3, key="ada", if_busy=IfBusy.NEWEST)
    assert superseded(platform) == [first]
    platform.tasks.outbox.relay()

    assert superseded(platform) == []
    assert platform.tasks.status(first).status is TaskState.CANCELLED


def test_a_task_that_starts_at_this_moment_is_not_replaced(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    first = submit(platform, key="ada", if_busy=IfBusy.WAIT).task_id
    stop = platform.tasks.outbox.keyed.stop_superseded_by

    def start_first(ids: list[str]) -> None:
        platform.start(QUEUE)
        stop(ids)

    monkeypatch.setattr(platform.tasks.outbox.keyed, "stop_superseded_by", start_first)
    submit(platform, 2, key="ada", if_busy=IfBusy.REPLACE)

    assert not platform.tasks.status(first).cancel_requested
    assert superseded(platform) == []


# --- what cannot work

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"debounce": 5, "debounce_key": None}, "debounce needs a key: give debounce_key, or key"),
    "an empty key": ({"debounce_key": ""}, "debounce_key: give a text that is not empty"),
    "no seconds": ({"debounce": None}, "debounce_key needs debounce"),
    "zero seconds": ({"throttle": 0, "throttle_key": "a"}, "throttle must be more than 0 seconds"),
    "a short longest time": ({"debounce_max": 3}, r"debounce_max \(3 s\) must be as long as debounce \(5 s\)"),
    "a delay": ({"delay": 5}, "give debounce, or delay or at, not both"),
    "an early end": ({"expires": 5}, "expires .* must be longer than debounce"),
    "two rules": ({"debounce": 5, "throttle": 5, "key": "a"}, "give only one of debounce, throttle"),
    "busy without a key": ({"if_busy": IfBusy.NEWEST}, "if_busy needs the ordering key: give key"),
}


@ONE_DATABASE
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_rule_that_cannot_work_is_refused_by_name(platform: Platform, mistake: str) -> None:
    options, problem = MISTAKES[mistake]
    with pytest.raises(InvalidOptions, match=problem):
        submit(platform, **options)
    assert platform.rows() == []


@ONE_DATABASE
def test_uniqueness_is_refused_beside_a_rule(platform: Platform) -> None:
    with pytest.raises(Unsupported, match="uniqueness or durability"):
        submit(platform, unique="one")
