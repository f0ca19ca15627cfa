"""When a batch ends, and which callbacks it submits. On SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from laneway.platform import clock
from laneway.platform.batch_errors import BatchOver
from laneway.platform.batches.batches import Batches, NewBatch
from laneway.platform.batches.callbacks import callback_id, callback_rows
from laneway.platform.db.models import TaskBatch
from laneway.platform.db.queries import batches as queries
from laneway.platform.errors import Conflict, InvalidPayload, NotFound
from laneway.platform.execution.outcomes import Raised
from laneway.platform.operations.retention import Retention
from laneway.platform.registry import TaskSpec
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent, BatchState
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from tests.fixtures.batches import CALLBACK, CALLBACK_QUEUE, QUEUE, TASK, checks, fired, new, settle, task, work
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import MovableClock, Platform


def test_a_batch_whose_tasks_are_all_completed(platform: Platform, batches: Batches) -> None:
    handle = batches.create(new())
    assert (handle.created, [one.task_id for one in handle.tasks]) == (True, ["b-0", "b-1"])
    assert batches.view("b").model_dump(include={"state", "total", "waiting", "percent"}) == {
        "state": BatchState.RUNNING,
        "total": 2,
        "waiting": 2,
        "percent": 0,
    }
    work(platform)
    settle(platform)
    assert (fired(platform), batches.view("b").percent) == ([], 50)
    work(platform)
    settle(platform)

    view = batches.view("b")
    assert (view.state, view.completed, view.percent) == (BatchState.COMPLETED, 2, 100)
    assert fired(platform) == ["complete", "success"]
    assert view.succeeded_at == view.completed_at == view.finished_at is not None
    assert view.died_at is None
    assert {each.event: each.submitted_at for each in view.callbacks} == {
        BatchEvent.SUCCESS: view.succeeded_at,
        BatchEvent.COMPLETE: view.completed_at,
        BatchEvent.DEATH: None,
    }
    assert set(platform.sent(CALLBACK_QUEUE)) == {callback_id("b", "complete"), callback_id("b", "success")}
    row = platform.row(callback_id("b", "success"))
    assert (row.payload["hours"], row.batch_id) == (2, None)
    settle(platform)
    assert (len(fired(platform)), checks(platform)) == (2, 0)


@pytest.mark.parametrize(
    ("error", "state"), [(OSError("away"), TaskState.DEAD_LETTER), (ValueError("no"), TaskState.FAILED)]
)
def test_a_task_that_dies_and_is_completed_after_a_retry(
    platform: Platform, batches: Batches, error: Exception, state: TaskState
) -> None:
    batches.create(new())
    died = work(platform, Raised(error))
    assert died is not None
    settle(platform)
    assert (fired(platform), platform.state(died)) == (["death"], state)
    work(platform)
    settle(platform)
    assert (fired(platform), batches.view("b").state) == (["death", "complete"], BatchState.FAILED)

    platform.tasks.retry(died)
    settle(platform)
    view = batches.view("b")
    assert (view.state, view.finished_at) == (BatchState.RUNNING, None)
    assert work(platform, Raised(error)) == died
    settle(platform)
    assert fired(platform) == ["death", "complete"], "each of them once"
    platform.tasks.retry_many([platform.row(died)])
    settle(platform)
    assert batches.view("b").finished_at is None
    work(platform)
    settle(platform)

    view = batches.view("b")
    assert (fired(platform), view.state) == (["death", "complete", "success"], BatchState.COMPLETED)
    assert view.completed_at is not None and view.succeeded_at is not None and view.completed_at < view.succeeded_at


def test_a_dead_letter_that_is_requeued_before_the_relay_looks_was_a_death(
    platform: Platform, batches: Batches
) -> None:
    batches.create(new(1))
    died = work(platform, Raised(OSError("away")))
    assert died is not None
    platform.tasks.retry(died)
    settle(platform)

    assert fired(platform) == ["death"]


def test_cancelled_and_expired_tasks_have_ended_but_are_no_success(
    platform: Platform, batches: Batches, movable_clock: MovableClock
) -> None:
    batches.create(new(3))
    platform.tasks.cancel("b-0")
    platform.tasks.cancel_many([platform.row("b-1")])
    delivery = platform.fetched(QUEUE)
    platform.attempts.finish_for("b-2", QUEUE, None, spec=None, how="expired", worker="worker-1")
    platform.engine.ack([delivery])
    settle(platform)

    view = batches.view("b")
    assert (view.state, view.cancelled, view.percent, fired(platform)) == (BatchState.FAILED, 3, 100, ["complete"])


def test_an_empty_batch_succeeds_when_it_is_closed(platform: Platform, batches: Batches) -> None:
    batches.create(new(0, is_open=True))
    settle(platform)
    assert (fired(platform), batches.view("b").state, batches.view("b").percent) == ([], BatchState.OPEN, 0)
    batches.close("b")
    batches.close("b")
    settle(platform)

    assert fired(platform) == ["complete", "success"]
    assert (batches.view("b").state, batches.view("b").percent) == (BatchState.COMPLETED, 100)


def test_an_open_batch_does_not_end_with_its_tasks(platform: Platform, batches: Batches) -> None:
    batches.create(new(1, is_open=True))
    work(platform)
    settle(platform)
    assert (fired(platform), batches.view("b").state) == ([], BatchState.OPEN)
    batches.add("b", [task(id="b-late")])
    batches.close("b")
    settle(platform)
    assert fired(platform) == []
    assert work(platform) == "b-late"
    settle(platform)

    assert fired(platform) == ["complete", "success"]


def test_a_running_task_adds_tasks_to_a_closed_batch(platform: Platform, batches: Batches) -> None:
    batches.create(new(1))
    attempt = platform.start(QUEUE)
    batches.add("b", [task(id="child")])
    platform.end(attempt)
    settle(platform)
    assert (fired(platform), batches.view("b").total) == ([], 2)
    assert work(platform) == "child"
    settle(platform)
    assert fired(platform) == ["complete", "success"]

    with pytest.raises(BatchOver, match="all its tasks have ended"):
        batches.add("b", [task(id="too-late")])
    with pytest.raises(NotFound):
        batches.add("unknown", [task()])
    assert [handle.created for handle in batches.add("b", [task(id="child")])] == [False], "a repeat after the end"
    with pytest.raises(BatchOver):
        batches.add("b", [task(id="child"), task(id="too-late")])
    assert len(platform.rows()) == 4, "nothing was stored of what is refused"


def test_a_cancelled_batch(platform: Platform, batches: Batches) -> None:
    batches.create(new(3))
    running = platform.start(QUEUE)
    outcome = batches.cancel("b")
    assert (outcome.cancelled, outcome.refused, outcome.left) == (3, {}, 0)
    assert platform.row(running.task_id).cancel_requested
    with pytest.raises(BatchOver, match="cancelled"):
        batches.add("b", [task()])
    settle(platform)
    assert (fired(platform), batches.view("b").state) == ([], BatchState.RUNNING)
    platform.end(running)  # it did not listen
    settle(platform)

    view = batches.view("b")
    assert (view.state, view.cancelled, view.completed) == (BatchState.CANCELLED, 2, 1)
    assert fired(platform) == ["complete"]
    assert batches.cancel("b").cancelled == 0
    for id in ("b-0", "b-1", "b-2"):
        if platform.state(id) is TaskState.CANCELLED:
            platform.tasks.retry(id)
            work(platform)
    settle(platform)
    assert (fired(platform), batches.view("b").state) == (["complete"], BatchState.CANCELLED), "it never succeeds"


def test_deleted_tasks_still_count(platform: Platform, batches: Batches) -> None:
    batches.create(new(3))
    first, second = work(platform), work(platform, Raised(OSError("away")))
    assert first is not None and second is not None
    platform.recorder.catch_up()
    platform.tasks.delete(first)
    before = batches.view("b")
    assert (before.total, before.completed, before.failed, before.waiting) == (3, 1, 1, 1)
    platform.tasks.delete(second)
    work(platform)
    settle(platform)

    view = batches.view("b")
    assert (view.total, view.completed, view.failed, view.state) == (3, 2, 1, BatchState.FAILED)
    assert fired(platform) == ["death", "complete"]


def test_deleting_the_last_unfinished_task_ends_the_batch(platform: Platform, batches: Batches) -> None:
    batches.create(new(1))
    platform.tasks.delete("b-0")
    settle(platform)

    view = batches.view("b")
    assert (view.state, view.cancelled, fired(platform)) == (BatchState.FAILED, 1, ["complete"])


def test_a_repeat_submits_nothing_and_other_contents_are_a_conflict(platform: Platform, batches: Batches) -> None:
    batches.create(new())
    again = batches.create(new())
    assert (again.created, again.tasks, len(platform.rows())) == (False, [], 2)
    for other in (new(3), new(description="other"), new(is_open=True)):
        with pytest.raises(Conflict):
            batches.create(other)
    assert len(platform.rows()) == 2

    work(platform)
    work(platform)
    settle(platform)
    assert not batches.create(new()).created, "also after its end"


def test_an_id_of_a_task_outside_is_a_conflict(platform: Platform, batches: Batches) -> None:
    platform.chore("b-1")
    with pytest.raises(Conflict, match="outside of the batch"):
        batches.create(new())
    batches.create(new(1))
    assert [handle.created for handle in batches.add("b", [task(id="b-0"), task(id="b-9")])] == [False, True]
    assert batches.view("b").total == 2


def test_a_refused_batch_leaves_nothing(platform: Platform, batches: Batches) -> None:
    with pytest.raises(InvalidPayload):
        batches.create(NewBatch(id="b", callbacks={BatchEvent.DEATH: Submission(CALLBACK, {"no": 1}, SubmitOptions())}))
    with pytest.raises(InvalidPayload):
        batches.create(NewBatch(id="b", tasks=[task(), Submission(CALLBACK, {"no": 1}, SubmitOptions())]))
    with pytest.raises(NotFound):
        batches.view("b")
    assert (platform.rows(), checks(platform)) == ([], 0)


def test_single_submissions_with_the_option_belong_to_the_batch(platform: Platform, batches: Batches) -> None:
    batches.create(new(0, is_open=True))
    platform.tasks.submit(TASK, {}, options=SubmitOptions(batch="b"))

    assert (batches.view("b").total, batches.view("b").waiting) == (1, 1)


def test_retention_counts_what_it_deletes(platform: Platform, batches: Batches, movable_clock: MovableClock) -> None:
    retention = Retention(platform.database, platform.settings.storage, platform.settings.tasks)
    batches.create(new(2))
    work(platform)
    platform.recorder.catch_up()
    movable_clock.forward(86_400 * 31)
    assert retention.sweep(now=clock.now())["tasks"] == 1
    assert (batches.view("b").completed, batches.view("b").total) == (1, 2)
    work(platform)
    settle(platform)
    assert batches.view("b").state is BatchState.COMPLETED and fired(platform) == ["complete", "success"]

    movable_clock.forward(86_400 * 31)
    counts = retention.sweep(now=clock.now())
    assert counts["batches"] == 1
    with pytest.raises(NotFound):
        batches.view("b")


def test_what_an_older_version_overlooked_is_found(platform: Platform, batches: Batches) -> None:
    batches.create(new(1))
    batches.create(new(1, id="running"))
    settle(platform)
    assert work(platform) == "b-0"
    platform.recorder.catch_up()
    with platform.database.transaction() as session:
        queries.take_checks(session, "b")
    settle(platform)
    assert fired(platform) == []
    assert platform.tasks.outbox.batches.check_overlooked() == 1
    settle(platform)
    assert fired(platform) == ["complete", "success"]
    assert platform.tasks.outbox.batches.check_overlooked() == 0


def test_checks_of_a_batch_that_is_gone_are_dropped(platform: Platform) -> None:
    with platform.database.transaction() as session:
        queries.add_check(session, "gone")
    settle(platform)

    assert checks(platform) == 0


@ONE_DATABASE
def test_a_callback_gets_the_id_of_its_batch_if_its_payload_has_the_field(batches: Batches) -> None:
    class Report(Payload):
        batch_id: str
        month: int = 1

    spec = TaskSpec(name="report", own_queue=QUEUE, payload=Report)
    given = {
        BatchEvent.SUCCESS: Submission(spec, {"month": 4}, SubmitOptions()),
        BatchEvent.DEATH: Submission(spec, {"batch_id": "own"}, SubmitOptions()),
    }
    rows = callback_rows("b", given, TaskSettings())
    assert [row["payload"] for row in rows] == [{"batch_id": "b", "month": 4}, {"batch_id": "own", "month": 1}]


def test_the_list_goes_page_by_page(platform: Platform, batches: Batches) -> None:
    for n in range(3):
        batches.create(new(n, id=f"b{n}"))
    settle(platform)
    first, following = batches.page(limit=2)
    rest, end = batches.page(limit=2, before=following)
    assert [view.batch_id for view in (*first, *rest)] == ["b2", "b1", "b0"]
    assert end is None
    assert [view.batch_id for view in batches.page(unfinished=True)[0]] == ["b2", "b1"]
    with platform.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(TaskBatch)) == 3
