"""Dead letters: grouped by what failed, sent again, discarded and restored; on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select, update

from laneway.engine import Message, MessageState
from laneway.platform import clock
from laneway.platform.bulk import BulkResult
from laneway.platform.db.models import TaskEvent, TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.errors import NotFound, UnknownTask, UpstreamRefused
from laneway.platform.execution.outcomes import Raised
from laneway.platform.operations import dead_letters as operations
from laneway.platform.operations.dead_letters import DEAD, DeadLetters, Part
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

EVERY = Filter(states=DEAD)


@pytest.fixture
def dead_letters(platform: Platform) -> DeadLetters:
    return DeadLetters(platform.database, platform.broker, platform.recorder, platform.tasks)


def die(platform: Platform, error: Exception, *, tags: tuple[str, ...] = (), id: str | None = None) -> str:
    """A task without a key whose retries are exhausted, or which failed for good; its id."""
    id = platform.webhook(options=SubmitOptions(id=id, tags=tags)).task_id
    attempt = platform.start("webhooks")
    attempt.max_retries = 0
    platform.end(attempt, Raised(error))
    assert platform.state(id) in DEAD
    return id


def ids(page: Sequence[TaskRun]) -> list[str]:
    return [run.id for run in page]


def raised(kind: type[Exception], *args: object) -> Exception:
    """An error with a traceback, as a task raises it."""
    try:
        raise kind(*args)
    except kind as error:
        return error


def test_dead_letters_are_listed_newest_first_and_filtered(platform: Platform, dead_letters: DeadLetters) -> None:
    one = die(platform, OSError("connection lost"), tags=("a",))
    two = die(platform, OSError("100% lost"), tags=("a", "b"))
    failed = die(platform, UpstreamRefused("model", "no"))
    platform.webhook()

    assert ids(dead_letters.page(Filter())) == [two, one]
    assert ids(dead_letters.page(EVERY)) == [failed, two, one]
    assert ids(dead_letters.page(Filter(tag="b"))) == [two]
    assert ids(dead_letters.page(Filter(error="CONNECTION"))) == [one]
    assert ids(dead_letters.page(Filter(name="cleanup_old_data_task"))) == []
    assert ids(dead_letters.page(Filter(states=(TaskState.COMPLETED,)))) == [two, one], "never anything else"
    first = dead_letters.page(EVERY, limit=2)
    assert ids(dead_letters.page(EVERY, before=first[-1].seq, limit=2)) == [one]


def test_tasks_that_failed_the_same_way_are_one_group(platform: Platform, dead_letters: DeadLetters) -> None:
    """The class of the error and the place it came from; without a place, its text without numbers."""
    for number in range(3):
        die(platform, OSError(f"connection {number} lost"))
    other = die(platform, OSError("disk full"))
    raised_here = die(platform, raised(OSError, "connection 9 lost"))

    groups = dead_letters.groups(EVERY)

    assert sorted(group.count for group in groups) == [1, 1, 3]
    largest = groups[0]
    assert (largest.count, largest.name, largest.error_type) == (3, "send_webhook_response_task", "OSError")
    assert largest.error.startswith("connection ")
    assert largest.first_at is not None and largest.last_at is not None and largest.first_at <= largest.last_at
    assert {platform.row(id).error_group for id in (other, raised_here)} == {group.group for group in groups[1:]}
    assert len(ids(dead_letters.page(Filter(group=largest.group)))) == 3


def test_show_returns_a_dead_letter_and_refuses_other_tasks(platform: Platform, dead_letters: DeadLetters) -> None:
    id = die(platform, raised(OSError, "away"))
    run = dead_letters.show(id)

    assert (run.id, run.error, run.payload["event"]) == (id, "away", "replied")
    assert "OSError: away" in str(run.traceback)
    with pytest.raises(NotFound):
        dead_letters.show(platform.webhook().task_id)
    with pytest.raises(UnknownTask):
        dead_letters.show("nobody")


# --- requeue ------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_and_changes_nothing(platform: Platform, dead_letters: DeadLetters) -> None:
    dead = [die(platform, OSError("away")) for _ in range(7)]
    rows = [(row.id, row.state, row.trashed_at) for row in platform.rows()]

    for act in (dead_letters.requeue, dead_letters.discard):
        result = act(Filter(), dry_run=True)
        assert (result.matched, result.done, result.dry_run, result.refused) == (7, 0, True, {})
        assert ids(result.samples) == dead[:1:-1]
    assert dead_letters.restore(Filter(), dry_run=True).matched == 0
    assert [(row.id, row.state, row.trashed_at) for row in platform.rows()] == rows
    assert platform.sent("webhooks") == []


def test_a_requeued_group_runs_and_its_attempt_numbers_continue(platform: Platform, dead_letters: DeadLetters) -> None:
    one, two, other = (die(platform, OSError(text)) for text in ("lost 1", "lost 2", "disk full"))
    group = platform.row(one).error_group
    result = dead_letters.requeue(Filter(group=group))

    assert (result.matched, result.done, result.refused) == (2, 2, {})
    assert platform.state(other) == TaskState.DEAD_LETTER
    assert sorted(platform.sent("webhooks")) == sorted([one, two])
    while platform.work("webhooks"):
        pass
    assert [platform.tasks.status(id).status for id in (one, two)] == [TaskState.COMPLETED] * 2
    assert [platform.tasks.status(id).attempts for id in (one, two)] == [2, 2]
    assert dead_letters.requeue(Filter(group=group)).matched == 0, "safe to repeat"


def test_more_dead_letters_than_a_page_are_sent_again_each_once(
    platform: Platform, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "PAGE", 20)
    ids_ = [platform.webhook(id=f"w{number}").task_id for number in range(45)]
    platform.recorder.catch_up()
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).values(state=TaskState.DEAD_LETTER, finished_at=clock.now()))
    platform.broker.purge("webhooks")
    parts, before = list[BulkResult[TaskRun]](), None
    while not parts or before is not None:
        parts.append(dead_letters.requeue(Filter(), part=Part(before, 15)))
        before = parts[-1].next

    assert [(part.matched, part.done) for part in parts] == [(45, 15), (30, 15), (15, 15), (0, 0)]
    assert sorted(platform.sent("webhooks")) == sorted(ids_)


def test_dead_letters_that_cannot_be_sent_again_are_refused_and_the_others_are_sent(
    platform: Platform, dead_letters: DeadLetters
) -> None:
    good, blank, renamed = (die(platform, OSError("away")) for _ in range(3))
    trashed, waiting = die(platform, OSError("away")), platform.webhook().task_id
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).where(TaskRun.id == blank).values(payload={}))
        session.execute(update(TaskRun).where(TaskRun.id == renamed).values(name="of_an_older_version"))
    dead_letters.discard(Filter(ids=(trashed,)))

    result = dead_letters.requeue(Filter(states=DEAD, ids=(good, blank, renamed, trashed, waiting, "nobody", good)))

    assert (result.matched, result.done) == (3, 1)
    assert result.refused == {
        blank: f"Task {blank!r} is dead_letter and its payload is no longer kept or valid; it cannot be retried.",
        renamed: f"Task {renamed!r} is dead_letter and its payload is no longer kept or valid; it cannot be retried.",
        trashed: f"Dead letter {trashed!r} is in the trash.",
        waiting: f"Task {waiting!r} is pending: it is no dead letter.",
        "nobody": "No task 'nobody' is known here.",
    }
    assert platform.state(good) == TaskState.PENDING
    assert {platform.state(id) for id in (blank, renamed, trashed)} == {TaskState.DEAD_LETTER}


def test_concurrent_requeues_send_each_dead_letter_once(platform: Platform, dead_letters: DeadLetters) -> None:
    dead = [die(platform, OSError("away")) for _ in range(10)]
    together = Barrier(3)

    def requeue(_: int) -> int:
        together.wait(10)
        return dead_letters.requeue(Filter()).done

    with ThreadPoolExecutor(3) as pool:
        done = sum(pool.map(requeue, range(3)))

    assert done == 10
    assert sorted(platform.sent("webhooks")) == sorted(dead)
    assert {platform.row(id).attempts_before for id in dead} == {1}


def test_dead_letters_requeued_while_the_broker_is_away_are_sent_by_maintenance(
    platform: Platform, dead_letters: DeadLetters, movable_clock: MovableClock
) -> None:
    id = die(platform, OSError("away"))
    platform.valkey.stop()
    assert dead_letters.requeue(Filter()).done == 1
    platform.valkey.start()
    movable_clock.forward(60)

    assert platform.state(id) == TaskState.PENDING
    assert platform.maintenance().reconcile() == 1
    assert platform.work("webhooks") == id


# --- what the engine buried ---------------------------------------------------------------------------------


def test_an_undeliverable_message_is_kept_and_requeued_unchanged(platform: Platform, dead_letters: DeadLetters) -> None:
    platform.broker.prepare()
    body = b"\xff\x00 not JSON"
    platform.engine.put("webhooks", Message(task_id="odd", name="nothing", body=body))
    platform.engine.bury([platform.fetched("webhooks")], reason="unreadable", error="not JSON")

    (run,) = dead_letters.page(Filter())
    assert (run.id, run.raw, run.error_type) == ("odd", body, "Undeliverable")
    assert "not JSON" in str(run.error)
    result = dead_letters.requeue(Filter())
    assert (result.done, result.refused) == (1, {})
    assert platform.state("odd") == TaskState.PENDING
    assert platform.messages("webhooks")[0].stored.message.body == body


def test_an_undeliverable_message_that_the_broker_lost_is_refused(
    platform: Platform, dead_letters: DeadLetters
) -> None:
    platform.broker.prepare()
    platform.engine.put("webhooks", Message(task_id="odd", name="nothing", body=b"?"))
    platform.engine.bury([platform.fetched("webhooks")], reason="unreadable")
    assert ids(dead_letters.page(Filter())) == ["odd"]
    platform.engine.discard("webhooks", [platform.messages("webhooks", MessageState.DEAD)[0].stored.id])

    assert dead_letters.requeue(Filter()).refused == {
        "odd": "Task 'odd' is no longer kept by the broker; it cannot be sent again."
    }
    assert platform.state("odd") == TaskState.DEAD_LETTER


# --- the trash ----------------------------------------------------------------------------------------------


def test_a_discarded_dead_letter_can_be_restored_and_both_are_recorded(
    platform: Platform, dead_letters: DeadLetters
) -> None:
    one, other = die(platform, OSError("away"), tags=("x",)), die(platform, OSError("away"))

    assert dead_letters.discard(Filter(tag="x")).done == 1
    assert ids(dead_letters.page(Filter())) == [other]
    assert ids(dead_letters.page(Filter(trashed=True))) == [one]
    assert platform.row(one).trashed_at is not None
    assert (dead_letters.requeue(Filter()).done, platform.state(one)) == (1, TaskState.DEAD_LETTER)
    assert dead_letters.discard(Filter()).matched == 0
    result = dead_letters.restore(Filter(ids=(one,)))
    assert (result.matched, result.done, result.refused) == (1, 1, {})
    assert ids(dead_letters.page(Filter())) == [one]
    again = dead_letters.restore(Filter(ids=(one,)))
    assert again.refused == {one: f"Dead letter {one!r} is not in the trash."}
    with platform.database.reading() as session:
        kinds = session.scalars(select(TaskEvent.kind).where(TaskEvent.task_id == one).order_by(TaskEvent.seq)).all()
    assert list(kinds)[-2:] == ["discarded", "restored"]


def test_a_retry_by_hand_takes_a_dead_letter_out_of_the_trash(platform: Platform, dead_letters: DeadLetters) -> None:
    id = die(platform, OSError("away"))
    dead_letters.discard(Filter())

    platform.tasks.retry(id)

    assert platform.row(id).trashed_at is None
