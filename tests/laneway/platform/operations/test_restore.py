"""A database or a broker that is replaced by an older copy, or is empty: nothing accepted is lost or run again."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import states
from sqlalchemy import delete

from laneway.engine import MessageState
from laneway.engine.message import pack_id
from laneway.platform.db.models import Base
from laneway.platform.db.queries import task_events
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.execution.outcomes import Raised
from laneway.platform.operations.dead_letters import DeadLetters
from laneway.platform.operations.maintenance import Maintenance
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.copies import BrokerCopies, DatabaseCopies
from tests.fixtures.databases import PostgresServer
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.valkey import RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.platform.operations.lost_data import LATER, QUEUE, audit, maintenance, run, valkey

__all__ = ["maintenance", "valkey"]


@pytest.fixture
def platform_database(new_database: Database) -> Database:
    """A database of this test alone: it is copied and dropped, which needs that nobody else is connected."""
    return new_database


@pytest.fixture
def databases(platform: Platform, tmp_path: Path, request: pytest.FixtureRequest) -> DatabaseCopies:
    server: PostgresServer | None = None
    if not platform.database.is_sqlite:
        server = request.getfixturevalue("postgresql_template")
    return DatabaseCopies(platform.database, tmp_path, server)


@pytest.fixture
def brokers(platform: Platform, valkey: RunningValkey, tmp_path: Path) -> BrokerCopies:
    return BrokerCopies(valkey, tmp_path, after_restart=platform.engine.close)


def empty(database: Database) -> None:
    """Empty every table of the platform, as after the loss of the database."""
    with database.transaction() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))


def dead(platform: Platform) -> dict[str, str | None]:
    """Task → error class of each dead letter."""
    return {run.id: run.error_type for run in platform.rows() if run.state == TaskState.DEAD_LETTER}


# --- an older database, a newer broker ----------------------------------------------------------------------


def test_a_task_that_ended_after_the_copy_is_completed_from_its_result(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    id = platform.message()
    copy = databases.make()
    run(platform)
    databases.restore(copy)
    movable_clock.forward(LATER)

    maintenance.relay()
    assert maintenance.reconcile() == 0

    row = platform.row(id)
    assert (row.state, row.result, platform.places()) == (TaskState.COMPLETED, {"done": True}, {})
    assert audit(platform).balanced


def test_a_task_of_which_nothing_says_how_it_ended_is_put_before_a_human(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    id, waiting = platform.message("c-1"), platform.message("c-2")
    copy = databases.make()
    assert run(platform, keep_result=False) == id
    databases.restore(copy)
    movable_clock.forward(LATER)

    report = audit(platform)
    assert [one.task_id for one in report.unaccounted] == [id]
    assert report.older == {QUEUE: "database"}
    assert maintenance.reconcile() == 0

    assert dead(platform) == {id: "OutcomeUnknown"}
    assert platform.places() == {waiting: MessageState.READY}, "what still waits is not touched"
    assert (audit(platform).balanced, audit(platform).older) == (True, {})
    letters = DeadLetters(platform.database, platform.broker, platform.recorder, platform.tasks)
    assert letters.requeue(Filter(ids=(id,))).done == 1
    assert sorted(platform.sent()) == sorted([id, waiting])


def test_a_task_that_had_not_reached_the_broker_at_the_copy_is_not_sent_twice(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    done, waiting = (platform.brought_to(TaskState.ACCEPTED, conversation=name) for name in ("c-1", "c-2"))
    platform.lose(QUEUE)
    platform.broker.prepare()
    copy = databases.make()
    movable_clock.forward(LATER)
    assert maintenance.relay() == 2
    assert run(platform) == done
    databases.restore(copy)

    maintenance.relay()
    maintenance.reconcile()

    assert platform.places() == {waiting: MessageState.READY}
    assert (platform.state(done), platform.state(waiting)) == (TaskState.COMPLETED, TaskState.PENDING)


def test_a_task_that_was_held_at_the_copy_is_not_sent_twice(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    payload, options = {"conversation_id": "c-1", "message": "Hello"}, SubmitOptions(debounce=0.01)
    done = platform.tasks.submit("process_conversation_message_task", payload, options=options).task_id
    copy = databases.make()
    assert wait_until(maintenance.relay, seconds=5) == 1
    assert run(platform) == done
    databases.restore(copy)
    movable_clock.forward(LATER)

    platform.recorder.catch_up()
    maintenance.relay()
    maintenance.reconcile()

    assert (platform.places(), platform.state(done)) == ({}, TaskState.COMPLETED)


def test_messages_of_tasks_that_the_copy_does_not_know_get_rows(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    copy = databases.make()
    running, buried, waiting = (platform.message(f"c-{number}") for number in range(3))
    later = platform.message("c-3", delay=60)
    attempt = platform.start()
    platform.engine.bury([platform.fetched()], reason="poison", error="too often")
    platform.recorder.catch_up()
    databases.restore(copy)
    movable_clock.forward(LATER)

    assert sorted(audit(platform).unknown) == sorted([running, buried, waiting, later])
    maintenance.reconcile()

    assert {run.id: run.state for run in platform.rows()} == {
        running: TaskState.PROCESSING,
        buried: TaskState.DEAD_LETTER,
        waiting: TaskState.PENDING,
        later: TaskState.SCHEDULED,
    }
    assert platform.row(waiting).payload["message"] == "Hello"
    assert platform.row(waiting).key == "conversation_id:c-2"
    assert audit(platform).balanced
    assert platform.end(attempt)
    assert platform.state(running) == TaskState.COMPLETED


def test_a_dead_letter_that_was_sent_again_after_the_copy_is_not_dead_any_more(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance
) -> None:
    id = platform.brought_to(TaskState.DEAD_LETTER)
    copy = databases.make()
    platform.tasks.retry(id)
    platform.recorder.catch_up()
    databases.restore(copy)

    maintenance.reconcile()

    assert (platform.state(id), platform.sent()) == (TaskState.PENDING, [id])
    assert run(platform) == id
    assert platform.state(id) == TaskState.COMPLETED


def test_a_message_that_was_given_up_after_the_copy_is_a_dead_letter_with_its_reason(
    platform: Platform, databases: DatabaseCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    id = platform.message()
    copy = databases.make()
    platform.engine.bury([platform.fetched()], reason="poison", error="too often")
    platform.recorder.catch_up()
    databases.restore(copy)
    movable_clock.forward(LATER)

    report = audit(platform, repair=True)
    assert ([one.why for one in report.unaccounted], report.repaired) == (["the engine gave it up"], 1)

    assert (platform.state(id), platform.row(id).error) == (TaskState.DEAD_LETTER, "poison: too often")
    assert platform.sent() == [], "what ends its workers is not sent again without a human"
    second = audit(platform, repair=True)
    assert (second.balanced, second.repaired) == (True, 0)


# --- the database is lost, the broker is kept ---------------------------------------------------------------


def test_an_empty_database_learns_of_every_message_of_the_broker(
    platform: Platform, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    ended, first, second = platform.message("c-0"), platform.message("c-1"), platform.message("c-1")
    assert run(platform) == ended
    empty(platform.database)
    movable_clock.forward(LATER)
    maintenance.reconcile()

    assert [run.id for run in platform.rows()] == [first, second]
    assert [run(platform) for _ in range(2)] == [first, second]
    report = audit(platform)
    assert (report.by_state, report.balanced) == ({TaskState.COMPLETED: 2}, True)
    assert [finding.task_id for finding in report.results.named] == [ended], "known by its result alone"


def test_a_task_that_starts_before_its_row_is_there_gets_one(platform: Platform) -> None:
    id = platform.message()
    platform.recorder.catch_up()
    empty(platform.database)

    attempt = platform.start()
    platform.recorder.catch_up()
    assert (platform.state(id), platform.row(id).name) == (TaskState.PROCESSING, "process_conversation_message_task")
    platform.end(attempt)
    assert platform.state(id) == TaskState.COMPLETED


# --- an older broker, a newer database ----------------------------------------------------------------------


def test_an_older_append_only_file_runs_nothing_again_and_loses_nothing(
    platform: Platform, brokers: BrokerCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    ended, retried, waiting = (platform.message(f"c-{number}") for number in range(3))
    copy = brokers.make()
    assert run(platform) == ended
    assert platform.work(QUEUE, Raised(OSError("away")), schedule=(60,)) == retried
    new = platform.message("c-3")
    platform.recorder.catch_up()
    brokers.restore(copy)
    movable_clock.forward(LATER)

    report = audit(platform)
    assert (report.older, report.again) == ({QUEUE: "broker"}, [ended])
    assert not report.balanced
    assert maintenance.reconcile() == 1

    assert set(platform.places()) == {retried, waiting, new}
    assert platform.state(ended) == TaskState.COMPLETED
    assert audit(platform).balanced
    assert sorted(run(platform) for _ in range(3)) == sorted([retried, waiting, new])
    assert audit(platform).by_state == {TaskState.COMPLETED: 4}


def test_events_of_an_older_broker_whose_clock_is_behind_are_recorded(
    platform: Platform, brokers: BrokerCopies, maintenance: Maintenance
) -> None:
    copy = brokers.make()
    platform.message()
    run(platform)
    with platform.database.transaction() as session:  # the other machine's clock was an hour ahead
        cursor = task_events.lock_cursor(session, QUEUE)
        ahead = int(cursor.position.partition("-")[0]) + 3_600_000
        cursor.position = f"{ahead}-0"
    brokers.restore(copy)
    platform.broker.prepare()
    id = platform.message("c-2")

    assert platform.work(QUEUE) == id
    assert platform.state(id) == TaskState.COMPLETED
    assert maintenance.reconcile() == 0
    assert audit(platform).balanced


def test_a_running_task_of_an_older_broker_that_has_ended_is_not_delivered_again(
    platform: Platform, brokers: BrokerCopies, maintenance: Maintenance
) -> None:
    id = platform.message()
    attempt = platform.start()
    copy = brokers.make()
    platform.end(attempt)
    assert platform.state(id) == TaskState.COMPLETED
    brokers.restore(copy)

    assert platform.places() == {id: MessageState.LEASED}
    maintenance.reconcile()
    assert audit(platform).balanced
    platform.engine.runner.call("ZADD", platform.engine.keys.key(QUEUE, "leased"), 1, pack_id(id))
    assert platform.fetch(QUEUE) is None, "its lease is over, and it is not delivered"
    assert platform.places() == {}


def test_a_worker_compares_before_it_takes_its_first_task(
    platform: Platform, brokers: BrokerCopies, maintenance: Maintenance
) -> None:
    platform.message()
    copy = brokers.make()
    run(platform)
    brokers.restore(copy)

    maintenance.start()
    try:
        assert platform.places() == {}
    finally:
        maintenance.stop()


# --- an empty broker ----------------------------------------------------------------------------------------


def test_a_lost_append_only_file_loses_no_accepted_task(
    platform: Platform, brokers: BrokerCopies, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    platform.broker.prepare()
    running = platform.message("c-1")
    attempt = platform.start()
    waiting, held, later = platform.message("c-2"), platform.message("c-2"), platform.message("c-3", delay=60)
    parked = platform.brought_to(TaskState.ACCEPTED, conversation="c-4")
    platform.recorder.catch_up()
    brokers.restore(None)
    assert not platform.end(attempt, ack=False), "its lease is gone"
    movable_clock.forward(LATER)

    assert audit(platform).older == {QUEUE: "broker"}
    maintenance.relay()
    assert maintenance.reconcile() == 4

    assert platform.places() == {
        running: MessageState.READY,
        waiting: MessageState.READY,
        held: MessageState.HELD,
        later: MessageState.SCHEDULED,
        parked: MessageState.READY,
    }
    assert "journal" in platform.engine.stats([QUEUE])[0].limits
    assert audit(platform).balanced


def test_a_task_that_ended_without_a_record_is_completed_from_a_result_that_survived(
    platform: Platform, maintenance: Maintenance, movable_clock: MovableClock
) -> None:
    """The broker lost its journal with the event of the end; the results are on another server."""
    id = platform.message()
    platform.work(QUEUE)
    platform.app.backend.store_result(id, {"done": True}, states.SUCCESS)
    platform.lose(QUEUE)
    movable_clock.forward(LATER)
    assert platform.row(id).state == TaskState.PENDING

    assert maintenance.reconcile() == 1
    assert (platform.state(id), platform.row(id).result) == (TaskState.COMPLETED, {"done": True})
    assert platform.places() == {}


def test_a_restored_row_is_never_recorded_from_older_events_twice(
    platform: Platform, brokers: BrokerCopies, maintenance: Maintenance
) -> None:
    """The journal of an older broker repeats events that the history has."""
    id = platform.brought_to(TaskState.DEAD_LETTER)
    platform.message("c-9", id="other")
    platform.recorder.catch_up()
    copy = brokers.make()
    platform.tasks.cancel("other")
    platform.recorder.catch_up()
    brokers.restore(copy)
    maintenance.reconcile()

    assert (platform.state(id), platform.state("other")) == (TaskState.DEAD_LETTER, TaskState.CANCELLED)
    assert platform.places() == {}
