"""Feeds: the right order, nothing skipped, and readers learn what they cannot get any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from laneway.platform import clock
from laneway.platform.access.caller import NOBODY
from laneway.platform.db.models import TaskRun, TaskTag, WorkflowRun, WorkflowStepRun
from laneway.platform.db.queries import event_feed, retention, task_events
from laneway.platform.db.queries.event_feed import EventFilter
from laneway.platform.db.session import Database
from laneway.platform.history.event_feed import EventFeed
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

EVERYTHING = EventFilter(caller=NOBODY)


def add_task(
    database: Database, id: str, *, queue: str = "emails", name: str = "send", tags: Sequence[str] = ()
) -> str:
    """The row of a finished task."""
    with database.transaction() as session:
        run = TaskRun(id=id, name=name, queue=queue, priority=1, payload={}, fingerprint="", state="completed")
        run.max_retries, run.accepted_at, run.finished_at, run.tags = 0, clock.now(), clock.now(), list(tags)
        session.add(run)
        session.flush()
        session.add_all(TaskTag(task_id=id, tag=tag) for tag in tags)
    return id


def add(session: Any, task: str, *kinds: str) -> None:
    task_events.add_events(
        session, [{"task_id": task, "at": clock.now(), "kind": kind, "attempt": None, "data": {}} for kind in kinds]
    )


def record(database: Database, task: str, *kinds: str) -> None:
    """Events of a task, in a transaction of their own."""
    with database.transaction() as session:
        add(session, task, *kinds)


class NothingToRecord(JournalRecorder):
    """A recorder without journals: the events of these tests are rows already."""

    def __init__(self) -> None: ...

    def catch_up_quietly(self, queues: Sequence[str] | None = None) -> None: ...


def feed_of(database: Database) -> EventFeed:
    return EventFeed(database, NothingToRecord())


def kinds_after(feed: EventFeed, after: int, which: EventFilter = EVERYTHING) -> list[str]:
    """The kinds of all events after this one, page by page."""
    found: list[str] = []
    while True:
        page = feed.read(which, after=after)
        found += [item.view.kind for item in page.items]
        after = page.after
        if page.is_last:
            return found


def test_an_event_that_becomes_visible_late_is_not_skipped(postgresql_database: Database) -> None:
    """Two recorders commit in the other order than that of the ids of their events."""
    database = postgresql_database
    first, second = add_task(database, "first"), add_task(database, "second")
    record(database, first, "before")
    feed = feed_of(database)

    with database.transaction() as slow:
        add(slow, first, "slow", "slow-2")
        record(database, second, "quick")  # has a higher id, and is visible now
        during = feed.in_database(EVERYTHING, after=0)
        assert [item.view.kind for item in during.items] == ["before"], "a reader that went on would skip the slow ones"
    assert kinds_after(feed, during.after) == ["slow", "slow-2", "quick"]


def test_a_transaction_or_savepoint_that_is_rolled_back_holds_no_feed_back(postgresql_database: Database) -> None:
    database = postgresql_database
    task = add_task(database, "task")
    feed = feed_of(database)

    with pytest.raises(RuntimeError), database.transaction() as session:
        add(session, task, "never")
        raise RuntimeError
    with database.transaction() as session:
        with pytest.raises(RuntimeError), session.begin_nested():
            add(session, task, "never")
            raise RuntimeError
        record(database, task, "other")
        assert kinds_after(feed, 0) == ["other"], "the savepoint gave its lock back"
        add(session, task, "again")
        record(database, task, "later")
        assert kinds_after(feed, 0) == ["other"]
    assert kinds_after(feed, 0) == ["other", "again", "later"]


def test_a_transaction_takes_one_lock_for_all_its_events(postgresql_database: Database) -> None:
    task = add_task(postgresql_database, "task")
    with postgresql_database.transaction() as session:
        for _ in range(3):
            add(session, task, *["log"] * 50)
        locks = session.connection().exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert locks.scalar() == 1


def test_an_id_is_never_given_twice(platform_database: Database) -> None:
    task = add_task(platform_database, "task")
    record(platform_database, task, "one", "two")
    with platform_database.reading() as session:
        highest = event_feed.highest_id(session)
    with platform_database.transaction() as session:
        session.delete(session.query(TaskRun).one())
    record(platform_database, add_task(platform_database, "other"), "three")

    assert kinds_after(feed_of(platform_database), highest) == ["three"]


def test_a_reader_that_comes_back_learns_that_events_were_deleted(database: Database) -> None:
    old, kept = add_task(database, "old"), add_task(database, "kept")
    record(database, old, "one", "two")
    record(database, kept, "three")
    feed = feed_of(database)
    whole = feed.in_database(EVERYTHING, after=0)
    assert (whole.deleted, len(whole.items)) == (0, 3)
    with database.transaction() as session:
        session.get_one(TaskRun, seq_of(session, kept)).state = TaskState.PENDING
        session.flush()
        assert retention.delete_tasks(session, before=clock.now(), limit=10) == 1

    first, second, third = (item.event.seq for item in whole.items)
    missed = [feed.in_database(EVERYTHING, after=after) for after in (first - 1, first)]
    assert [(page.deleted, [item.event.seq for item in page.items]) for page in missed] == [(second, [third])] * 2
    assert feed.in_database(EVERYTHING, after=second).deleted == 0
    assert feed.start(EVERYTHING, third + 100)[0] == third
    told = feed.start(EVERYTHING, third + 100)[1]
    assert told is not None
    assert (told.kind, told.data["before"]) == ("gone", third)


def seq_of(session: Any, id: str) -> int:
    return session.query(TaskRun.seq).filter(TaskRun.id == id).scalar()


def selections(database: Database) -> list[tuple[EventFilter, list[str]]]:
    """Filters, and the tasks whose events they select."""
    add_task(database, "tenant:acme:1", tags=("red", "big"))
    add_task(database, "plain", queue="bulk", name="report", tags=("red",))
    add_task(database, "step", queue="bulk")
    with database.transaction() as session:
        run = WorkflowRun(id="run-1", type="t", version=1, definition={}, input={}, fingerprint="", state="running")
        run.accepted_at = clock.now()
        session.add(run)
        session.flush()
        visit = WorkflowStepRun(run_id="run-1", step="s", visit=1, state="open", task_id="step")
        visit.created_at = clock.now()
        session.add(visit)
        session.execute(update(TaskRun).where(TaskRun.id == "plain").values(batch_id="b"))
    acme = replace(NOBODY, tenant="acme", kind="token")
    bulk = replace(NOBODY, queues=frozenset({"bulk"}))
    reports = replace(NOBODY, names=frozenset({"report"}))
    return [
        (EVERYTHING, ["tenant:acme:1", "plain", "step"]),
        (EventFilter(caller=NOBODY, queue="bulk"), ["plain", "step"]),
        (EventFilter(caller=NOBODY, name="report"), ["plain"]),
        (EventFilter(caller=NOBODY, tag="red"), ["tenant:acme:1", "plain"]),
        (EventFilter(caller=NOBODY, workflow="run-1"), ["step"]),
        (EventFilter(caller=NOBODY, batch="b"), ["plain"]),
        (EventFilter(caller=NOBODY, tag="red", queue="emails"), ["tenant:acme:1"]),
        (EventFilter(caller=acme), ["tenant:acme:1"]),
        (EventFilter(caller=acme, queue="bulk"), []),
        (EventFilter(caller=bulk), ["plain", "step"]),
        (EventFilter(caller=reports, tag="red"), ["plain"]),
    ]


def test_memory_and_database_select_the_same(platform_database: Database) -> None:
    expected = selections(platform_database)
    feed = feed_of(platform_database)
    with feed.subscribe(lambda: None):
        wait_until(lambda: feed.in_memory(EVERYTHING, after=0) is not None, seconds=10)
        for task in ("tenant:acme:1", "plain", "step"):
            record(platform_database, task, "end", "output")
        wait_until(lambda: len(feed.read(EVERYTHING, after=0).items) == 3, seconds=10)

        for which, tasks in expected:
            memory, stored = feed.in_memory(which, after=0), feed.in_database(which, after=0)
            assert memory is not None
            assert [item.view.task_id for item in memory.items] == tasks, which
            assert [item.json for item in stored.items] == [item.json for item in memory.items], which
            assert memory.after == stored.after
        output = EventFilter(caller=NOBODY, kinds=("output",))
        for page in (feed.in_memory(output, after=0), feed.in_database(output, after=0)):
            assert page is not None
            assert [item.view.kind for item in page.items] == ["output"] * 3
        view = next(item.view for item in feed.read(EVERYTHING, after=0).items if item.view.task_id == "step")
        assert (view.queue, view.name, view.workflow, view.tags) == ("bulk", "send", "run-1", [])


def test_a_reader_behind_the_memory_reads_on_in_the_database(
    platform_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laneway.platform.history.event_feed.KEPT_EVENTS", 10)
    task = add_task(platform_database, "task")
    feed = feed_of(platform_database)
    with feed.subscribe(lambda: None):
        wait_until(lambda: feed.in_memory(EVERYTHING, after=0) is not None, seconds=10)
        record(platform_database, task, *[f"kind-{number}" for number in range(250)])
        wait_until(lambda: feed.in_memory(EVERYTHING, after=0) is None, seconds=10)

        assert kinds_after(feed, 0) == [f"kind-{number}" for number in range(250)]


def test_the_events_of_the_engine_come_to_a_reader_as_they_are_recorded(platform: Platform) -> None:
    feed = EventFeed(platform.database, platform.recorder)
    began, _ = feed.start(EVERYTHING, None)
    with feed.subscribe(lambda: None):
        platform.chore()
        platform.end(platform.start("maintenance"))
        kinds: list[str] = []
        wait_until(lambda: kinds.extend(kinds_after(feed, began)[len(kinds) :]) or "end" in kinds, seconds=10)
    assert kinds == ["accepted", "put", "begin", "end"]
