"""The recorder: what happens in the engine as rows, attempts and stories, each event once in effect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from threading import Event as Signal
from typing import Any

import pytest
from sqlalchemy import func, select

from app.core import catalog
from app.core.errors import BrokerUnavailable, DatabaseUnavailable, HistoryBehind, WrongState
from app.db.models import JournalPlace, TaskAttempt, TaskEvent, TaskRun
from app.db.repositories import history as repository
from app.schemas.task import State
from app.services import history as history_module
from app.services.history import History
from app.services.outcomes import Completed, Raised, Ruling, Snoozed, Stopped
from app.services.recording import record
from laneway import Engine, Event, Kind, Message, Verdict
from laneway import State as Place
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until

AWAY = Raised(OSError("away"))
NOW = 1_790_000_000_000


def attempts(platform: Platform, id: str) -> list[tuple[int, str | None]]:
    """Number and outcome of each attempt, as recorded."""
    platform.history.catch_up()
    with platform.database.reading() as session:
        return [(one.number, one.outcome) for one in repository.attempts(session, id)]


def story(platform: Platform, id: str) -> list[str]:
    """The kinds of what happened to a task, in order."""
    platform.history.catch_up()
    with platform.database.reading() as session:
        return [event.kind for event in repository.events(session, id)]


def everything(platform: Platform) -> dict[str, list[dict[str, Any]]]:
    """All that is recorded."""
    with platform.database.reading() as session:
        return {
            table.__tablename__: [vars_of(row) for row in session.scalars(select(table))]
            for table in (TaskRun, TaskAttempt, TaskEvent)
        }


def vars_of(row: object) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


# --- each kind of event -------------------------------------------------------------------------------------


def test_a_task_that_completes_is_told_from_its_acceptance_to_its_end(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance", worker="worker-7")
    platform.executions.report(attempt, Kind.PROGRESS, {"percent": 40, "message": "sweeping"})
    platform.executions.report(attempt, Kind.LOG, {"event": "a line", "level": "info"})
    row = platform.row(id)
    assert (row.state, row.attempts, row.worker) == ("processing", 1, "worker-7")
    assert (row.progress, row.progress_message) == (40, "sweeping")
    assert row.started_at is not None

    platform.end(attempt, Completed({"swept": 3}))

    row = platform.row(id)
    assert (row.state, row.result, row.attempts, row.progress) == ("completed", {"swept": 3}, 1, 100)
    assert row.finished_at is not None
    assert row.started_at is not None
    assert row.accepted_at.timestamp() - 0.002 <= row.started_at.timestamp() <= row.finished_at.timestamp()
    assert attempts(platform, id) == [(1, "completed")]
    assert story(platform, id) == ["accepted", "put", "begin", "progress", "log", "end"]


def test_the_story_keeps_what_was_said_and_the_number_of_the_attempt(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.executions.report(attempt, Kind.LOG, {"event": "a line", "level": "info"})
    platform.end(attempt, AWAY)
    platform.history.catch_up()

    with platform.database.reading() as session:
        told = {event.kind: (event.attempt, event.data) for event in repository.events(session, id)}
    assert told["log"] == (1, {"event": "a line", "level": "info"})
    assert told["begin"] == (1, {"worker": "worker-1"})
    number, data = told["end"]
    assert (number, data["state"], data["outcome"], data["error"]) == (1, "scheduled", "retry", "away")
    assert told["put"][0] is None


def test_a_failure_to_be_tried_again_is_scheduled_with_its_error(platform: Platform) -> None:
    id = platform.chore()
    ruling = Ruling(State.SCHEDULED, delay=60.0, error="away", error_type="OSError", traceback="line 1")
    platform.executions.conclude(platform.start("maintenance"), ruling)

    row = platform.row(id)
    assert (row.state, row.attempts, row.error, row.error_type, row.traceback) == (
        "scheduled", 1, "away", "OSError", "line 1",
    )  # fmt: skip
    assert row.due_at is not None
    assert row.published_at is not None
    assert (row.due_at - row.published_at).total_seconds() == 60
    assert row.finished_at is None
    with platform.database.reading() as session:
        (kept,) = repository.attempts(session, id)
        assert (kept.outcome, kept.error, kept.delay) == ("retry", "away", 60.0)
        assert kept.ended_at is not None
        assert kept.started_at <= kept.ended_at


def test_a_success_after_a_failure_clears_the_error(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance", AWAY, schedule=(0.0,))
    assert platform.row(id).error == "away"

    platform.work("maintenance")

    row = platform.row(id)
    assert (row.error, row.error_type, row.error_group, row.traceback, row.attempts) == (None, None, None, None, 2)
    assert attempts(platform, id) == [(1, "retry"), (2, "completed")]


def test_a_snooze_does_not_count_but_is_numbered(platform: Platform) -> None:
    id = platform.chore()
    for _ in range(3):
        platform.work("maintenance", Snoozed(0, "not yet"))
        assert (platform.state(id), platform.row(id).attempts) == (State.SCHEDULED, 0)

    platform.work("maintenance")

    assert (platform.state(id), platform.row(id).attempts) == (State.COMPLETED, 1)
    assert attempts(platform, id) == [(1, "snoozed"), (2, "snoozed"), (3, "snoozed"), (4, "completed")]


def test_a_lost_attempt_is_waiting_again_and_says_who_lost_it(platform: Platform) -> None:
    id = platform.chore()
    delivery = platform.fetched("maintenance", lease=0.05)
    platform.begun(delivery, worker="worker-7")
    assert platform.state(id) == State.PROCESSING

    again = wait_until(lambda: platform.fetch("maintenance"), seconds=5)

    row = platform.row(id)
    assert (row.state, row.error_type, "worker-7" in (row.error or "")) == ("pending", "WorkerLost", True)
    assert attempts(platform, id) == [(1, "lost")]
    assert again is not None
    platform.begun(again)
    assert (platform.state(id), attempts(platform, id)) == (State.PROCESSING, [(1, "lost"), (2, None)])


@pytest.mark.parametrize(("marked", "state"), [(False, State.FAILED), (True, State.CANCELLED)])
def test_an_acknowledgement_without_an_outcome_is_a_failure_unless_it_was_cancelled(
    platform: Platform, marked: bool, state: State
) -> None:
    id = platform.chore()
    platform.start("maintenance")
    if marked:
        platform.tasks.cancel(id)

    platform.engine.ack([platform.deliveries[id]])

    row = platform.row(id)
    assert row.state == state
    assert row.finished_at is not None
    assert (row.error_type == "Unrecorded") is (state is State.FAILED)
    assert attempts(platform, id) == [(1, state.value)]


@pytest.mark.parametrize("running", [False, True])
def test_a_buried_message_is_a_dead_letter_with_the_reason_and_what_it_was(platform: Platform, running: bool) -> None:
    id = platform.chore()
    delivery = platform.fetched("maintenance")
    if running:
        platform.begun(delivery)

    platform.engine.bury([delivery], reason="rejected", error="nobody wants it")

    row = platform.row(id)
    assert (row.state, row.error_type, row.error) == ("dead_letter", "Undeliverable", "rejected: nobody wants it")
    assert row.finished_at is not None
    assert row.error_group
    assert row.raw == delivery.stored.message.body
    assert [outcome for _, outcome in attempts(platform, id)] in ([["dead_letter"], ["lost"]] if running else [[]])
    assert "bury" in story(platform, id)


def test_a_cancelled_message_is_a_cancelled_task(platform: Platform) -> None:
    id = platform.chore(delay=60)
    platform.engine.cancel("maintenance", id)

    row = platform.row(id)
    assert (row.state, row.due_at) == ("cancelled", None)
    assert row.finished_at is not None


def test_a_mark_is_kept_until_the_end(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.engine.cancel("maintenance", id)

    assert (platform.state(id), platform.row(id).cancel_requested) == (State.PROCESSING, True)
    platform.end(attempt, Stopped("interrupted"))
    assert (platform.state(id), attempts(platform, id)) == (State.CANCELLED, [(1, "cancelled")])
    assert story(platform, id)[-2:] == ["mark", "end"]


def test_a_marked_task_whose_worker_died_is_cancelled(platform: Platform) -> None:
    id = platform.chore()
    platform.begun(platform.fetched("maintenance", lease=0.05))
    platform.engine.cancel("maintenance", id)

    wait_until(lambda: platform.fetch("maintenance") is None and platform.state(id) == State.CANCELLED, seconds=5)
    assert attempts(platform, id) == [(1, "lost")]


def test_a_purged_queue_cancels_what_waits_and_nothing_else(platform: Platform) -> None:
    running = platform.chore()
    attempt = platform.start("maintenance")
    waiting = [platform.chore(), platform.chore(delay=60)]

    assert platform.engine.purge("maintenance") == 2

    assert {(platform.state(id), platform.row(id).error) for id in waiting} == {("cancelled", "The queue was purged.")}
    platform.end(attempt)
    assert platform.state(running) == State.COMPLETED


def test_a_dead_letter_that_the_engine_delivers_again_starts_anew_and_numbers_on(platform: Platform) -> None:
    id = platform.chore()
    platform.start("maintenance")
    platform.engine.bury([platform.deliveries[id]], reason="rejected")
    assert platform.state(id) == State.DEAD_LETTER

    platform.engine.requeue("maintenance", [id])
    platform.history.catch_up()

    row = platform.row(id)
    assert (row.state, row.attempts, row.attempts_before, row.error, row.raw) == ("pending", 0, 1, None, None)
    platform.work("maintenance")
    assert (platform.state(id), platform.row(id).attempts) == (State.COMPLETED, 1)
    assert [number for number, _ in attempts(platform, id)] == [1, 2]


def test_a_retry_by_hand_numbers_the_attempts_on(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance", Raised(ValueError("wrong")))
    platform.tasks.retry(id)
    platform.work("maintenance", AWAY, schedule=(0.0,))
    platform.work("maintenance")

    assert attempts(platform, id) == [(1, "failed"), (2, "retry"), (3, "completed")]
    assert platform.row(id).attempts == 2, "of this run"


def test_a_message_that_is_sent_again_numbers_the_attempts_on(platform: Platform) -> None:
    """The engine counts a new message's attempts from one."""
    id = platform.chore()
    platform.start("maintenance")
    platform.history.catch_up()
    platform.lose("maintenance")
    platform.broker.prepare()

    assert platform.tasks.send(platform.row(id))

    platform.work("maintenance")
    assert platform.state(id) == State.COMPLETED
    assert attempts(platform, id) == [(1, "lost"), (2, "completed")]


