"""Documents: from an object in the storage to passages that replies cite, with a callback about the outcome.

    submit           one transaction: the document's row and its task
    process          fetch, detect, extract, split; then one transaction: the passages, the row and the callback
    record_failure   after any other end, one transaction: the row and the callback

Ingestions of one document run in the order of their submission. The passages are those of the newest successful one,
and readers see either all old or all new passages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy.orm import Session

from app.core.settings import Settings
from app.db.models import Document
from app.db.queries import documents as repository
from app.db.queries import passages
from app.schemas.document import DocumentIngestion, DocumentOutcome, DocumentRequest, DocumentState, event_data
from app.schemas.outbound_events import DOCUMENT_FAILED, DOCUMENT_PROCESSED
from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEmpty,
    DocumentMissing,
    DocumentTooLarge,
    megabytes,
)
from app.services.documents.extraction.kinds import Kind, charset, claimed_kind
from app.services.documents.extraction.reading import Limits
from app.services.documents.extraction.runner import Extracted, extract
from app.services.documents.gzipped import BadGzip, UnpackedTooLarge, unpack
from app.services.documents.passage_store import TEXT_SUFFIXES, IngestResult, PassageStore
from app.services.integrations.storage import ObjectTooLarge, Storage, check_key, make_storage
from app.services.task_manager import TaskManager
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_runs
from laneway.platform.errors import NotFound, PermanentError, UnknownTask, WrongState
from laneway.platform.logging import logger
from laneway.platform.queues import Priority
from laneway.platform.sealing import opened_payload
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.ordering_keys import ordering_key
from laneway.platform.submission.transaction import SubmissionTransaction
from laneway.schemas.outbound_webhook import OutboundWebhook
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import FINISHED, TaskHandle, TaskState

if TYPE_CHECKING:
    from laneway.platform.webhooks.destinations import Destinations

log = logger(__name__)

"""The events of callbacks."""
FETCHED, EXTRACTED = 30, 85
"""Progress in percent when these stages are done."""
BLOCK = 1024 * 1024

Progress = Callable[[float, str], None]


class DocumentDeleted(PermanentError):
    """The document was deleted while its task waited or ran, or it was never submitted."""

    status, title = 404, "Document deleted"

    template = "Document {document_id!r} has been deleted, or was not submitted by POST /api/documents/process."
    document_id: str


class DocumentSuperseded(PermanentError):
    """A later submission of the document is stored already."""

    status, title = 409, "Document superseded"

    template = "Document {document_id!r} has been stored from a later submission; this one is out of date."
    document_id: str


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document that has been read but not stored; `size` is the size of its file in bytes."""

    ingestion: DocumentIngestion
    size: int
    text: Extracted


