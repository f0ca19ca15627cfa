"""Documents: from an object in the storage to passages that replies cite, and the callback about it.

    submit    one transaction: the document's row, and its task
    process   fetch, detect, extract, split; then one transaction: the passages, the row, and the callback
    end       whatever ended it otherwise: one transaction: the row, and the callback

Two ingestions of one document run in the order in which they were submitted; the passages are those of the newest one
that went well, and readers see all of the old or all of the new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from sqlalchemy.orm import Session

from app.core.settings import Settings
from app.db.queries import documents as repository
from app.db.queries import passages
from app.schemas.document import DocumentIngestion, DocumentOutcome, DocumentRequest, DocumentState, event_data
from app.services.documents.extraction.errors import DocumentEmpty, DocumentMissing, DocumentTooLarge, megabytes
from app.services.documents.extraction.kinds import Kind, claimed
from app.services.documents.extraction.reading import Limits
from app.services.documents.extraction.runner import Extracted, extract
from app.services.documents.knowledge import ENDINGS, IngestResult, Knowledge
from app.services.integrations.storage import Storage, check_key, make_storage
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.errors import NotConfigured, NotFound, PermanentError, UnknownTask, WrongState
from laneway.platform.logging import logger
from laneway.platform.payload import EndedTask
from laneway.platform.queues import Priority
from laneway.platform.schemas.outbound_webhook import OutboundWebhook
from laneway.platform.schemas.task import FINISHED, TaskHandle, TaskState
from laneway.platform.submission.acceptance import SubmitOptions, ordering_key
from laneway.platform.submission.outbox import SubmissionTransaction
from laneway.platform.task_manager import TaskManager

log = logger(__name__)

PROCESSED, FAILED = "document.processed", "document.failed"
"""The events of callbacks."""
FETCHED, EXTRACTED = 30, 85
"""Percent at which these stages are done."""
BLOCK = 1024 * 1024

Progress = Callable[[float, str], None]


class DocumentDeleted(PermanentError):
    """The document that was to be stored has been deleted meanwhile, or was never submitted."""

    status, title = 404, "Document deleted"

    template = "Document {document_id!r} has been deleted, or was not submitted by POST /api/documents/process."
    document_id: str


class DocumentSuperseded(PermanentError):
    """What a later submission of the document led to is stored already."""

    status, title = 409, "Document superseded"

    template = "Document {document_id!r} has been stored from a later submission; this one is out of date."
    document_id: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that has been read and is not stored yet."""

    ingestion: DocumentIngestion
    size: int
    text: Extracted


