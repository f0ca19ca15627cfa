"""Many finished tasks run again: each once, a page at a time, with an entry in the audit log for each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from laneway.platform import bulk_retry
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.execution.outcomes import Completed
from laneway.platform.submission.outbox import CLAIM, Outbox
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

QUEUE = "webhooks"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_retry, "PAGE", 2)


def ended(platform: Platform, number: int) -> list[TaskRun]:
    """Completed tasks."""
    ids = [platform.webhook().task_id for _ in range(number)]
    for _ in ids:
        platform.end(platform.start(QUEUE), Completed({"done": True}))
    return [platform.tasks.current(id) for id in ids]


def test_each_task_runs_again_once_and_has_an_entry(platform: Platform) -> None:
    runs = ended(platform, 5)
    assert platform.tasks.retry_many(iter(runs), action="task.retry") == (5, {})

    assert platform.sent(QUEUE) == [run.id for run in runs]
    assert {platform.state(run.id) for run in runs} == {TaskState.PENDING}
    assert [platform.work(QUEUE) for _ in runs] == [run.id for run in runs]
    assert [platform.tasks.status(run.id).status for run in runs] == [TaskState.COMPLETED] * 5
    log = AuditLog(platform.database)
    entries = log.page(AuditLogFilter(action="task.retry")).entries
    assert sorted(entry.object_id for entry in entries) == sorted(run.id for run in runs)
    assert log.verify().damage is None


def test_their_old_results_are_deleted(platform: Platform) -> None:
    runs, backend = ended(platform, 3), platform.app.backend
    for run in runs:
        backend.store_result(run.id, {"old": True}, "SUCCESS")
        assert backend.get_state(run.id) == "SUCCESS"
    platform.tasks.retry_many(runs)

    assert [backend.get_state(run.id) for run in runs] == ["PENDING"] * 3


def test_tasks_that_cannot_run_again_are_named_and_the_others_run(platform: Platform) -> None:
    good, bad, gone = ended(platform, 3)
    waiting = platform.tasks.current(platform.webhook().task_id)
    platform.tasks.delete(gone.id)
    bad.payload = {"not": "valid"}
    done, refused = platform.tasks.retry_many([bad, good, gone, waiting])

    assert (done, set(refused)) == (1, {bad.id, gone.id, waiting.id})
    assert "payload" in refused[bad.id] and "pending" in refused[waiting.id]
    assert refused[gone.id] == f"No task {gone.id!r} is known here."


def test_a_process_that_dies_before_it_sends_leaves_rows_that_the_relay_sends(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, movable_clock: MovableClock
) -> None:
    runs = ended(platform, 2)

    def die(_: Outbox, _runs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Outbox, "send_claimed", die)
        platform.tasks.retry_many(runs)
    assert {platform.state(run.id) for run in runs} == {TaskState.ACCEPTED}
    assert platform.tasks.outbox.relay() == 0, "the claim of the dead process has not ended"
    movable_clock.forward((CLAIM + timedelta(seconds=1)).total_seconds())

    assert platform.tasks.outbox.relay() == 2
    assert sorted(platform.sent(QUEUE)) == sorted(run.id for run in runs)


def test_a_page_takes_two_transactions_however_many_tasks_it_has(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_retry, "PAGE", 100)
    commits = list[int]()
    event.listen(platform.database.engine, "commit", lambda _: commits.append(1))

    def needed(number: int) -> int:
        runs = ended(platform, number)
        commits.clear()
        assert platform.tasks.retry_many(runs) == (number, {})
        transactions = len(commits)
        for _ in runs:
            platform.work(QUEUE)
        return transactions

    assert needed(20) == needed(2) <= 2
