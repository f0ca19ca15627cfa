"""Use a platform over HTTP, from any Python program (extra `client`: httpx2 and pydantic)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from laneway._extras import require

require("client", ("httpx2", "pydantic"), what="laneway.client")

if TYPE_CHECKING:
    from laneway.client.async_client import AsyncClient
    from laneway.client.calls import task_request
    from laneway.client.client import Client
    from laneway.client.errors import (
        ApiError,
        ClientError,
        Conflict,
        Forbidden,
        Gone,
        InvalidRequest,
        NotFound,
        ServerError,
        TooLarge,
        TooManyRequests,
        Unauthorized,
        UnexpectedResponse,
        Unreachable,
        WaitTimeout,
    )
    from laneway.schemas.history import TaskRequest, Uniqueness
    from laneway.schemas.task import FINISHED, EventView, TaskDetails, TaskHandle, TaskState

_HOMES = {
    "AsyncClient": "laneway.client.async_client",
    "Client": "laneway.client.client",
    "EventView": "laneway.schemas.task",
    "FINISHED": "laneway.schemas.task",
    "TaskDetails": "laneway.schemas.task",
    "TaskHandle": "laneway.schemas.task",
    "TaskRequest": "laneway.schemas.history",
    "TaskState": "laneway.schemas.task",
    "Uniqueness": "laneway.schemas.history",
    "task_request": "laneway.client.calls",
}
"""Public name → the module that defines it, imported when the name is first used. The others are errors."""

__all__ = [
    "FINISHED",
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Conflict",
    "EventView",
    "Forbidden",
    "Gone",
    "InvalidRequest",
    "NotFound",
    "ServerError",
    "TaskDetails",
    "TaskHandle",
    "TaskRequest",
    "TaskState",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "UnexpectedResponse",
    "Uniqueness",
    "Unreachable",
    "WaitTimeout",
    "task_request",
]


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in __all__:
        raise AttributeError(f"module 'laneway.client' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "laneway.client.errors")), name)