class Documents:
    """Takes documents in."""

    def __init__(self, tasks: TaskManager, knowledge: Knowledge, settings: Settings) -> None:
        self._tasks, self._knowledge, self._settings = tasks, knowledge, settings

    @cached_property
    def storage(self) -> Storage:
        """Where the objects are."""
        return make_storage(self._settings.documents, data_dir=self._settings.storage.folder)

    def submit(self, request: DocumentRequest) -> TaskHandle:
        """Queue an ingestion. Raises BadObjectKey, QueueFull, and NotConfigured for callbacks without a secret."""
        check_key(request.r2_key)
        if request.callback_url and not self._settings.outbound.secret:
            raise NotConfigured("Calling back", "OUTBOUND_WEBHOOK_SECRET")
        ingestion = DocumentIngestion(**request.model_dump(exclude={"priority"}))
        priority, now = Priority(min(request.priority, Priority.CRITICAL)), clock.now()
        with self._tasks.transaction(bounded=True) as unit:
            document = passages.lock_document(unit.session, ingestion.document_id, title=ingestion.file_name, now=now)
            handle = unit.submit("process_document_task", ingestion, options=SubmitOptions(priority=priority))
            repository.note_submission(document, ingestion, task_id=handle.task_id, now=now)
        return unit.handles[0]

    def process(self, ingestion: DocumentIngestion, *, task_id: str, progress: Progress) -> DocumentOutcome:
        """Do the whole of it. Safe to repeat: the same text is stored once, and called back once.

        Raises the errors of storage and extraction, DocumentDeleted, DocumentSuperseded.
        """
        name = ingestion.file_name
        said = claimed(ingestion.content_type, name)
        with TemporaryFile(dir=self._folder()) as file:
            size = self._fetch(ingestion, file, progress)
            text = self._extract(file, name, said, progress)
        progress(EXTRACTED, f"storing {len(text.passages)} passages")
        outcome = self._store(Taken(ingestion, size, text), self._tasks.current(task_id))
        log.info("document stored", document_id=outcome.document_id, passages=outcome.passages, size=size)
        return outcome

    def end(self, ended: EndedTask) -> dict[str, Any]:
        """Write down that an ingestion ended without success, and call back; not if it was run again since."""
        run = self._tasks.current(ended.task_id)
        if (
            run.state not in FINISHED
            or run.state == TaskState.COMPLETED
            or run.attempts_before + run.attempts != ended.run
        ):
            return {"task_id": run.id, "skipped": "it was run again"}
        payload = run.payload
        state = DocumentState.CANCELLED if run.state == TaskState.CANCELLED else DocumentState.FAILED
        with self._tasks.transaction() as unit:
            document = repository.find(unit.session, str(payload.get("document_id", "")), lock=True)
            if document is not None and document.task_id == run.id:
                repository.note_end(document, state, now=clock.now(), error_type=run.error_type, error=run.error)
            if payload.get("callback_url"):
                error = {"type": run.error_type or state.value, "message": run.error or f"The task is {run.state}."}
                data = event_data(
                    task_id=run.id, status=state.value, error=error, attempts=ended.run, **_known(payload)
                )
                self._call_back(unit, payload["callback_url"], FAILED, data, once=f"{run.id}:{ended.run}")
        return {"task_id": run.id, "document_id": payload.get("document_id"), "state": state.value}

    def retry(self, task_id: str) -> TaskHandle:
        """Run an ingestion again that is over. Raises UnknownTask, WrongState."""
        run = is_ingestion(self._tasks.current(task_id))
        handle = self._tasks.retry(task_id)
        with self._tasks.transaction() as unit:
            document = repository.find(unit.session, str(run.payload.get("document_id", "")), lock=True)
            again = task_runs.find(unit.session, task_id)
            over = again is None or again.state in FINISHED  # already: how it ended this time is told by that end
            if document is not None and document.task_id == run.id and not over:
                repository.note_end(document, DocumentState.QUEUED, now=clock.now())
        return handle

    def delete(self, document_id: str) -> None:
        """Delete a document and its passages; what is queued of it is cancelled first. Raises NotFound."""
        with self._tasks.transaction() as unit:
            if repository.find(unit.session, document_id) is None:
                raise NotFound("document", document_id)
            waiting = repository.unfinished_tasks(unit.session, ordering_key(f"document_id:{document_id}"))
        for task_id in waiting:
            with suppress(WrongState, UnknownTask):  # it ended, or was deleted, at this very moment
                self._tasks.cancel(task_id)
        self._knowledge.forget(document_id)

    def ingest_file(self, path: Path) -> IngestResult:
        """Store a local file of any kind that is read; its id is the file's name.

        Raises DocumentMissing, and the errors of extraction. What is text already needs no process to read it.
        """
        if path.suffix.lower() in ENDINGS:
            return self._knowledge.ingest_file(path)
        name = path.name
        said = claimed(None, name)
        with TemporaryFile(dir=self._folder()) as copy:
            self._copy(path, copy)
            text = self._extract(copy, name, said, lambda _percent, _message: None)
        with self._tasks.transaction() as unit:
            return self._put(unit.session, name, text)

    def _folder(self) -> Path:
        """Where a file is while it is read: beside our data, as the system's place may be in memory."""
        folder = self._settings.storage.folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _fetch(self, ingestion: DocumentIngestion, file: BinaryIO, progress: Progress) -> int:
        def copied(done: int, of: int | None) -> None:
            progress(FETCHED * done / max(of or done, 1), f"fetching: {megabytes(done)} of {megabytes(of or done)}")

        progress(0, "fetching")
        size = self.storage.fetch(ingestion.r2_key, file, most=self._settings.documents.max_bytes, progress=copied)
        if not size:
            raise DocumentEmpty(ingestion.file_name, "no bytes")
        return size

    def _extract(self, file: BinaryIO, name: str, said: Kind | None, progress: Progress) -> Extracted:
        def read(percent: float, message: str) -> None:
            progress(FETCHED + (EXTRACTED - FETCHED) * percent / 100, message)

        given = self._settings.documents
        limits = Limits(
            file_bytes=given.max_bytes,
            text_bytes=given.max_text_bytes,
            pages=given.max_pages,
            seconds=self._settings.extraction_seconds,
            memory_bytes=given.memory_bytes,
        )
        return extract(file, name=name, said=said, limits=limits, folder=self._folder(), tell=read)

    def _store(self, taken: Taken, run: TaskRun) -> DocumentOutcome:
        ingestion, text = taken.ingestion, taken.text
        with self._tasks.transaction() as unit:
            document = repository.find(unit.session, ingestion.document_id, lock=True)
            if document is None or document.created_at > run.accepted_at:
                raise DocumentDeleted(ingestion.document_id)
            if document.stored_of is not None and document.stored_of > run.accepted_at:
                raise DocumentSuperseded(ingestion.document_id)
            result = self._put(unit.session, ingestion.document_id, text)
            document.stored_of, document.size, document.pages = run.accepted_at, taken.size, text.pages
            document.content_type = text.kind.value
            if document.task_id == run.id:
                repository.note_end(document, DocumentState.PROCESSED, now=clock.now())
            outcome = DocumentOutcome(
                document_id=ingestion.document_id,
                title=text.title,
                content_type=text.kind.value,
                size=taken.size,
                pages=text.pages,
                characters=text.characters,
                passages=result.passage_count,
                changed=result.changed,
            )
            if ingestion.callback_url:
                facts = outcome.model_dump(exclude={"document_id", "changed"})
                data = event_data(task_id=run.id, status="processed", **_known(ingestion.model_dump()), **facts)
                self._call_back(unit, ingestion.callback_url, PROCESSED, data, once=f"{run.id}:{text.digest}")
        return outcome

    def _put(self, session: Session, document_id: str, text: Extracted) -> IngestResult:
        return self._knowledge.store(
            session, document_id=document_id, title=text.title, digest=text.digest, pieces=text.passages
        )

    def _call_back(self, unit: SubmissionTransaction, url: str, event: str, data: dict[str, Any], *, once: str) -> None:
        """Submit the webhook under an id of its own, as long as a UUID: what is repeated is sent once."""
        id = f"callback:{hashlib.sha256(f'{event}:{once}'.encode()).hexdigest()[:27]}"
        unit.submit(
            "send_webhook_response_task", OutboundWebhook(url=url, event=event, data=data), options=SubmitOptions(id=id)
        )

    def _copy(self, path: Path, into: BinaryIO) -> None:
        most, copied = self._settings.documents.max_bytes, 0
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    copied += len(block)
                    if copied > most:
                        raise DocumentTooLarge(path.name, f"at most {megabytes(most)}")
                    into.write(block)
        except OSError as error:
            raise DocumentMissing(path.name, error.strerror or "") from error
        if not copied:
            raise DocumentEmpty(path.name, "no bytes")


def is_ingestion(run: TaskRun) -> TaskRun:
    """The task, if it is one of documents. Raises UnknownTask."""
    if run.name != "process_document_task":
        raise UnknownTask(run.id)
    return run


def _known(ingestion: dict[str, Any]) -> dict[str, Any]:
    """What a receiver knows a document by."""
    return {name: ingestion.get(name) for name in ("document_id", "user_id", "file_name", "r2_key")}
