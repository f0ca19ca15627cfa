"""Documents as callers see them: the row and the progress of its task."""

from __future__ import annotations

from collections.abc import Sequence

from app.db.models import Document
from app.db.queries import documents as repository
from app.db.queries import passages
from app.schemas.document import DocumentPage, DocumentQueueStats, DocumentState, DocumentView, PassageView
from app.services.documents.documents import require_ingestion
from app.services.task_manager import TaskManager
from laneway.platform import clock
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from laneway.platform.webhooks.egress import display_url
from laneway.schemas.task import FINISHED, TaskState, TaskStatus

QUEUE = "documents"


class DocumentViews:
    """Returns documents, their tasks and their statistics."""

    def __init__(self, database: Database, tasks: TaskManager, *, max_queue_size: int) -> None:
        self._database, self._tasks, self._max_queue_size = database, tasks, max_queue_size

    def document(self, document_id: str) -> DocumentView:
        """A document. Raises NotFound."""
        with self._database.reading() as session:
            document = repository.find(session, document_id)
        if document is None:
            raise NotFound("document", document_id)
        return self._views([document])[0]

    def passages(self, document_id: str, *, start: int, limit: int) -> list[PassageView]:
        """The passages of a document from a position on; none if there is no such document."""
        with self._database.reading() as session:
            found = passages.texts(session, document_id, start=start, limit=limit)
        return [PassageView(position=position, text=text) for position, text in found]

    def page(
        self, *, state: DocumentState | None = None, user_id: str | None = None, after: str | None = None, limit: int
    ) -> DocumentPage:
        """Documents ordered by id. A running document is stored as queued; only its task shows that it runs."""
        stored_state = DocumentState.QUEUED if state is DocumentState.PROCESSING else state
        with self._database.reading() as session:
            rows = repository.page(session, state=stored_state, user_id=user_id, after=after, limit=limit)
        views = [view for view in self._views(rows) if state is not DocumentState.PROCESSING or view.state is state]
        return DocumentPage(documents=views, next=rows[-1].id if len(rows) == limit else None)

    def stats(self) -> DocumentQueueStats:
        """The figures of the queue, and the number of documents by state."""
        queue, tasks = self._tasks.queues()[QUEUE], self._tasks.counts(Filter(queue=QUEUE))
        with self._database.reading() as session:
            counts = repository.count_by_state(session)
        return DocumentQueueStats(
            pending_tasks=queue.accepted + queue.pending + queue.scheduled,
            processing_tasks=queue.active,
            total_completed=tasks.get(TaskState.COMPLETED, 0),
            total_failed=tasks.get(TaskState.FAILED, 0),
            dead_letter_tasks=queue.dead,
            queue=queue,
            limit=self._max_queue_size,
            documents=counts,
            timestamp=clock.now(),
        )

    def task_status(self, task_id: str) -> TaskStatus:
        """The status of a document's task. Raises UnknownTask, TaskExpired."""
        require_ingestion(self._tasks.current(task_id))
        return self._tasks.status(task_id)

    def _views(self, rows: Sequence[Document]) -> list[DocumentView]:
        tasks = {task.task_id: task for task in self._tasks.runs([row.task_id for row in rows if row.task_id])}
        return [_view(row, tasks.get(row.task_id or "")) for row in rows]


def document_state(document: Document, status: TaskState | None) -> DocumentState:
    """The state of a document, from its row and the state of its task, which changes before the row does."""
    if status is None or status is TaskState.COMPLETED:
        return DocumentState(document.state)
    if status is TaskState.PROCESSING:
        return DocumentState.PROCESSING
    if status not in FINISHED:
        return DocumentState.QUEUED
    if document.state != DocumentState.QUEUED:
        return DocumentState(document.state)
    return DocumentState.CANCELLED if status is TaskState.CANCELLED else DocumentState.FAILED


def _view(row: Document, task: TaskStatus | None) -> DocumentView:
    state = document_state(row, task.status if task else None)
    running = task is not None and task.status not in FINISHED
    return DocumentView(
        document_id=row.id,
        title=row.title or None,
        state=state,
        passages=row.passage_count,
        user_id=row.user_id,
        progress=task.progress if task and running else 100 * (state is DocumentState.PROCESSED),
        stage=task.message if task and running else None,
        file_name=row.file_name,
        r2_key=row.object_key,
        content_type=row.content_type,
        size=row.size,
        pages=row.pages,
        problems=row.problems or [],
        task_id=row.task_id,
        error=row.error,
        error_type=row.error_type,
        callback_url=display_url(row.callback_url) if row.callback_url else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
