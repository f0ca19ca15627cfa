"""A batch as the API and the command line describe it → what is made."""

from __future__ import annotations

from uuid import uuid4, uuid5

from laneway.platform.batches.batches import NewBatch
from laneway.platform.submission.outside import outside_submission
from laneway.platform.submission.submit_options import IDEMPOTENCY
from laneway.schemas.batch import BatchRequest
from laneway.schemas.history import TaskRequest


def new_batch(request: BatchRequest) -> NewBatch:
    """The batch of a request. Raises what `outside_submission` raises for a task or a callback."""
    return NewBatch(
        id=_id(request),
        description=request.description,
        callbacks={
            event: outside_submission(TaskRequest.model_validate(callback.model_dump()))
            for event, callback in request.callbacks.items()
        },
        tasks=[outside_submission(each) for each in request.tasks],
        is_open=request.keep_open,
    )


def _id(request: BatchRequest) -> str:
    if request.id is not None:
        return request.id
    if request.idempotency_key is None:
        return str(uuid4())
    return str(uuid5(IDEMPOTENCY, f"batch {request.idempotency_key}"))