# --- once, whatever happens ---------------------------------------------------------------------------------


def batch_of_all(platform: Platform) -> list[Event]:
    """Events of several tasks, unread."""
    platform.chore()
    platform.work("maintenance", AWAY, schedule=(0.0,))
    platform.work("maintenance")
    cancelled = platform.chore()
    platform.tasks.cancel(cancelled)
    platform.chore()
    platform.engine.bury([platform.fetched("maintenance")], reason="rejected")
    platform.chore()
    platform.work("maintenance", Raised(ValueError("wrong")))
    platform.chore()
    platform.start("maintenance")
    return platform.engine.events("maintenance")


def test_a_batch_that_is_recorded_twice_changes_nothing(platform: Platform) -> None:
    events = batch_of_all(platform)
    platform.history.catch_up()
    before = everything(platform)
    assert {row["state"] for row in before["task_runs"]} == {"completed", "cancelled", "dead_letter", "failed",
                                                             "processing"}  # fmt: skip

    with platform.database.transaction() as session:
        record(session, "maintenance", events)

    after = everything(platform)
    assert after["task_runs"] == before["task_runs"]
    assert after["task_attempts"] == before["task_attempts"]


class StopHere(Exception):
    """In the place of a crash."""


def test_a_crash_between_the_commit_and_the_forgetting_repeats_nothing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_of_all(platform)
    unread = platform.engine.unread(["maintenance"])
    forget = Engine.forget_events

    def crash(*_: Any, **__: Any) -> None:
        raise StopHere

    monkeypatch.setattr(Engine, "forget_events", crash)
    with pytest.raises(StopHere):
        platform.history.catch_up()
    monkeypatch.setattr(Engine, "forget_events", forget)
    before = everything(platform)
    assert platform.engine.unread(["maintenance"]) == unread, "the journal has it all"
    assert len(before["task_attempts"]) == 4

    assert platform.history.catch_up() == 0

    assert everything(platform) == before
    assert platform.engine.unread(["maintenance"]) == [0]


