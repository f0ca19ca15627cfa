"""What the erasure finds and removes of a person in the library's tables, row by row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from laneway.platform.db.models import (
    Alert,
    Base,
    BatchCallback,
    MergedSubmission,
    OutboundAttempt,
    OutboundDelivery,
    PersonSession,
    TaskAttempt,
    TaskBatch,
    TaskStep,
    WorkflowRun,
    WorkflowSignal,
    WorkflowStepRun,
)
from laneway.platform.db.session import Database
from laneway.platform.erasure.library_data import find, remove
from laneway.platform.erasure.subject import Subject
from laneway.platform.history.adoption import run_from_call

ADA, BOB = "lovelace@example.com", "hopper@example.com"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Rows = Callable[[str, str], list[Base]]
"""The rows about a person, by a short name and an e-mail address."""


def session_of(name: str, mail: str) -> list[Base]:
    return [PersonSession(digest=name, person=mail, role="viewer", began_at=NOW, confirmed_at=NOW)]


def alert(name: str, mail: str) -> list[Base]:
    return [Alert(kind="x", subject=name, message=f"about {mail}", opened_at=NOW)]


def task(name: str, part: Base | None = None) -> list[Base]:
    run = run_from_call(name, "note", {}, queue="celery", at=NOW, priority=3)
    return [run] if part is None else [run, part]


def attempt(name: str, mail: str) -> list[Base]:
    return task(name, TaskAttempt(task_id=name, number=1, started_at=NOW, error=f"no {mail}"))


def traceback(name: str, mail: str) -> list[Base]:
    return task(name, TaskAttempt(task_id=name, number=1, started_at=NOW, traceback=f"no {mail}"))


def step(name: str, mail: str) -> list[Base]:
    return task(name, TaskStep(task_id=name, name="s", result={"to": mail}, attempt=1, at=NOW))


def merged(name: str, mail: str) -> list[Base]:
    return task(name, MergedSubmission(id=f"for {mail}", task_id=name, fingerprint=""))


def delivery(name: str, part: Base | None = None, *, error: str | None = None) -> list[Base]:
    sent = OutboundDelivery(
        id=name, endpoint_id="e", url="https://x.example/", event="x", state="completed", body="{}", error=error,
        occurred_at=NOW, touched_at=NOW, created_at=NOW,
    )  # fmt: skip
    return [sent] if part is None else [sent, part]


def answer(name: str, mail: str) -> list[Base]:
    return delivery(name, OutboundAttempt(delivery_id=name, number=1, endpoint_id="e", started_at=NOW, answer=mail))


def workflow(name: str, part: Base | None = None, *, error: str | None = None) -> list[Base]:
    run = WorkflowRun(
        id=name, type="t", version=1, definition={}, input={}, fingerprint="", state="failed", error=error,
        accepted_at=NOW,
    )  # fmt: skip
    return [run] if part is None else [run, part]


def batch(name: str, part: Base | None = None, *, description: str = "") -> list[Base]:
    made = TaskBatch(id=name, description=description, fingerprint="", created_by="", created_at=NOW)
    return [made] if part is None else [made, part]


def callback(name: str, mail: str) -> list[Base]:
    return batch(name, BatchCallback(batch_id=name, event="death", name="n", payload={"to": mail}, row={}))


def signal(name: str, mail: str) -> list[Base]:
    return workflow(name, WorkflowSignal(run_id=name, name="n", key="k", data={"by": mail}, received_at=NOW))


def output(name: str, mail: str) -> list[Base]:
    done = WorkflowStepRun(run_id=name, step="s", visit=1, state="completed", output={"to": mail}, created_at=NOW)
    return workflow(name, done)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (session_of, "sessions"),
        (alert, "alerts"),
        (attempt, "tasks"),
        (traceback, "tasks"),
        (step, "tasks"),
        (merged, "tasks"),
        (answer, "outbound_webhooks"),
        (lambda name, mail: delivery(name, error=f"no {mail}"), "outbound_webhooks"),
        (callback, "batches"),
        (lambda name, mail: batch(name, description=f"for {mail}"), "batches"),
        (signal, "workflows"),
        (output, "workflows"),
        (lambda name, mail: workflow(name, error=f"no {mail}"), "workflows"),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("<>") or None,
)
def test_each_row_about_a_person_is_found_and_removed_and_no_other(
    platform_database: Database, rows: Rows, kind: str
) -> None:
    with platform_database.transaction() as session:
        for name, mail in (("ada", ADA), ("bob", BOB)):
            for row in rows(name, mail):
                session.add(row)
                session.flush()
    with platform_database.transaction() as session:
        found = find(session, Subject(ADA))
        assert {name: count for name, count in found.counts.items() if count} == {kind: 1}
        remove(session, found)
    if kind != "tasks":  # the erasure removes tasks with their messages before
        with platform_database.reading() as session:
            assert not any(find(session, Subject(ADA)).counts.values())
            assert find(session, Subject(BOB)).counts[kind] == 1
