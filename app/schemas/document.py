"""Documents: what their tasks are called with, what the API takes and answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from app.schemas.conversation import Clean, Storable
from laneway.platform.payload import Identifier, Payload
from laneway.platform.schemas.task import QueueFigures, Response, TaskState

MOST_BYTES = 2**53
"""The largest number that JSON carries everywhere."""
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00-\x1f\x7f]+$", max_length=2000)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255), Storable, Clean]
ObjectKey = Annotated[str, StringConstraints(min_length=1, max_length=1024), Storable, Clean]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=155), Storable, Clean]
ContentType = Annotated[str, StringConstraints(max_length=200), Storable, Clean]


class DocumentState(StrEnum):
    """How far the newest ingestion of a document is."""

    QUEUED = "queued"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DocumentIngestion(Payload):
    """Payload of `process_document_task`: which object is to become which document."""

    document_id: Identifier
    user_id: UserId
    file_name: FileName
    r2_key: ObjectKey
    content_type: ContentType | None = None
    file_size: int | None = Field(None, ge=0, le=MOST_BYTES)
    callback_url: HttpUrl | None = None


class DocumentRequest(DocumentIngestion):
    """An object in the storage that is to be processed."""

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

    priority: int = Field(1, ge=0, le=100, strict=True, description="0 low, 1 normal, 2 high; 3 and more goes ahead")


class DocumentAccepted(Response):
    """The document is queued; `accepted`: it is stored, and is queued when the broker is back."""

    task_id: str
    document_id: str
    status: str = Field(examples=["queued"], pattern="^(queued|accepted)$")


class DocumentView(Response):
    """A document, and how far its newest ingestion is. Its passages are those of the last one that went well."""

    document_id: str
    title: str | None
    state: DocumentState
    progress: int = Field(ge=0, le=100)
    stage: str | None = Field(description="What its task is doing, in its own words")
    passages: int
    user_id: str | None
    file_name: str | None
    r2_key: str | None
    content_type: str | None = Field(description="What it was found to be")
    size: int | None = Field(description="Bytes of its file")
    pages: int | None
    task_id: str | None
    error: str | None
    error_type: str | None = Field(examples=["DocumentEncrypted"])
    callback_url: str | None = Field(description="Without its query, which may hold a token")
    created_at: datetime
    updated_at: datetime


class DocumentPage(Response):
    """Some documents, by id."""

    documents: list[DocumentView]
    next: str | None = Field(description="`after` of the next page; none on the last")


class DocumentQueueStats(Response):
    """The queue of documents, and the documents by state."""

    queue: QueueFigures
    limit: int = Field(description="MAX_QUEUE_SIZE: with so many waiting, processing is refused with 429")
    documents: dict[str, int] = Field(description="Documents by state; what runs counts as queued")
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
    changed: bool = Field(description="False: the very same text was there already")


def accepted_as(state: TaskState) -> str:
    """A submission's state in the words of this API."""
    return "accepted" if state is TaskState.ACCEPTED else "queued"


def event_data(**values: Any) -> dict[str, Any]:
    """The data of a callback, without what is not known."""
    return {name: value for name, value in values.items() if value is not None}