def test_a_crash_before_the_commit_loses_nothing(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_of_all(platform)
    before, set_place = everything(platform), repository.set_place

    def crash(*_: Any, **__: Any) -> None:
        raise StopHere

    monkeypatch.setattr(repository, "set_place", crash)
    with pytest.raises(StopHere):
        platform.history.catch_up()
    monkeypatch.setattr(repository, "set_place", set_place)
    assert everything(platform) == before, "all or nothing"

    assert platform.history.catch_up() > 0
    assert {row["state"] for row in everything(platform)["task_runs"]} > {"completed", "failed", "dead_letter"}


def test_several_recorders_at_once_record_each_event_once(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "BATCH", 3)
    ids = [platform.chore() for _ in range(8)]
    for _ in ids:
        platform.work("maintenance", AWAY, schedule=(0.0,))
        platform.work("maintenance")
    unread, together = platform.engine.unread(["maintenance"])[0], Barrier(4)

    def catch_up(_: int) -> int:
        together.wait(10)
        return History(platform.database, platform.broker, platform.settings.tasks).catch_up()

    with ThreadPoolExecutor(4) as pool:
        recorded = list(pool.map(catch_up, range(4)))

    assert sum(recorded) == unread == 8 * 5
    for id in ids:
        assert attempts(platform, id) == [(1, "retry"), (2, "completed")]
        assert story(platform, id) == ["accepted", "put", "begin", "end", "begin", "end"]


def test_the_recorder_keeps_up_with_those_who_work(platform: Platform) -> None:
    done = Signal()

    def work() -> None:
        for number in range(15):
            platform.chore()
            platform.work("maintenance", AWAY if number % 3 else None, schedule=(0.0,))
        while platform.work("maintenance"):
            pass
        done.set()

    def follow() -> int:
        recorded = 0
        while not done.is_set() or platform.history.unread():
            recorded += platform.history.catch_up()
        return recorded

    with ThreadPoolExecutor(2) as pool:
        working, following = pool.submit(work), pool.submit(follow)
        working.result()
        following.result()

    assert {row.state for row in platform.rows()} == {"completed"}
    with platform.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(TaskAttempt)) == 15 + 10


