"""What operators do is in the audit log, once, in the transaction of the change, by whoever did it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.services.container import Services
from laneway.engine import RoundRobin
from laneway.platform import clock
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.db.queries.search import Filter
from laneway.platform.errors import WrongState
from laneway.platform.history.journal_projection import UNDELIVERABLE
from laneway.schemas.audit_log import AuditLogView
from laneway.schemas.queue import QueueLimits
from laneway.schemas.task import TaskState

QUEUE = "conversations"
TASK = "process_conversation_message_task"
ANN = Caller(kind="person", name="ann", request_id="r-9")


@pytest.fixture(autouse=True)
def _as_ann() -> Iterator[None]:
    with acting_as(ANN):
        yield


def submit(services: Services, id: str) -> str:
    return services.tasks.submit(TASK, {"conversation_id": id, "message": "Hello"}, id=id).task_id


def end(services: Services, id: str, state: TaskState, **values: Any) -> None:
    """End a waiting task in this state, as a worker would."""
    services.broker.remove_message(QUEUE, id)
    services.recorder.catch_up()
    with services.database.transaction() as session:
        changed = {"state": state, "finished_at": clock.now(), **values}
        session.execute(update(TaskRun).where(TaskRun.id == id).values(**changed))


def entries(services: Services) -> list[AuditLogView]:
    """All entries, oldest first; each is Ann's, and they make one chain."""
    found = services.audit_log.page(AuditLogFilter(), limit=100).entries[::-1]
    assert {(entry.caller, entry.request_id) for entry in found} <= {("ann", "r-9")}
    assert services.audit_log.verify().holds
    return found


def actions(services: Services) -> list[tuple[str, str | None]]:
    return [(entry.action, entry.object_id) for entry in entries(services)]


def test_pauses_and_limits_of_queues(services: Services) -> None:
    limits = services.queue_limits
    limits.put(QUEUE, QueueLimits(rate=5))
    limits.pause(QUEUE)
    limits.put(QUEUE, QueueLimits(rate=7, paused=False))
    limits.pause(QUEUE)
    limits.resume(QUEUE)

    found = entries(services)
    assert [entry.action for entry in found] == [
        *("queue.limit", "queue.pause", "queue.limit", "queue.pause", "queue.resume")
    ]
    assert {entry.object_id for entry in found} == {QUEUE}
    changed = found[2]
    assert changed.before and changed.after
    assert (changed.before["rate"], changed.before["paused"]) == (5, True)
    assert (changed.after["rate"], changed.after["paused"]) == (7, False)


def test_flush_cancel_retry_and_delete(services: Services) -> None:
    for id in ("t-1", "t-2", "t-3"):
        submit(services, id)
    services.tasks.cancel("t-1")
    services.tasks.retry("t-1")
    services.tasks.flush(QUEUE)
    submit(services, "t-4")
    services.tasks.delete("t-4")
    with pytest.raises(WrongState):
        services.tasks.cancel("t-2")

    assert actions(services) == [
        *(("task.cancel", "t-1"), ("task.retry", "t-1"), ("queue.flush", QUEUE)),
        *(("task.delete", "t-4"), ("task.delete", "t-4")),
    ]
    cancelled, retried, flushed, *_ = entries(services)
    assert cancelled.before == {"name": TASK, "queue": QUEUE, "state": "pending"}
    assert retried.before == {"name": TASK, "queue": QUEUE, "state": "cancelled"}
    assert flushed.before == {"waiting": 3}


def test_dead_letters(services: Services) -> None:
    for id in ("d-1", "d-2"):
        submit(services, id)
        end(services, id, TaskState.DEAD_LETTER, error_type="ValueError", error="no")
    one, both = Filter(ids=("d-1",)), Filter(ids=("d-1", "d-2"))
    services.dead_letters.discard(one, dry_run=True)
    services.dead_letters.discard(one)
    services.dead_letters.restore(one)
    services.dead_letters.requeue(both)

    assert actions(services)[:2] == [("dead_letter.discard", "d-1"), ("dead_letter.restore", "d-1")]
    assert sorted(actions(services)[2:]) == [("dead_letter.requeue", "d-1"), ("dead_letter.requeue", "d-2")]
    restored = entries(services)[1]
    assert restored.before and (restored.before["state"], restored.before["in_trash"]) == ("dead_letter", True)


def test_a_dead_message_of_the_broker_that_is_delivered_again(services: Services) -> None:
    engine = services.broker.engine
    assert engine is not None
    submit(services, "d-1")
    batch = engine.fetch(RoundRobin({QUEUE: 1}), 1)
    engine.bury(batch.deliveries, reason="unreadable")
    end(services, "d-1", TaskState.DEAD_LETTER, error_type=UNDELIVERABLE)
    services.dead_letters.requeue(Filter(ids=("d-1",)))

    assert actions(services) == [("dead_letter.requeue", "d-1")]


def test_a_cleared_history(services: Services) -> None:
    for id in ("c-1", "c-2"):
        submit(services, id)
        end(services, id, TaskState.COMPLETED)
    services.retention.clear([TaskState.COMPLETED], older_than=0)

    (cleared,) = entries(services)
    assert (cleared.action, cleared.object_kind) == ("history.clear", "history")
    assert cleared.after and (cleared.after["deleted"], cleared.after["states"]) == (2, ["completed"])


def test_an_action_whose_entry_cannot_be_written_does_not_happen(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError("no room")

    submit(services, "t-1")
    end(services, "t-1", TaskState.FAILED)
    submit(services, "t-2")
    monkeypatch.setattr("laneway.platform.audit_log.recording.queries.lock_head", refuse)
    for act in (
        lambda: services.tasks.retry("t-1"),
        lambda: services.tasks.cancel("t-2"),
        lambda: services.tasks.flush(QUEUE),
        lambda: services.queue_limits.pause(QUEUE),
        lambda: services.retention.clear([TaskState.FAILED], older_than=0),
    ):
        with pytest.raises(OSError, match="no room"):
            act()

    assert services.tasks.current("t-1").state == TaskState.FAILED
    assert services.tasks.current("t-2").state == TaskState.PENDING
    assert not services.queue_limits.of(QUEUE).paused


def test_changes_of_tokens_without_the_tokens(services: Services) -> None:
    rights = TokenRights(scopes=frozenset({"tasks:read"}))
    made = services.tokens.create("ci", rights, expires=None)
    rotated = services.tokens.rotate("ci", overlap=timedelta(0))
    services.tokens.revoke("ci")
    services.tokens.revoke("ci")

    assert actions(services) == [("token.create", "ci"), ("token.rotate", "ci"), ("token.revoke", "ci")]
    assert entries(services)[0].after == {"scopes": ["tasks:read"]}
    text = "".join(entry.model_dump_json() for entry in entries(services))
    assert made.token not in text
    assert rotated.token not in text
