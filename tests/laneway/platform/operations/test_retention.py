"""Retention deletes what is too old, and keeps what is needed, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import event, func, select, text

from app.core.settings import RetentionSettings, Settings
from app.db.models import (
    Conversation,
    ConversationAnalysis,
    CrmRecord,
    Document,
    Lead,
    Message,
    Report,
    WebhookDelivery,
    WebhookEvent,
)
from app.db.queries import retention as app_repository
from app.services.retention import retention_rules
from laneway.platform.db.models import Alert, Base, TaskAttempt, TaskEvent, TaskRun, TaskStep, TaskTag, Worker
from laneway.platform.db.queries import retention as repository
from laneway.platform.db.session import Database
from laneway.platform.operations.retention import Retention
from laneway.platform.settings import StorageSettings, TaskSettings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FINISHED = ("completed", "failed", "dead_letter", "cancelled", "expired")
UNFINISHED = ("pending", "scheduled", "processing")
KINDS = (
    "tasks",
    "trashed",
    "dead_letters",
    "task_contents",
    "messages",
    "conversations",
    "webhook_events",
    "webhook_deliveries",
    *("outbound_deliveries", "outbound_endpoints"),
    "leads",
    "documents",
    "reports",
    *("alerts", "batches", "workers", "queue_samples"),
    *("schedule_firings", "bulk_action_tasks", "bulk_actions"),
    "sessions",
)
numbers = count(1)


@pytest.fixture
def retention(database: Database) -> Retention:
    return sweeper(database)


def sweeper(database: Database) -> Retention:
    storage = StorageSettings.model_validate({"RETENTION_DAYS_TASKS": 30, "RETENTION_DAYS_WEBHOOKS": 20})
    days = {"CONVERSATIONS": 100, "REPORTS": 50, "LEADS": 60}
    own = RetentionSettings.model_validate({f"RETENTION_DAYS_{kind}": number for kind, number in days.items()})
    rules = retention_rules(cast("Settings", SimpleNamespace(storage=storage, retention=own)))
    tasks = TaskSettings.model_validate({"TASK_STATUS_EXPIRY_HOURS": 24})
    return Retention(database, storage, tasks, more=rules)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def store(database: Database, *rows: Base) -> None:
    with database.transaction() as session:
        for row in rows:
            session.add(row)
            session.flush()


def task(state: str, finished: datetime | None, **values: Any) -> TaskRun:
    number = next(numbers)
    row: dict[str, Any] = {
        "id": f"{state}-{number}",
        "name": "n",
        "queue": "q",
        "priority": 1,
        "payload": {"text": "private"},
        "fingerprint": "f",
        "state": state,
        "max_retries": 3,
        "result": {"reply": "private"},
        "error": "e",
        "traceback": "private",
        "accepted_at": ago(400),
        "finished_at": finished,
        **values,
    }
    return TaskRun(**row)


def conversation(id: str, updated: datetime, *, messages: int = 1) -> list[Base]:
    turns = [
        Message(conversation_id=id, message_id=f"m-{next(numbers)}", role="customer", text="t", created_at=updated)
        for _ in range(messages)
    ]
    analysis = ConversationAnalysis(
        conversation_id=id,
        sentiment=0,
        sentiment_label="neutral",
        key_phrases=[],
        customer_messages=1,
        replies=0,
        mean_response_seconds=None,
        resolved=False,
        analysed_at=NOW,
    )
    opened = Conversation(id=id, channel="api", customer={}, status="open", created_at=ago(900), updated_at=updated)
    return [opened, *turns, analysis]


def webhook(id: str, state: str, received: datetime) -> list[Base]:
    delivery = WebhookDelivery(id=id, source="s", body={}, state=state, received_at=received, processed_at=received)
    return [delivery, webhook_event(id, delivery=id, created_at=received)]


def webhook_event(id: str, **values: Any) -> WebhookEvent:
    delivery = values.pop("delivery")
    known = {"source": "s", "name": "n", "kind": "k", "data": {}, "problems": [], "state": "handled"}
    return WebhookEvent(event_id=id, delivery_id=delivery, **known, **values)


def ids(database: Database, column: Any) -> set[Any]:
    with database.reading() as session:
        return set(session.scalars(select(column)))


def test_a_sweep_of_an_empty_database_deletes_nothing(retention: Retention) -> None:
    assert retention.sweep(now=NOW) == dict.fromkeys(KINDS, 0)


def test_finished_tasks_are_deleted_after_their_retention(database: Database, retention: Retention) -> None:
    old = [task(state, ago(30.01)) for state in FINISHED]
    young = [task(state, ago(29.99)) for state in FINISHED]
    store(database, *old, *young)

    assert retention.sweep(now=NOW)["tasks"] == 5
    assert ids(database, TaskRun.id) == {run.id for run in young}


def test_unfinished_tasks_stay_however_old_they_are(database: Database, retention: Retention) -> None:
    runs = [*(task(state, None) for state in UNFINISHED), *(task(state, ago(300)) for state in UNFINISHED)]
    store(database, *runs)

    assert retention.sweep(now=NOW) == dict.fromkeys(KINDS, 0)
    assert ids(database, TaskRun.id) == {run.id for run in runs}


def test_contents_of_expired_tasks_are_deleted_but_not_those_of_failures(
    database: Database, retention: Retention
) -> None:
    expired = {state: task(state, ago(1.01)) for state in FINISHED}
    fresh = task("completed", ago(0.99))
    store(database, *expired.values(), fresh, task("completed", ago(2), payload={}, result=None, traceback="private"))

    counts = retention.sweep(now=NOW)

    assert (counts["tasks"], counts["task_contents"]) == (0, 4)
    with database.reading() as session:
        kept = {run.id: (run.payload, run.result, run.traceback) for run in session.scalars(select(TaskRun))}
        nulls = session.scalar(text("SELECT count(*) FROM task_runs WHERE result IS NULL"))
    full = ({"text": "private"}, {"reply": "private"}, "private")
    for state in ("completed", "cancelled", "expired"):
        assert kept[expired[state].id] == ({}, None, None), state
    assert kept[expired["failed"].id] == kept[expired["dead_letter"].id] == kept[fresh.id] == full
    assert nulls == 4
    assert retention.sweep(now=NOW)["task_contents"] == 0


def test_old_leads_are_deleted_with_their_local_crm_records(database: Database, retention: Retention) -> None:
    def lead(id: str, updated: datetime) -> list[Base]:
        values = {"lead_id": id, "uid": id, "source": "api", "source_id": id, "fields": {}, "crm_state": "synced"}
        record = CrmRecord(id=id, lead_uid=id, version=1, data={}, created_at=ago(900), updated_at=updated)
        return [Lead(**values, created_at=ago(900), updated_at=updated), record]

    store(database, *lead("old", ago(60.01)), *lead("live", ago(59.99)))

    assert retention.sweep(now=NOW)["leads"] == 1
    assert ids(database, Lead.lead_id) == ids(database, CrmRecord.id) == {"live"}


def test_old_conversations_are_deleted_with_their_messages_and_analyses(
    database: Database, retention: Retention
) -> None:
    store(database, *conversation("old", ago(100.01), messages=3), *conversation("live", ago(99.99), messages=2))

    counts = retention.sweep(now=NOW)

    assert (counts["conversations"], counts["messages"]) == (1, 3)
    assert ids(database, Conversation.id) == ids(database, Message.conversation_id) == {"live"}
    assert ids(database, ConversationAnalysis.conversation_id) == {"live"}


def test_old_processed_webhooks_are_deleted(database: Database, retention: Retention) -> None:
    for state in ("stored", "queued", "processed"):
        store(database, *webhook(f"{state}-old", state, ago(20.01)), *webhook(f"{state}-new", state, ago(19.99)))
    store(database, webhook_event("lone", delivery="x", created_at=ago(21)))

    counts = retention.sweep(now=NOW)

    assert (counts["webhook_deliveries"], counts["webhook_events"]) == (1, 2)
    left = {"stored-old", "stored-new", "queued-old", "queued-new", "processed-new"}
    assert ids(database, WebhookDelivery.id) == ids(database, WebhookEvent.event_id) == left


def test_old_documents_without_passages_are_deleted(database: Database, retention: Retention) -> None:
    def document(id: str, state: str, days: float, *, passages: int = 0) -> Document:
        return Document(
            id=id, title=id, digest="", state=state, passage_count=passages, created_at=ago(999), updated_at=ago(days)
        )

    kept = 100
    store(
        database,
        document("failed", "failed", kept + 1),
        document("cancelled", "cancelled", kept + 1),
        document("young", "failed", kept - 1),
        document("queued", "queued", kept + 1),
        document("failed-anew", "failed", kept + 1, passages=3),
        document("old", "processed", kept + 1, passages=3),
    )

    assert retention.sweep(now=NOW)["documents"] == 2
    assert ids(database, Document.id) == {"young", "queued", "failed-anew", "old"}


def test_old_reports_closed_alerts_and_silent_workers_are_deleted(database: Database, retention: Retention) -> None:
    store(
        database,
        *(Report(id=f"r{days}", kind="k", data={}, created_at=ago(days)) for days in (51, 49)),
        *(Alert(kind="k", subject=f"{days}", message="m", opened_at=ago(90), closed_at=ago(days)) for days in (31, 29)),
        Alert(kind="k", subject="open", message="m", opened_at=ago(300)),
        *(Worker(name=f"w{days}", queues=[], started_at=ago(9), seen_at=ago(days)) for days in (1.01, 0.99)),
    )

    counts = retention.sweep(now=NOW)

    assert (counts["reports"], counts["alerts"], counts["workers"]) == (1, 1, 1)
    assert ids(database, Report.id) == {"r49"}
    assert ids(database, Alert.subject) == {"29", "open"}
    assert ids(database, Worker.name) == {"w0.99"}


def test_a_sweep_works_in_batches_each_its_own_transaction(database: Database, retention: Retention) -> None:
    store(database, *(task("completed", ago(60)) for _ in range(25)), *conversation("old", ago(200), messages=25))
    commits: list[int] = []
    reported: list[tuple[float, str]] = []

    @event.listens_for(database.engine, "commit")
    def committed(_connection: object) -> None:
        commits.append(1)

    counts = retention.sweep(now=NOW, batch=10, progress=lambda percent, message: reported.append((percent, message)))

    assert (counts["tasks"], counts["messages"], counts["conversations"]) == (25, 25, 1)
    assert len(commits) == len(reported) == len(KINDS) + 4
    assert [message for _, message in reported[:3]] == ["tasks: 10", "tasks: 20", "tasks: 25"]
    assert [percent for percent, _ in reported] == sorted(percent for percent, _ in reported)


# --- the history of tasks -----------------------------------------------------------------------------------


def story(id: str) -> list[Base]:
    """All that may be kept of a task beside its row."""
    return [
        TaskAttempt(task_id=id, number=1, started_at=NOW, outcome="retry", traceback="private"),
        TaskEvent(task_id=id, at=NOW, kind="begin", attempt=1, data={}),
        TaskStep(task_id=id, name="s", result={"text": "private"}, attempt=1, at=NOW),
        TaskTag(task_id=id, tag="t"),
    ]


def test_attempts_events_steps_and_tags_are_deleted_with_their_task(database: Database) -> None:
    runs = {
        "tasks": task("completed", ago(31)),
        "trashed": task("dead_letter", ago(3), trashed_at=ago(1.01)),
        "dead_letters": task("dead_letter", ago(3)),
        "kept": task("dead_letter", ago(3)),
    }
    for run in runs.values():
        store(database, run, *story(run.id))

    counts = capped(database, 1).sweep(now=NOW)

    assert {kind: counts[kind] for kind in ("tasks", "trashed", "dead_letters")} == {
        "tasks": 1,
        "trashed": 1,
        "dead_letters": 1,
    }
    assert ids(database, TaskRun.id) == {runs["kept"].id}
    for table in (TaskAttempt, TaskEvent, TaskStep, TaskTag):
        assert ids(database, table.task_id) == {runs["kept"].id}, table


def capped(database: Database, most: int) -> Retention:
    return Retention(
        database, StorageSettings.model_validate({}), TaskSettings.model_validate({"MAX_DEAD_LETTERS": most})
    )


def test_discarded_dead_letters_are_deleted_a_day_later(database: Database, retention: Retention) -> None:
    old, young, kept = (task("dead_letter", ago(5), trashed_at=at) for at in (ago(1.01), ago(0.99), None))
    store(database, old, young, kept)

    assert retention.sweep(now=NOW)["trashed"] == 1
    assert ids(database, TaskRun.id) == {young.id, kept.id}


def test_the_oldest_dead_letters_are_deleted_when_there_are_too_many(database: Database) -> None:
    others = [task(state, ago(1)) for state in FINISHED if state != "dead_letter"]
    dead = [task("dead_letter", ago(1)) for _ in range(25)]
    store(database, *others, *dead)

    assert capped(database, 25).sweep(now=NOW, batch=3)["dead_letters"] == 0
    assert capped(database, 7).sweep(now=NOW, batch=3)["dead_letters"] == 18
    assert ids(database, TaskRun.id) == {run.id for run in (*others, *dead[18:])}


def test_the_hours_of_the_caller_override_the_configured_retention(database: Database, retention: Retention) -> None:
    old, young, waiting = task("failed", ago(0.3)), task("failed", ago(0.2)), task("pending", None)
    store(database, old, young, waiting)

    assert retention.sweep(now=NOW, task_hours=6)["tasks"] == 1
    assert ids(database, TaskRun.id) == {young.id, waiting.id}


def test_steps_and_tracebacks_of_attempts_are_contents_too(database: Database, retention: Retention) -> None:
    """Also where the row itself has none."""
    done = task("completed", ago(2), payload={}, result=None, traceback=None)
    failed, fresh = task("failed", ago(2)), task("completed", ago(0.5))
    for run in (done, failed, fresh):
        store(database, run, *story(run.id))

    assert retention.sweep(now=NOW)["task_contents"] == 1
    assert retention.sweep(now=NOW)["task_contents"] == 0
    assert ids(database, TaskStep.task_id) == {failed.id, fresh.id}
    with database.reading() as session:
        traces = {row[0]: row[1] for row in session.execute(select(TaskAttempt.task_id, TaskAttempt.traceback))}
    assert traces == {done.id: None, failed.id: "private", fresh.id: "private"}


def test_a_batch_takes_no_more_than_it_may(database: Database) -> None:
    store(database, *(task("completed", ago(60)) for _ in range(5)))

    with database.transaction() as session:
        assert repository.delete_tasks(session, before=NOW, limit=2) == 2
    assert len(ids(database, TaskRun.id)) == 3


def test_the_next_sweep_continues_an_interrupted_one(database: Database, retention: Retention) -> None:
    store(database, *(task("completed", ago(60)) for _ in range(25)))

    with pytest.raises(KeyboardInterrupt):
        retention.sweep(now=NOW, batch=10, progress=_stop_at("tasks: 20"))

    assert len(ids(database, TaskRun.id)) == 5
    assert retention.sweep(now=NOW, batch=10)["tasks"] == 5


def test_locked_rows_are_left_for_the_next_sweep(postgresql_database: Database) -> None:
    retention = sweeper(postgresql_database)
    held, free = task("completed", ago(600)), task("completed", ago(600))
    store(postgresql_database, held, free)

    with postgresql_database.transaction() as session:
        session.execute(select(TaskRun).where(TaskRun.id == held.id).with_for_update()).all()
        assert retention.sweep(now=NOW)["tasks"] == 1
    assert ids(postgresql_database, TaskRun.id) == {held.id}
    assert retention.sweep(now=NOW)["tasks"] == 1


def test_sqlite_keeps_foreign_keys_so_that_nothing_is_orphaned(sqlite_database: Database) -> None:
    store(sqlite_database, *conversation("old", ago(900)))

    with sqlite_database.transaction() as session:
        assert app_repository.delete_conversations(session, before=NOW, limit=10) == 1
    with sqlite_database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 0


def _stop_at(message: str) -> Callable[[float, str], None]:
    def progress(_percent: float, reported: str) -> None:
        if reported == message:
            raise KeyboardInterrupt

    return progress