# --- the database away --------------------------------------------------------------------------------------


def test_while_the_database_is_away_tasks_are_run_and_the_journal_holds_it(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(3)]
    platform.history.catch_up()
    with platform.without_database():
        for _ in ids:
            platform.work("maintenance", Completed({"fine": True}))
        with pytest.raises(DatabaseUnavailable):
            platform.history.catch_up()
        platform.history.catch_up_quietly()
        assert platform.engine.unread(["maintenance"]) == [6]

    assert platform.history.catch_up() == 6
    assert {(platform.state(id), str(platform.row(id).result)) for id in ids} == {("completed", "{'fine': True}")}


def test_at_the_bound_nothing_new_is_accepted_and_what_was_accepted_still_ends(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(2)]
    platform.history.catch_up()
    platform.engine.journal("maintenance", 2)
    platform.work("maintenance")

    with pytest.raises(HistoryBehind):
        platform.chore("too-much")
    with platform.database.reading() as session:
        assert session.scalar(select(TaskRun.id).where(TaskRun.id == "too-much")) is None, "its row was withdrawn"
    with platform.without_database():
        platform.work("maintenance")

    assert platform.history.catch_up() >= 4
    assert {platform.state(id) for id in ids} == {State.COMPLETED}
    platform.chore("now")
    assert platform.state("now") == State.PENDING


