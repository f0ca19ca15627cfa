"""Use a platform over HTTP, from any Python program (extra `client`: httpx2 and pydantic)."""

from __future__ import annotations

from laneway._extras import require

require("client", ("httpx2", "pydantic"), what="laneway.client")

from laneway.client.async_client import AsyncClient  # noqa: E402 - only after the check
from laneway.client.calls import task_request  # noqa: E402
from laneway.client.client import Client  # noqa: E402
from laneway.client.errors import (  # noqa: E402
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
from laneway.schemas.history import TaskRequest, Uniqueness  # noqa: E402
from laneway.schemas.task import FINISHED, EventView, TaskDetails, TaskHandle, TaskState  # noqa: E402

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
