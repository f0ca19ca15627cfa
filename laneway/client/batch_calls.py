"""The calls of batches. Send them with `Client.send`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from laneway.client.call_parts import adapter, given, part
from laneway.client.calls import Call
from laneway.schemas.batch import BatchCancelResponse, BatchHandle, BatchPage, BatchRequest, BatchTasks, BatchView
from laneway.schemas.history import BatchResponse, TaskRequest


def batch_request(**fields: Any) -> BatchRequest:
    """A batch to make; the fields are those of `BatchRequest`. Raises pydantic's ValidationError, a ValueError.

    Without `id` and `idempotency_key` it gets a random key, so that a repeated request cannot make a second batch.
    """
    if fields.get("id") is None and fields.get("idempotency_key") is None:
        fields["idempotency_key"] = uuid4().hex
    return BatchRequest.model_validate(fields)


def create_batch(request: BatchRequest) -> Call[BatchHandle]:
    """`POST /batches`. Without an id or an idempotency key a repeat could make a second one."""
    is_named = request.id is not None or request.idempotency_key is not None
    return Call("POST", "/batches", adapter(BatchHandle), _json(request), repeatable=is_named)


def batches(**parameters: Any) -> Call[BatchPage]:
    """`GET /batches`: the parameters are those of the API."""
    return Call("GET", "/batches", adapter(BatchPage), params=given(parameters))


def batch(id: str) -> Call[BatchView]:
    """`GET /batches/{id}`."""
    return Call("GET", _path(id), adapter(BatchView))


def add_batch_tasks(id: str, requests: Sequence[TaskRequest]) -> Call[BatchResponse]:
    """`POST /batches/{id}/tasks`. Tasks of `task_request` have ids or keys, so a repeat adds none twice."""
    are_named = all(each.id is not None or each.idempotency_key is not None for each in requests)
    body = _json(BatchTasks(tasks=list(requests)))
    return Call("POST", _path(id, "/tasks"), adapter(BatchResponse), body, repeatable=are_named)


def close_batch(id: str) -> Call[BatchView]:
    """`POST /batches/{id}/close`."""
    return Call("POST", _path(id, "/close"), adapter(BatchView))


def cancel_batch(id: str) -> Call[BatchCancelResponse]:
    """`POST /batches/{id}/cancel`."""
    return Call("POST", _path(id, "/cancel"), adapter(BatchCancelResponse))


def _path(id: str, rest: str = "") -> str:
    return f"/batches/{part(id)}{rest}"


def _json(model: BatchRequest | BatchTasks) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