def test_progress_is_dropped_at_the_bound_and_outcomes_are_not(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.history.catch_up()
    platform.engine.journal("maintenance", 1)
    for percent in range(5):
        assert platform.executions.report(attempt, Kind.PROGRESS, {"percent": percent}) is False
    assert platform.engine.unread(["maintenance"]) == [1]
    platform.end(attempt)

    assert platform.state(id) == State.COMPLETED


def test_the_broker_away_is_named_and_nothing_is_recorded(platform: Platform) -> None:
    id = platform.chore()
    platform.work("maintenance")
    platform.valkey.stop()
    try:
        with pytest.raises(BrokerUnavailable):
            platform.history.catch_up()
        assert platform.tasks.current(id).state == "pending", "as far as it is known"
    finally:
        platform.valkey.start()


# --- tasks that came past the manager, and what nobody can read ---------------------------------------------


def test_a_task_that_came_past_the_manager_is_adopted(platform: Platform) -> None:
    platform.broker.prepare()
    platform.app.send_task(  # pyright: ignore[reportUnknownMemberType]
        catalog.PROCESS_MESSAGE.name, kwargs={"conversation_id": "c-1", "text": "Hello"}, task_id="from-a-shell",
        queue="conversations", priority=9,
    )  # fmt: skip
    row = platform.row("from-a-shell")
    assert (row.state, row.name, row.queue) == ("pending", catalog.PROCESS_MESSAGE.name, "conversations")
    assert (row.payload, row.priority) == ({"conversation_id": "c-1", "text": "Hello"}, 3)

    platform.work()

    assert platform.state("from-a-shell") == State.COMPLETED
    assert attempts(platform, "from-a-shell") == [(1, "completed")]
    assert story(platform, "from-a-shell") == ["put", "begin", "end"]


def test_an_adopted_task_that_is_due_later_is_scheduled(platform: Platform) -> None:
    platform.broker.prepare()
    due = NOW * 10
    platform.engine.put(
        "maintenance", Message(task_id="later", name=catalog.CLEANUP.name, body=b"\0[[], {}, {}]", eta_ms=due)
    )

    row = platform.row("later")
    assert (row.state, row.due_at) == ("scheduled", datetime.fromtimestamp(due / 1000, UTC))


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"\0[[], {\"a\": 1}, {}]", {"a": 1}),
        (b"\0[[1, 2], {}, {}]", {"args": [1, 2]}),
        (b"\0not JSON", {}),
        (b"\0{}", {}),
        (b"\0null", {}),
        (b"\0" + b"[" * 100_000, {}),
        (b"\xff\xfe", {}),
        (b"[]\0[[], {}, {}]", {}),
        (b"", {}),
    ],
)  # fmt: skip
def test_a_message_that_nobody_can_run_is_a_dead_letter_with_what_it_was(
    platform: Platform, body: bytes, payload: dict[str, Any]
) -> None:
    platform.broker.prepare()
    platform.engine.put("maintenance", Message(task_id="odd", name="no_such_task", body=body))
    platform.engine.bury([platform.fetched("maintenance")], reason="malformed", error="cannot be read")

    row = platform.row("odd")
    assert (row.state, row.error, row.name) == ("dead_letter", "malformed: cannot be read", "no_such_task")
    assert (row.raw, row.payload) == (body, payload)
    assert platform.engine.unread(["maintenance"]) == [0]
    with pytest.raises(WrongState):
        platform.tasks.retry("odd")


