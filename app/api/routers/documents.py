"""Documents: objects in the storage that become passages, which replies cite."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.deps import ServicesDep
from app.schemas.document import (
    DocumentAccepted,
    DocumentPage,
    DocumentQueueStats,
    DocumentRequest,
    DocumentState,
    DocumentView,
    accepted_as,
)
from laneway.api.deps import NO_NULL, TaskId
from laneway.api.errors import problems
from laneway.platform.schemas.task import TaskHandle, TaskStatus

router = APIRouter(prefix="/api/documents", tags=["documents"])

DocumentId = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NULL, examples=["manual-7"])]
Text = Annotated[str | None, Query(min_length=1, max_length=200, pattern=NO_NULL)]


@router.post("/process", status_code=202, response_description="Accepted: a task works on it", responses=problems(429))
def process(body: DocumentRequest, services: ServicesDep) -> DocumentAccepted:
    """Have an object in the storage processed: its text becomes passages, and `callback_url` is told of the outcome.

    Callbacks are signed after Standard Webhooks; without OUTBOUND_WEBHOOK_SECRET a request for one is refused (503).
    """
    handle = services.documents.submit(body)
    return DocumentAccepted(task_id=handle.task_id, document_id=body.document_id, status=accepted_as(handle.state))


@router.get("/task/{task_id}/status", responses=problems(404, 410))
def task_status(task_id: TaskId, services: ServicesDep) -> TaskStatus:
    """The task of a document: state, progress, stage, result or error."""
    return services.document_views.task_status(task_id)


@router.post("/task/{task_id}/retry", status_code=202, responses=problems(404, 409))
def retry(task_id: TaskId, services: ServicesDep) -> TaskHandle:
    """Run the task of a document again that is over."""
    return services.documents.retry(task_id)


@router.get("/queue/stats", responses=problems())
def queue_stats(services: ServicesDep) -> DocumentQueueStats:
    """What waits, runs and is dead in the queue of documents, and the documents by state."""
    return services.document_views.stats()


@router.get("", responses=problems())
def listing(
    services: ServicesDep,
    state: DocumentState | None = None,
    user_id: Text = None,
    after: Annotated[Text, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DocumentPage:
    """Documents by id, processed or not."""
    return services.document_views.page(state=state, user_id=user_id, after=after, limit=limit)


@router.get("/{document_id}", responses=problems(404))
def one(document_id: DocumentId, services: ServicesDep) -> DocumentView:
    """One document: state, passages, error, and what it was made of."""
    return services.document_views.one(document_id)


@router.delete("/{document_id}", status_code=204, responses=problems(404))
def delete(document_id: DocumentId, services: ServicesDep) -> None:
    """Delete a document and its passages; what is queued of it is cancelled. The object in the storage stays."""
    services.documents.delete(document_id)
