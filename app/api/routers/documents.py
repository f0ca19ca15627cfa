"""Routes of documents: objects in the storage become passages that replies cite."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.deps import ServicesDep
from app.api.scopes import DOCUMENTS
from app.schemas.document import (
    DocumentAccepted,
    DocumentPage,
    DocumentQueueStats,
    DocumentRequest,
    DocumentState,
    DocumentView,
    accepted_status,
)
from laneway.api.access import requires
from laneway.api.deps import NO_NULL, TaskId
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.schemas.task import TaskHandle, TaskStatus

router = APIRouter(
    prefix="/api/documents", tags=["documents"], route_class=ThreadedRoute, dependencies=[requires(DOCUMENTS)]
)

DocumentId = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NULL, examples=["manual-7"])]
Text = Annotated[str | None, Query(min_length=1, max_length=200, pattern=NO_NULL)]


@router.post("/process", status_code=202, response_description="Accepted: a task works on it", responses=problems(429))
def process_document(body: DocumentRequest, services: ServicesDep) -> DocumentAccepted:
    """Process an object in the storage: its text becomes passages, and `callback_url` receives the outcome.

    Callbacks are signed as Standard Webhooks says. A `callback_url` that no destination covers is refused (422).
    """
    handle = services.documents.submit(body)
    return DocumentAccepted(task_id=handle.task_id, document_id=body.document_id, status=accepted_status(handle.state))


@router.get("/task/{task_id}/status", responses=problems(404, 410))
def show_document_task(task_id: TaskId, services: ServicesDep) -> TaskStatus:
    """The task of a document: state, progress, stage, result or error."""
    return services.document_views.task_status(task_id)


@router.post("/task/{task_id}/retry", status_code=202, responses=problems(404, 409))
def retry_document_task(task_id: TaskId, services: ServicesDep) -> TaskHandle:
    """Run a document's task again after it has ended."""
    return services.documents.retry(task_id)


@router.get("/queue/stats", responses=problems(), dependencies=[requires(DOCUMENTS)])
def show_document_queue(services: ServicesDep) -> DocumentQueueStats:
    """The tasks in the queue of documents, and the documents by state."""
    return services.document_views.stats()


@router.get("", responses=problems())
def list_documents(
    services: ServicesDep,
    state: DocumentState | None = None,
    user_id: Text = None,
    after: Annotated[Text, Query(description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DocumentPage:
    """Documents ordered by id, processed or not."""
    return services.document_views.page(state=state, user_id=user_id, after=after, limit=limit)


@router.get("/{document_id}", responses=problems(404))
def show_document(document_id: DocumentId, services: ServicesDep) -> DocumentView:
    """One document: state, passages, error, and its source."""
    return services.document_views.document(document_id)


@router.delete("/{document_id}", status_code=204, responses=problems(404))
def delete_document(document_id: DocumentId, services: ServicesDep) -> None:
    """Delete a document and its passages, and cancel its waiting tasks. The object in the storage stays."""
    services.documents.delete(document_id)