class Documents:
    """Ingests, retries and deletes documents."""

    def __init__(
        self, tasks: TaskManager, passage_store: PassageStore, destinations: Destinations, settings: Settings
    ) -> None:
        self._tasks, self._passage_store, self._destinations = tasks, passage_store, destinations
        self._settings = settings

    @cached_property
    def storage(self) -> Storage:
        """The storage of the objects."""
        return make_storage(self._settings.documents, data_dir=self._settings.storage.folder)

    def submit(self, request: DocumentRequest) -> TaskHandle:
        """Queue an ingestion. Raises BadObjectKey, QueueFull, and UnknownDestination for an unregistered callback."""
        check_key(request.r2_key)
        if request.callback_url:
            self._destinations.require(request.callback_url)
        ingestion = DocumentIngestion(**request.model_dump(exclude={"priority"}))
        priority, now = Priority(min(request.priority, Priority.CRITICAL)), clock.now()
        with self._tasks.transaction(bounded=True) as unit:
            document = passages.lock_document(unit.session, ingestion.document_id, title=ingestion.file_name, now=now)
            handle = unit.submit("process_document_task", ingestion, options=SubmitOptions(priority=priority))
            repository.mark_queued(document, ingestion, task_id=handle.task_id, now=now)
        return unit.handles[0]

    def process(self, ingestion: DocumentIngestion, *, task_id: str, progress: Progress) -> DocumentOutcome:
        """Fetch, read and store a document. A repeat stores the same text once and submits its callback once.

        Raises the errors of storage and extraction, DocumentDeleted, DocumentSuperseded.
        """
        name = ingestion.file_name
        claimed = claimed_kind(ingestion.content_type, name)
        with TemporaryFile(dir=self._temporary_folder()) as file, TemporaryFile(dir=self._temporary_folder()) as spare:
            size = self._fetch(ingestion, file, progress)
            plain = spare if self._unpack(file, spare, name) else file
            text = self._extract(plain, name, claimed, progress, charset=charset(ingestion.content_type))
        progress(EXTRACTED, f"storing {len(text.passages)} passages")
        outcome = self._store(ReadDocument(ingestion, size, text), self._tasks.current(task_id))
        log.info("document stored", document_id=outcome.document_id, passages=outcome.passages, size=size)
        return outcome

    def record_failure(self, ended: EndedTask) -> dict[str, Any]:
        """Note that an ingestion ended without success, and submit its callback; skipped if it was run again since."""
        run = self._tasks.current(ended.task_id)
        if (
            run.state not in FINISHED
            or run.state == TaskState.COMPLETED
            or run.attempts_before + run.attempts != ended.run
        ):
            return {"task_id": run.id, "skipped": "it was run again"}
        payload = opened_payload(run.payload)
        state = DocumentState.CANCELLED if run.state == TaskState.CANCELLED else DocumentState.FAILED
        with self._tasks.transaction() as unit:
            document = repository.find(unit.session, str(payload.get("document_id", "")), lock=True)
            if document is not None and document.task_id == run.id:
                repository.set_state(document, state, now=clock.now(), error_type=run.error_type, error=run.error)
            if payload.get("callback_url"):
                error = {"type": run.error_type or state.value, "message": run.error or f"The task is {run.state}."}
                data = event_data(
                    task_id=run.id, status=state.value, error=error, attempts=ended.run, **_identity(payload)
                )
                outcome_id = f"{run.id}:{ended.run}"
                self._submit_callback(unit, payload["callback_url"], DOCUMENT_FAILED, data, outcome_id=outcome_id)
        return {"task_id": run.id, "document_id": payload.get("document_id"), "state": state.value}

    def retry(self, task_id: str) -> TaskHandle:
        """Run an ingestion again that has ended. Raises UnknownTask, WrongState."""
        run = require_ingestion(self._tasks.current(task_id))
        handle = self._tasks.retry(task_id)
        with self._tasks.transaction() as unit:
            document = repository.find(unit.session, str(opened_payload(run.payload).get("document_id", "")), lock=True)
            current = task_runs.find(unit.session, task_id)
            ended_again = current is None or current.state in FINISHED  # Then that end has set the state already.
            if document is not None and document.task_id == run.id and not ended_again:
                repository.set_state(document, DocumentState.QUEUED, now=clock.now())
        return handle

    def delete(self, document_id: str) -> None:
        """Cancel a document's waiting tasks, then delete it with its passages. Raises NotFound."""
        with self._tasks.transaction() as unit:
            if repository.find(unit.session, document_id) is None:
                raise NotFound("document", document_id)
            waiting = repository.unfinished_tasks(unit.session, ordering_key(f"document_id:{document_id}"))
        for task_id in waiting:
            with suppress(WrongState, UnknownTask):  # It has ended or was deleted meanwhile.
                self._tasks.cancel(task_id)
        self._passage_store.delete(document_id)

    def ingest_file(self, path: Path) -> IngestResult:
        """Store a local file of any supported kind; its id is the file's name.

        A text file is read in this process, all other kinds in a process of their own. Raises DocumentMissing, and the
        errors of extraction.
        """
        if path.suffix.lower() in TEXT_SUFFIXES:
            return self._passage_store.ingest_file(path)
        name = path.name
        claimed = claimed_kind(None, name)
        with TemporaryFile(dir=self._temporary_folder()) as copy:
            self._copy(path, copy)
            text = self._extract(copy, name, claimed, lambda _percent, _message: None)
        with self._tasks.transaction() as unit:
            result = self._store_passages(unit.session, name, text)
        return replace(result, problems=tuple(text.problems))

    def _temporary_folder(self) -> Path:
        """The folder of a file while it is read. It is in `DATA_DIR`, because the system's may be in memory."""
        folder = self._settings.storage.folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _fetch(self, ingestion: DocumentIngestion, file: BinaryIO, progress: Progress) -> int:
        def report_copied(copied: int, total: int | None) -> None:
            percent = FETCHED * copied / max(total or copied, 1)
            progress(percent, f"fetching: {megabytes(copied)} of {megabytes(total or copied)}")

        progress(0, "fetching")
        name, limit = ingestion.file_name, self._settings.documents.max_bytes
        try:
            size = self.storage.fetch(ingestion.r2_key, file, max_bytes=limit, progress=report_copied)
        except ObjectTooLarge as error:
            raise DocumentTooLarge(name, f"at most {megabytes(limit)}") from error
        if not size:
            raise DocumentEmpty(name, "no bytes")
        return size

    def _unpack(self, file: BinaryIO, into: BinaryIO, name: str) -> bool:
        """Unpack an object that was stored with `Content-Encoding: gzip`; returns False for every other one."""
        limit = self._settings.documents.max_bytes
        try:
            return unpack(file, into, max_bytes=limit)
        except UnpackedTooLarge as error:
            raise DocumentTooLarge(name, f"at most {megabytes(limit)} when it is unpacked") from error
        except BadGzip as error:
            raise DocumentCorrupt(name, f"it is compressed with gzip, and cannot be unpacked: {error}") from error

    def _extract(
        self, file: BinaryIO, name: str, claimed: Kind | None, progress: Progress, *, charset: str | None = None
    ) -> Extracted:
        def report_read(percent: float, message: str) -> None:
            progress(FETCHED + (EXTRACTED - FETCHED) * percent / 100, message)

        settings = self._settings.documents
        limits = Limits(
            file_bytes=settings.max_bytes,
            text_bytes=settings.max_text_bytes,
            pages=settings.max_pages,
            seconds=self._settings.extraction_seconds,
            memory_bytes=settings.memory_bytes,
        )
        return extract(
            file,
            name=name,
            claimed=claimed,
            limits=limits,
            folder=self._temporary_folder(),
            report=report_read,
            children=self._settings.children,
            charset=charset,
        )

    def _store(self, read: ReadDocument, run: TaskRun) -> DocumentOutcome:
        ingestion, text = read.ingestion, read.text
        with self._tasks.transaction() as unit:
            document = _lock_current(unit.session, ingestion.document_id, run)
            result = self._store_passages(unit.session, ingestion.document_id, text)
            document.stored_of, document.size, document.pages = run.accepted_at, read.size, text.pages
            document.content_type, document.problems = text.kind.value, text.problems or None
            if document.task_id == run.id:
                repository.set_state(document, DocumentState.PROCESSED, now=clock.now())
            outcome = _outcome(read, result)
            if ingestion.callback_url:
                facts = outcome.model_dump(exclude={"document_id", "changed"})
                data = event_data(task_id=run.id, status="processed", **_identity(ingestion.model_dump()), **facts)
                outcome_id = f"{run.id}:{text.digest}"
                self._submit_callback(unit, ingestion.callback_url, DOCUMENT_PROCESSED, data, outcome_id=outcome_id)
        return outcome

    def _store_passages(self, session: Session, document_id: str, text: Extracted) -> IngestResult:
        return self._passage_store.store(
            session, document_id=document_id, title=text.title, digest=text.digest, pieces=text.passages
        )

    def _submit_callback(
        self, unit: SubmissionTransaction, url: str, event: str, data: dict[str, Any], *, outcome_id: str
    ) -> None:
        """Submit the callback under an id derived from its outcome, so that a repeat is sent once.

        The id is as long as a UUID.
        """
        id = f"callback:{hashlib.sha256(f'{event}:{outcome_id}'.encode()).hexdigest()[:27]}"
        unit.submit(
            "send_webhook_response_task", OutboundWebhook(url=url, event=event, data=data), options=SubmitOptions(id=id)
        )

    def _copy(self, path: Path, into: BinaryIO) -> None:
        limit, copied = self._settings.documents.max_bytes, 0
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    copied += len(block)
                    if copied > limit:
                        raise DocumentTooLarge(path.name, f"at most {megabytes(limit)}")
                    into.write(block)
        except OSError as error:
            raise DocumentMissing(path.name, error.strerror or "") from error
        if not copied:
            raise DocumentEmpty(path.name, "no bytes")


