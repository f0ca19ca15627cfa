"""Documents: payloads of their tasks, requests and responses of the API."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from app.schemas.conversation import NullFreePattern, WithoutNull
from laneway.schemas.number import Whole
from laneway.schemas.payload import Identifier, Payload
from laneway.schemas.task import QueueFigures, Response, TaskState

MAX_FILE_SIZE = 2**53
"""The largest whole number that every JSON parser keeps exact."""
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00-\x1f\x7f]+$", max_length=2000)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255), WithoutNull, NullFreePattern]
ObjectKey = Annotated[str, StringConstraints(min_length=1, max_length=1024), WithoutNull, NullFreePattern]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=155), WithoutNull, NullFreePattern]
ContentType = Annotated[str, StringConstraints(max_length=200), WithoutNull, NullFreePattern]


class DocumentState(StrEnum):
    """The state of a document's newest ingestion."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DocumentIngestion(Payload):
    """Payload of `process_document_task`: the object to read, and the document that it becomes."""

    document_id: Identifier
    user_id: UserId
    file_name: FileName
    r2_key: ObjectKey
    content_type: ContentType | None = None
    file_size: int | None = Field(None, ge=0, le=MAX_FILE_SIZE)
    callback_url: HttpUrl | None = None


class DocumentRequest(DocumentIngestion):
    """A request to process an object in the storage."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "document_id": "manual-7",
                    "user_id": "user-1",
                    "file_name": "manual.pdf",
                    "r2_key": "uploads/manual.pdf",
                    "content_type": "application/pdf",
                    "file_size": 48213,
                    "priority": 1,
                }
            ],
        }
    )

    priority: Whole = Field(1, ge=0, le=100, description="0 low, 1 normal, 2 high; 3 and more runs before all others")


class DocumentAccepted(Response):
    """The document is queued. Status `accepted`: the broker is unreachable; the task is queued when it is back."""

    task_id: str
    document_id: str
    status: str = Field(examples=["queued"], pattern="^(queued|accepted)$")


class DocumentView(Response):
    """A document and its newest ingestion. The passages are those of the last successful ingestion."""

    document_id: str
    title: str | None
    state: DocumentState
    progress: int = Field(ge=0, le=100)
    stage: str | None = Field(description="The progress message of its task")
    passages: int
    user_id: str | None
    file_name: str | None
    r2_key: str | None
    content_type: str | None = Field(description="The content type that was detected")
    size: int | None = Field(description="Size of the file in bytes")
    pages: int | None
    problems: list[str] = Field(
        description="What is missing from the passages, and why", examples=[["page 3 cannot be read: its stream ends"]]
    )
    task_id: str | None
    error: str | None
    error_type: str | None = Field(examples=["DocumentEncrypted"])
    callback_url: str | None = Field(description="Without its query, which may hold a token")
    created_at: datetime
    updated_at: datetime


class PassageView(Response):
    """A piece of a document's text, as replies cite it."""

    position: int
    text: str


class DocumentPage(Response):
    """A page of documents, ordered by id."""

    documents: list[DocumentView]
    next: str | None = Field(description="`after` of the next page; null on the last one")


class DocumentQueueStats(Response):
    """The queue `documents`, and the number of documents by state."""

    pending_tasks: int = Field(description="Tasks that wait, also for their due time or for the broker")
    processing_tasks: int = Field(description="Running tasks")
    total_completed: int = Field(description="Completed tasks in the history")
    total_failed: int = Field(description="Failed tasks in the history, without dead letters")
    dead_letter_tasks: int = Field(description="Dead letters")
    queue: QueueFigures
    limit: int = Field(description="MAX_QUEUE_SIZE: with this many waiting tasks, requests are refused with 429")
    documents: dict[str, int] = Field(description="Documents by state; running ones count as queued")
    timestamp: datetime


class DocumentOutcome(Response):
    """Result of `process_document_task`."""

    document_id: str
    title: str
    content_type: str
    size: int
    pages: int | None
    characters: int
    passages: int
    changed: bool = Field(description="False: the same text was stored before")
    problems: list[str] = Field([], description="What is missing from the passages, and why")


def accepted_status(state: TaskState) -> str:
    """The status of a submission in the words of this API."""
    return "accepted" if state is TaskState.ACCEPTED else "queued"


def event_data(**values: Any) -> dict[str, Any]:
    """The data of a webhook, without unknown values."""
    return {name: value for name, value in values.items() if value is not None}
