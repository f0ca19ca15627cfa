"""Documents from the storage to passages and callbacks, step by step on both databases."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import event

from app.schemas.document import DocumentState
from app.services.documents.extraction.errors import DocumentCorrupt
from app.services.integrations.storage import BadObjectKey, StorageUnavailable
from laneway.platform.errors import NotFound, QueueFull
from laneway.platform.execution.outcomes import Completed, Raised
from laneway.platform.webhooks.destinations import UnknownDestination
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import TaskHandle, TaskState
from tests.fixtures import files
from tests.fixtures.document_desk import CALLBACK, WARRANTY, DocumentDesk, ended
from tests.fixtures.platform import MovableClock


def test_an_object_becomes_passages_that_a_question_finds(desk: DocumentDesk) -> None:
    id = desk.submit(content_type="application/pdf", file_size=1)

    assert desk.view().state is DocumentState.QUEUED
    run = desk.work()

    assert run.state == TaskState.COMPLETED
    assert run.result is not None
    assert (run.result["title"], run.result["pages"], run.result["passages"]) == ("Warranty", 2, 1)
    assert desk.texts("How long is the warranty?") == ["The warranty lasts exactly two years.\n\nSpokes are excluded."]
    view = desk.view()
    assert (view.state, view.progress, view.passages, view.pages) == (DocumentState.PROCESSED, 100, 1, 2)
    assert (view.task_id, view.title, view.size, view.content_type) == (
        id,
        "Warranty",
        len(WARRANTY),
        "application/pdf",
    )
    assert view.error is None
    assert desk.outbound_webhooks() == []


def test_the_callback_belongs_to_the_passages_and_a_repeat_after_a_crash_sends_it_once(desk: DocumentDesk) -> None:
    id = desk.submit(callback_url=CALLBACK)
    attempt = desk.begin()

    first, again = desk.process(attempt), desk.process(attempt)

    assert isinstance(first, Completed)
    assert isinstance(again, Completed)
    (callback,) = desk.outbound_webhooks()
    assert (callback["url"], callback["event"]) == (CALLBACK, "document.processed")
    expected = {
        "task_id": id,
        "status": "processed",
        "document_id": "doc-1",
        "user_id": "u-1",
        "file_name": "a.pdf",
        "r2_key": "a.pdf",
        "title": "Warranty",
        "content_type": "application/pdf",
        "size": len(WARRANTY),
        "pages": 2,
        "characters": 59,
        "passages": 1,
        "problems": [],
    }
    assert callback["data"] == expected


def test_a_callback_to_no_destination_is_refused_and_nothing_is_kept(desk: DocumentDesk) -> None:
    with pytest.raises(UnknownDestination, match="laneway callbacks register"):
        desk.submit(callback_url=CALLBACK + "/elsewhere")

    assert desk.rows() == 0
    assert desk.platform.rows() == []


def test_a_key_that_leads_out_is_refused_before_anything_is_queued(desk: DocumentDesk) -> None:
    with pytest.raises(BadObjectKey):
        desk.submit(key="../a.pdf")

    assert (desk.rows(), desk.platform.rows()) == (0, [])


def test_a_full_queue_refuses_and_keeps_no_row(desk: DocumentDesk) -> None:
    for number in range(3):
        desk.submit(f"doc-{number}")

    with pytest.raises(QueueFull):
        desk.submit("doc-9")
    assert desk.rows() == 3
    assert len(desk.platform.rows()) == 3


@pytest.mark.parametrize(
    ("key", "content", "more", "error"),
    [
        ("corrupt.pdf", WARRANTY[:300], {}, "DocumentCorrupt"),
        ("locked.pdf", files.locked_pdf("secret", "x"), {}, "DocumentEncrypted"),
        ("empty.pdf", b"", {}, "DocumentEmpty"),
        ("scan.pdf", files.pdf(""), {}, "DocumentWithoutText"),
        ("text.pdf", b"Hello", {}, "DocumentTypeMismatch"),
        ("a.png", b"\x89PNG\r\n\x1a\n", {"content_type": "image/png"}, "UnsupportedDocument"),
        ("big.txt", b"a" * 100_001, {"file_size": 5}, "DocumentTooLarge"),
        ("missing.pdf", None, {}, "ObjectMissing"),
    ],
)
def test_a_permanent_failure_has_a_name_no_retries_and_a_callback(
    desk: DocumentDesk, key: str, content: bytes | None, more: dict[str, object], error: str
) -> None:
    if content is not None:
        desk.put(key, content)
    id = desk.submit(key=key, callback_url=CALLBACK, **more)

    assert ended(desk.work()) == (TaskState.FAILED, error, 1)
    (said,) = desk.settle()

    assert said["state"] == "failed"
    view = desk.view()
    assert (view.state, view.error_type, view.passages) == (DocumentState.FAILED, error, 0)
    assert view.error
    (callback,) = desk.outbound_webhooks()
    assert callback["event"] == "document.failed"
    assert callback["data"]["task_id"] == id
    assert callback["data"]["error"] == {"type": error, "message": view.error}


def test_a_failure_handled_twice_sends_one_callback(desk: DocumentDesk) -> None:
    desk.submit(key="missing.pdf", callback_url=CALLBACK)
    run = desk.work()

    end = EndedTask(task_id=run.id, run=run.attempts_before + run.attempts)
    desk.services.documents.record_failure(end)
    desk.services.documents.record_failure(end)
    desk.settle()

    assert len(desk.outbound_webhooks()) == 1


def test_a_failure_keeps_the_stored_passages(desk: DocumentDesk) -> None:
    desk.submit()
    desk.work()
    desk.put("a.pdf", WARRANTY[:300])
    desk.submit()
    desk.work()
    desk.settle()

    view = desk.view()
    assert (view.state, view.error_type, view.passages) == (DocumentState.FAILED, "DocumentCorrupt", 1)
    assert desk.texts("warranty")


def test_an_unavailable_storage_is_retried(desk: DocumentDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: object, **_more: object) -> int:
        raise StorageUnavailable("503")

    desk.submit()
    monkeypatch.setattr(desk.services.documents.storage, "fetch", away)

    assert desk.work().state == TaskState.SCHEDULED
    assert desk.settle() == []
    assert desk.view().state is DocumentState.QUEUED


def test_two_ingestions_of_one_document_run_one_after_the_other(desk: DocumentDesk) -> None:
    desk.put("old.txt", b"The old bells.")
    desk.put("new.txt", b"The new bells.")
    first, second = desk.submit(key="old.txt"), desk.submit(key="new.txt")

    attempt = desk.begin()
    assert attempt.task_id == first
    assert desk.platform.fetch("documents") is None, "the second waits for the first"
    desk.platform.end(attempt, desk.process(attempt))
    assert desk.view().state is DocumentState.QUEUED
    assert desk.services.document_views.stats().documents == {"queued": 1}
    assert desk.texts("bells") == ["The old bells."]

    assert desk.work().id == second
    assert (desk.view().state, desk.texts("bells")) == (DocumentState.PROCESSED, ["The new bells."])


def test_an_older_ingestion_that_is_retried_does_not_replace_a_newer_one(desk: DocumentDesk) -> None:
    old = desk.submit(key="later.txt", callback_url=CALLBACK)
    desk.work()
    desk.settle()
    desk.put("later.txt", b"Old bells.")
    desk.put("new.txt", b"New bells.")
    desk.submit(key="new.txt")
    desk.work()

    desk.services.documents.retry(old)
    run = desk.work()
    desk.settle()

    assert (run.state, run.error_type) == (TaskState.FAILED, "DocumentSuperseded")
    assert (desk.view().state, desk.texts("bells")) == (DocumentState.PROCESSED, ["New bells."])
    assert [callback["data"]["error"]["type"] for callback in desk.outbound_webhooks()] == [
        "ObjectMissing",
        "DocumentSuperseded",
    ]


def test_a_manual_retry_can_succeed_and_sends_a_callback_again(desk: DocumentDesk) -> None:
    id = desk.submit(key="late.txt", callback_url=CALLBACK)
    desk.work()
    desk.settle()
    desk.put("late.txt", b"Here at last.")

    assert desk.services.documents.retry(id).task_id == id
    assert desk.view().state is DocumentState.QUEUED
    assert desk.work().state == TaskState.COMPLETED
    view = desk.view()
    assert (view.state, view.error, view.error_type) == (DocumentState.PROCESSED, None, None)
    assert [callback["event"] for callback in desk.outbound_webhooks()] == ["document.failed", "document.processed"]


def test_a_retry_that_fails_before_it_is_noted_keeps_its_error(
    desk: DocumentDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = desk.submit(key="late.txt", callback_url=CALLBACK)
    desk.work()
    desk.settle()
    tasks, retried = desk.services.tasks, desk.services.tasks.retry

    def and_fails_at_once(task_id: str) -> TaskHandle:
        handle = retried(task_id)
        desk.work()
        desk.settle()
        return handle

    monkeypatch.setattr(tasks, "retry", and_fails_at_once)
    desk.services.documents.retry(id)

    view = desk.view()
    assert (view.state, view.error_type) == (DocumentState.FAILED, "ObjectMissing")
    assert desk.services.document_views.stats().documents == {"failed": 1}


def test_a_failure_overtaken_by_a_retry_sends_no_callback(desk: DocumentDesk) -> None:
    id = desk.submit(key="late.txt", callback_url=CALLBACK)
    desk.work()
    desk.put("late.txt", b"Here at last.")
    desk.services.recorder.catch_up()
    desk.services.documents.retry(id)
    desk.services.tasks.outbox.relay()

    said = list[object]()
    for _ in range(2):  # The failure handler and the retry, in either order.
        attempt = desk.begin()
        if attempt.task_id == id:
            desk.platform.end(attempt, desk.process(attempt))
        else:
            said.append(desk.services.documents.record_failure(EndedTask.model_validate(attempt.payload)))
            desk.platform.end(attempt)

    assert said == [{"task_id": id, "skipped": "it was run again"}]
    assert [callback["event"] for callback in desk.outbound_webhooks()] == ["document.processed"]


def test_two_failures_send_one_callback_when_the_first_is_handled_late(desk: DocumentDesk) -> None:
    id = desk.submit(key="missing.pdf", callback_url=CALLBACK)
    desk.work()
    first = EndedTask(task_id=id, run=1)
    desk.services.recorder.catch_up()
    desk.services.documents.retry(id)
    desk.work()

    assert desk.services.documents.record_failure(first) == {"task_id": id, "skipped": "it was run again"}
    desk.services.documents.record_failure(EndedTask(task_id=id, run=2))
    assert [callback["data"]["attempts"] for callback in desk.outbound_webhooks()] == [2]


def test_a_cancelled_ingestion_sends_a_callback_too(desk: DocumentDesk) -> None:
    id = desk.submit(callback_url=CALLBACK)
    desk.services.tasks.cancel(id)
    desk.settle()

    assert desk.view().state is DocumentState.CANCELLED
    (callback,) = desk.outbound_webhooks()
    assert (callback["event"], callback["data"]["status"]) == ("document.failed", "cancelled")


def test_a_deleted_document_is_gone_and_its_queued_tasks_do_not_run(desk: DocumentDesk) -> None:
    desk.submit()
    desk.work()
    waiting = desk.submit()

    desk.services.documents.delete("doc-1")

    assert desk.platform.state(waiting) is TaskState.CANCELLED
    assert desk.texts("warranty") == []
    with pytest.raises(NotFound):
        desk.view()
    with pytest.raises(NotFound):
        desk.services.documents.delete("doc-1")


def test_deleting_a_document_while_it_is_submitted_again_is_no_error(desk: DocumentDesk) -> None:
    desk.submit()
    engine, deletions = desk.services.database.engine, list[Future[None]]()
    with ThreadPoolExecutor(1) as pool:

        def delete(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "INSERT INTO documents" in statement and not deletions:
                deletions.append(pool.submit(desk.services.passage_store.delete, "doc-1"))
                wait(deletions, timeout=1)  # It waits for the submission, or ends before it.

        event.listen(engine, "after_cursor_execute", delete)
        try:
            id = desk.submit()
        finally:
            event.remove(engine, "after_cursor_execute", delete)
        deletions[0].result(20)

    assert desk.platform.row(id).state == TaskState.PENDING
    assert desk.rows() == 0


def test_an_ingestion_that_ran_during_the_deletion_stores_nothing(
    desk: DocumentDesk, movable_clock: MovableClock
) -> None:
    desk.submit()
    attempt = desk.begin()
    desk.services.documents.delete("doc-1")
    alone = desk.process(attempt)
    movable_clock.forward(1)
    desk.submit(key="missing.pdf")
    anew = desk.process(attempt)

    assert [type(found.error).__name__ for found in (alone, anew) if isinstance(found, Raised)] == [
        "DocumentDeleted"
    ] * 2
    assert desk.texts("warranty") == []


def test_a_local_file_of_any_kind_is_ingested_under_its_name(desk: DocumentDesk, tmp_path: Path) -> None:
    for name, content in (("w.pdf", WARRANTY), ("p.html", b"<title>Page</title><p>Bells ring."), ("t.txt", b"Text.")):
        (tmp_path / name).write_bytes(content)
        assert desk.services.documents.ingest_file(tmp_path / name).changed
    (tmp_path / "bad.pdf").write_bytes(WARRANTY[:300])

    assert desk.texts("warranty") == ["The warranty lasts exactly two years.\n\nSpokes are excluded."]
    assert desk.texts("bells") == ["Bells ring."]
    assert not desk.services.documents.ingest_file(tmp_path / "w.pdf").changed
    with pytest.raises(DocumentCorrupt):
        desk.services.documents.ingest_file(tmp_path / "bad.pdf")


def test_no_temporary_file_is_left_behind(desk: DocumentDesk) -> None:
    desk.submit()
    desk.work()

    assert list((desk.services.settings.storage.folder / "tmp").iterdir()) == []