def require_ingestion(run: TaskRun) -> TaskRun:
    """Return the task if it is an ingestion. Raises UnknownTask."""
    if run.name != "process_document_task":
        raise UnknownTask(run.id)
    return run


def _lock_current(session: Session, document_id: str, run: TaskRun) -> Document:
    """Lock the document. Raises DocumentDeleted and DocumentSuperseded if the ingestion is out of date."""
    document = repository.find(session, document_id, lock=True)
    if document is None or document.created_at > run.accepted_at:
        raise DocumentDeleted(document_id)
    if document.stored_of is not None and document.stored_of > run.accepted_at:
        raise DocumentSuperseded(document_id)
    return document


def _outcome(read: ReadDocument, result: IngestResult) -> DocumentOutcome:
    text = read.text
    return DocumentOutcome(
        document_id=read.ingestion.document_id,
        title=text.title,
        content_type=text.kind.value,
        size=read.size,
        pages=text.pages,
        characters=text.characters,
        passages=result.passage_count,
        changed=result.changed,
        problems=text.problems,
    )


def _identity(ingestion: dict[str, Any]) -> dict[str, Any]:
    """The fields by which a receiver of callbacks identifies a document."""
    return {name: ingestion.get(name) for name in ("document_id", "user_id", "file_name", "r2_key")}
