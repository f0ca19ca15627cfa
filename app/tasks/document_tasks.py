"""Tasks of documents."""

from __future__ import annotations

from typing import Any

from app.core import catalog
from app.schemas.document import DocumentIngestion, DocumentOutcome
from app.schemas.task import EndedTask
from app.tasks.base import PlatformTask, task


@task(catalog.PROCESS_DOCUMENT)
def process_document_task(self: PlatformTask, payload: DocumentIngestion) -> DocumentOutcome:
    """Fetch a document, extract its text, store its passages, and call back."""
    return self.services.documents.process(payload, task_id=self.id, progress=self.progress)


@task(catalog.DOCUMENT_FAILED)
def document_failed_task(self: PlatformTask, payload: EndedTask) -> dict[str, Any]:
    """Mark a document whose task ended without success, and call back."""
    return self.services.documents.end(payload)