def test_a_task_whose_id_cannot_be_stored_does_not_hold_up_the_others(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.put("maintenance", Message(task_id="x" * 156, name=catalog.CLEANUP.name, body=b"\0[[], {}, {}]"))
    good = platform.chore()
    for _ in range(2):
        platform.work("maintenance")

    assert platform.state(good) == State.COMPLETED
    assert platform.engine.unread(["maintenance"]) == [0]
    assert [row.id for row in platform.rows()] == [good]


@pytest.mark.parametrize(
    "outcome",
    ["", "no JSON", "[]", "{}", "null", '{"state": "no such state"}', '{"state": null}',
     '{"state": "completed", "odd": 1}',
     json.dumps({"state": "failed", "error": "\ud800 \x00", "error_type": "E" * 500, "traceback": "\x00\udfff"}),
     json.dumps({"state": "failed", "error": ["not", "a text"]})],
)  # fmt: skip
def test_an_outcome_of_any_kind_ends_its_task(platform: Platform, outcome: str) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    assert attempt.lease is not None
    platform.engine.conclude(attempt.lease, Verdict.DONE_WITH, outcome=outcome)

    row = platform.row(id)
    assert row.state == ("completed" if "completed" in outcome else "failed")
    assert row.finished_at is not None
    assert platform.engine.unread(["maintenance"]) == [0]


@pytest.mark.parametrize(
    "said",
    ["no JSON", "[]", '{"percent": "much"}', '{"percent": NaN}', '{"percent": 1e999}', '{"percent": -5, "message": 7}',
     '{"percent": 1, "message": "\\u0000 \\ud800"}', '{"percent": 900}'],
)  # fmt: skip
def test_whatever_a_task_says_does_not_hold_up_the_history(platform: Platform, said: str) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance", worker="w\x00")
    assert attempt.lease is not None
    for kind in (Kind.PROGRESS, Kind.LOG):
        platform.engine.report(attempt.lease, kind, said)
    platform.history.catch_up()
    assert 0 <= platform.row(id).progress <= 100
    platform.end(attempt)

    assert platform.state(id) == State.COMPLETED
    assert attempts(platform, id) == [(1, "completed")]


def test_an_event_that_cannot_be_recorded_is_left_out_and_the_rest_is_recorded(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [platform.chore() for _ in range(3)]
    for _ in ids:
        platform.work("maintenance")
    broken, add = ids[1], repository.add_events

    def refuse(session: Any, rows: Sequence[dict[str, Any]]) -> None:
        add(session, rows)
        if any(row["task_id"] == broken and row["kind"] == "begin" for row in rows):
            raise StopHere

    monkeypatch.setattr(repository, "add_events", refuse)
    platform.history.catch_up()

    assert {platform.state(id) for id in ids} == {State.COMPLETED}
    assert story(platform, broken) == ["accepted", "put", "end"]
    assert [story(platform, id) for id in (ids[0], ids[2])] == [["accepted", "put", "begin", "end"]] * 2


def test_an_event_of_a_task_that_nobody_knows_is_passed_over(platform: Platform) -> None:
    with platform.database.transaction() as session:
        record(session, "maintenance", [Event(f"{NOW}-0", Kind.END, "nobody", "nobody", attempt=1)])

    assert platform.rows() == []


def test_the_place_is_kept_per_queue(platform: Platform) -> None:
    platform.chore()
    platform.message()
    platform.history.catch_up(["maintenance"])
    with platform.database.reading() as session:
        assert [place.queue for place in session.scalars(select(JournalPlace))] == ["maintenance"]
    assert platform.history.unread() == {"conversations": 1}
    assert platform.history.catch_up() == 1
    assert platform.places() != {}
    assert list(platform.places("maintenance").values()) == [Place.READY]


def test_a_task_of_celerys_own_is_over_when_it_is_acknowledged(platform: Platform) -> None:
    platform.broker.prepare()
    platform.engine.put("maintenance", Message(task_id="own", name="celery.chord_unlock", body=b"\0[[], {}, {}]"))
    platform.engine.put("maintenance", Message(task_id="ours", name=catalog.CLEANUP.name, body=b"\0[[], {}, {}]"))

    platform.engine.ack([platform.fetched("maintenance"), platform.fetched("maintenance")])

    assert platform.row("own").state == State.COMPLETED
    assert platform.row("own").progress_message == "acknowledged; its outcome is in Celery's results"
    assert (platform.row("ours").state, platform.row("ours").error_type) == (State.FAILED, "Unrecorded")
