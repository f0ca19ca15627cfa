"""What was done with many tasks is taken back within an hour, unless a task has gone on since."""

from __future__ import annotations

import pytest

from laneway.engine import MessageState
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.errors import NotFound
from laneway.platform.execution.outcomes import Completed
from laneway.platform.operations import bulk_undo
from laneway.platform.operations.bulk_tasks import BulkTasks
from laneway.platform.operations.bulk_undo import BulkUndo, OtherAction, TooLateToUndo
from laneway.platform.queues import Priority
from laneway.schemas.bulk import PrioritySelection, TaskSelection
from laneway.schemas.choices import PriorityName
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform


@pytest.fixture
def undo(platform: Platform) -> BulkUndo:
    return BulkUndo(platform.database, platform.recorder, platform.tasks)


@pytest.fixture
def bulk(platform: Platform, undo: BulkUndo) -> BulkTasks:
    return BulkTasks(platform.database, platform.recorder, platform.tasks, undo)


def action_of(action: str | None) -> str:
    assert action is not None
    return action


def test_cancelled_tasks_wait_again_with_their_due_time(platform: Platform, bulk: BulkTasks, undo: BulkUndo) -> None:
    first, held, scheduled = platform.message(), platform.message(), platform.message("c-2", delay=60)
    due = platform.row(scheduled).due_at
    cancelled = bulk.cancel(TaskSelection(queue="conversations"))
    assert (cancelled.done, platform.places()) == (3, {})
    found = undo.undo(action_of(cancelled.action))

    assert (found.done, found.refused, found.more) == (3, {}, False)
    assert platform.places() == {
        first: MessageState.READY,
        held: MessageState.HELD,
        scheduled: MessageState.SCHEDULED,
    }
    assert platform.row(scheduled).due_at == due
    assert [platform.work(), platform.work()] == [first, held]
    log = AuditLog(platform.database)
    entries = log.page(AuditLogFilter(action="task.undo_cancel")).entries
    assert {entry.object_id for entry in entries} == {first, held, scheduled}
    again = undo.undo(action_of(cancelled.action))
    assert (again.done, again.refused) == (0, {})


def test_a_task_that_ran_stays_cancelled_and_one_that_was_retried_goes_on(
    platform: Platform, bulk: BulkTasks, undo: BulkUndo
) -> None:
    running, retried, deleted = platform.message(), platform.message("c-2"), platform.message("c-3")
    attempt = platform.start()
    cancelled = bulk.cancel(TaskSelection(queue="conversations"))
    platform.end(attempt, Completed({}))
    platform.tasks.retry(retried)
    platform.tasks.delete(deleted)
    found = undo.undo(action_of(cancelled.action))

    assert (found.done, list(found.refused)) == (0, [retried])
    assert platform.state(running) == TaskState.COMPLETED
    assert platform.work() == retried


def test_priorities_come_back_to_those_that_still_wait(platform: Platform, bulk: BulkTasks, undo: BulkUndo) -> None:
    low = platform.chore(priority=Priority.LOW)
    high, started = platform.chore(priority=Priority.HIGH), platform.chore()
    selection = {"queue": "maintenance", "priority": PriorityName.CRITICAL}
    first = bulk.reprioritise(PrioritySelection.model_validate({**selection, "most": 2}))
    then = bulk.reprioritise(
        PrioritySelection.model_validate({**selection, "before": first.next, "action": first.action})
    )
    assert (first.done, then.done, then.action, then.next) == (2, 1, first.action, None)
    assert platform.work("maintenance") == low
    found = undo.undo(action_of(first.action))

    assert (found.done, list(found.refused)) == (2, [low])
    assert [platform.row(id).priority for id in (low, high, started)] == [Priority.CRITICAL, Priority.HIGH, 1]
    assert platform.sent("maintenance") == [high, started]


def test_copies_that_have_not_started_are_cancelled(platform: Platform, bulk: BulkTasks, undo: BulkUndo) -> None:
    ids = [platform.message("c-1"), platform.message("c-2")]
    for _ in ids:
        platform.work()
    replayed = bulk.replay(TaskSelection(ids=ids))
    assert list(replayed.copies) == ids[::-1]
    started = platform.work()
    found = undo.undo(action_of(replayed.action))

    (other,) = set(replayed.copies.values()) - {started}
    assert (found.done, list(found.refused)) == (1, [started])
    assert platform.state(other) == TaskState.CANCELLED


def test_an_undo_takes_several_calls_and_can_go_on_after_a_crash(
    platform: Platform, bulk: BulkTasks, undo: BulkUndo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_undo, "MOST", 2)
    ids = {platform.chore() for _ in range(3)}
    action = action_of(bulk.cancel(TaskSelection(ids=sorted(ids))).action)
    assert undo.listing()[0].undoable == 3
    first, second = undo.undo(action), undo.undo(action)

    assert ((first.done, first.more), (second.done, second.more)) == ((2, True), (1, False))
    assert set(platform.sent("maintenance")) == ids
    (listed,) = undo.listing()
    assert (listed.tasks, listed.undoable, listed.undone_at is not None) == (3, 0, True)


def test_after_an_hour_it_is_too_late(
    platform: Platform, bulk: BulkTasks, undo: BulkUndo, movable_clock: MovableClock
) -> None:
    id = platform.chore()
    action = action_of(bulk.cancel(TaskSelection(ids=[id])).action)
    movable_clock.forward(3601)

    with pytest.raises(TooLateToUndo, match="can be undone for an hour"):
        undo.undo(action)
    with pytest.raises(OtherAction, match="more than an hour old"):
        bulk.cancel(TaskSelection(ids=[platform.chore()], action=action))
    assert platform.state(id) == TaskState.CANCELLED
    assert undo.listing()[0].undoable == 0


def test_a_call_that_names_an_action_of_another_kind_changes_nothing(
    platform: Platform, bulk: BulkTasks, undo: BulkUndo
) -> None:
    id = platform.chore()
    action = undo.begin("replay", known=None).id
    with pytest.raises(OtherAction, match="of the kind replay"):
        bulk.cancel(TaskSelection(ids=[id], action=action))
    with pytest.raises(NotFound):
        bulk.cancel(TaskSelection(ids=[id], action="unknown"))

    assert platform.state(id) == TaskState.PENDING


def test_a_bound_caller_sees_and_undoes_only_actions_of_its_own(
    platform: Platform, bulk: BulkTasks, undo: BulkUndo
) -> None:
    mine, other = platform.chore("tenant:acme:1"), platform.chore()
    foreign = action_of(bulk.cancel(TaskSelection(ids=[other])).action)
    with acting_as(Caller(kind="token", name="acme", tenant="acme")):
        cancelled = bulk.cancel(TaskSelection(everything=True))
        assert (cancelled.ids, [each.action for each in undo.listing()]) == ([mine], [cancelled.action])
        with pytest.raises(NotFound):
            undo.undo(foreign)
        assert undo.undo(action_of(cancelled.action)).done == 1

    assert (platform.state(mine), platform.state(other)) == (TaskState.PENDING, TaskState.CANCELLED)
