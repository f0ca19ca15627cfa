"""Tasks of documents."""

from __future__ import annotations

from typing import Any

from app.schemas.document import DocumentIngestion, DocumentOutcome
from app.services.container import services
from laneway import Context, task
from laneway.schemas.payload import EndedTask


@task(queue="documents", key="document_id", on_failure="document_failed_task")
def process_document_task(ctx: Context, payload: DocumentIngestion) -> DocumentOutcome:
    """Fetch a document, extract its text, store its passages, and submit the callback."""
    return services().documents.process(payload, task_id=ctx.id, progress=ctx.progress)


@task(queue="documents", retries=20)
def document_failed_task(payload: EndedTask) -> dict[str, Any]:
    """Mark a document whose task ended without success, and submit the callback."""
    return services().documents.record_failure(payload)
