"""Many tasks are cancelled as one is, a page at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from laneway.engine import MessageState
from laneway.platform import bulk_cancel
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.execution.outcomes import Completed
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform


@contextmanager
def broker_away(platform: Platform) -> Generator[None]:
    """In this block nobody reaches the broker."""
    platform.valkey.stop()
    try:
        yield
    finally:
        platform.valkey.start()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_cancel, "PAGE", 2)


def rows(platform: Platform, *ids: str) -> list[TaskRun]:
    return [platform.row(id) for id in ids]


def test_waiting_tasks_never_run_and_running_ones_are_asked_to_stop(platform: Platform) -> None:
    running, held, scheduled = platform.message(), platform.message(), platform.message("c-2", delay=60)
    attempt = platform.start()
    over = platform.webhook().task_id
    platform.end(platform.start("webhooks"))
    done, refused = platform.tasks.cancel_many(rows(platform, running, held, scheduled, over))

    assert (done, list(refused)) == (3, [over])
    assert "completed" in refused[over]
    assert platform.row(running).cancel_requested
    assert {platform.state(held), platform.state(scheduled)} == {TaskState.CANCELLED}
    assert platform.places() == {running: MessageState.LEASED}
    assert platform.end(attempt, Completed({})), "a task that is asked to stop may complete"
    log = AuditLog(platform.database)
    entries = log.page(AuditLogFilter(action="task.cancel")).entries
    assert sorted(entry.object_id for entry in entries) == sorted([running, held, scheduled])
    assert log.verify().damage is None


def test_tasks_that_the_broker_does_not_have_are_cancelled_too(platform: Platform) -> None:
    lost = platform.chore()
    platform.lose("maintenance")
    with broker_away(platform):
        stored = platform.chore()
        assert platform.state(stored) == TaskState.ACCEPTED
    done, refused = platform.tasks.cancel_many(rows(platform, lost, stored))

    assert (done, refused) == (2, {})
    assert {platform.state(lost), platform.state(stored)} == {TaskState.CANCELLED}
    assert platform.tasks.outbox.relay() == 0


def test_while_the_broker_is_away_what_it_has_is_refused_and_stays(platform: Platform) -> None:
    sent = platform.chore()
    with broker_away(platform):
        stored = platform.chore()
        done, refused = platform.tasks.cancel_many(rows(platform, sent, stored))

    assert (done, list(refused)) == (1, [sent])
    assert (platform.state(sent), platform.state(stored)) == (TaskState.PENDING, TaskState.CANCELLED)
    assert platform.work("maintenance") == sent


def test_the_number_of_transactions_does_not_grow_with_the_page(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_cancel, "PAGE", 100)
    commits = list[int]()
    event.listen(platform.database.engine, "commit", lambda _: commits.append(1))

    def needed(number: int) -> int:
        runs = rows(platform, *(platform.webhook().task_id for _ in range(number)))
        commits.clear()
        assert platform.tasks.cancel_many(runs) == (number, {})
        return len(commits)

    assert needed(20) == needed(2)
