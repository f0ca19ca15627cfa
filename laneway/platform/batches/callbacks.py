"""The callbacks of a batch: tasks that are submitted when all its tasks are completed, have ended, or one has died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import BatchCallback, TaskBatch
from laneway.platform.db.queries import batches as queries
from laneway.platform.logging import logger
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import accept, row_of, spec_of, store_large, validated
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState

log = logger(__name__)

BATCH_ID: Final = "batch_id"
"""A callback whose payload has this field, and does not say it, gets the id of the batch."""
COLUMNS: Final = ("queue", "priority", "key", "fingerprint", "max_retries", "request_id", "tags", "options")
"""What is stored of a callback, beside its name and payload. The rest of its row depends on the time."""

Callbacks = Mapping[BatchEvent, Submission]
"""Event → what is submitted then."""


def callback_id(batch_id: str, event: str) -> str:
    """The id of a callback's task. It is the same for the same event, so that it is submitted once."""
    return f"batch:{event}:{batch_id}"


def callback_rows(batch_id: str, callbacks: Callbacks, settings: TaskSettings) -> list[dict[str, Any]]:
    """The rows of a new batch's callbacks. Raises UnknownTaskType, InvalidPayload, PayloadTooLarge, UnknownQueue."""
    return [_row(batch_id, event, submission, settings) for event, submission in callbacks.items()]


def submit_callback(session: Session, batch: TaskBatch, event: BatchEvent, settings: TaskSettings) -> None:
    """Accept the callback of an event, if there is one; the outbox relay sends it. Raises StorageUnavailable."""
    callback = queries.callback(session, batch.id, event)
    if callback is None:
        return
    row = _new_row(callback)
    store_large([row], settings)
    accept(session, row)
    log.info("callback of a batch submitted", batch_id=batch.id, batch_event=event, task_id=row["id"])


def _row(batch_id: str, event: BatchEvent, submission: Submission, settings: TaskSettings) -> dict[str, Any]:
    spec, payload = spec_of(submission.task), submission.payload
    if isinstance(payload, dict) and BATCH_ID in spec.payload.model_fields:
        payload = {BATCH_ID: batch_id} | payload
    row = row_of(spec, validated(spec, payload), SubmitOptions(id=callback_id(batch_id, event)), settings)
    kept = {column: row[column] for column in COLUMNS}
    return {"batch_id": batch_id, "event": event, "name": spec.name, "payload": row["payload"], "row": kept}


def _new_row(callback: BatchCallback) -> dict[str, Any]:
    now = clock.now()
    return {
        **callback.row,
        "id": callback_id(callback.batch_id, callback.event),
        "name": callback.name,
        "payload": callback.payload,
        "state": TaskState.ACCEPTED,
        "accepted_at": now,
        **dict.fromkeys(("published_at", "due_at", "expires_at", "batch_id")),
    }


def payload_as_given(submission: Submission) -> dict[str, Any]:
    """The payload of a submission as JSON, before it is validated."""
    payload = submission.payload
    return payload.model_dump(mode="json") if isinstance(payload, Payload) else dict(payload)
