"""Tasks that came past the task manager (Beat, a shell, a chain), as rows made from their messages."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from laneway.engine import Stored
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.task_events import storable
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.schemas.task import TaskState
from laneway.transport.codec import call_of

UNKNOWN = "(unreadable)"
ID_LIMIT = 155
"""Characters of a task's id."""


def adopted(stored: Stored, *, queue: str, at: datetime) -> TaskRun:
    """The row of a task of which nothing is known but its message, which may be anything."""
    message = stored.message
    return adopted_row(
        message.task_id,
        message.name or UNKNOWN,
        _payload(stored),
        queue=queue,
        at=at,
        priority=min(message.priority // 3, Priority.CRITICAL),
        key=message.key,
    )


def adopted_row(
    id: str, name: str, payload: dict[str, Any], *, queue: str, at: datetime, priority: int, key: str | None = None
) -> TaskRun:
    """The same from its parts."""
    spec = registry.get(name)
    return TaskRun(
        id=id,
        name=storable(name)[:155],
        queue=queue[:64],
        priority=priority,
        payload=payload,
        key=storable(key)[:200] if key is not None else None,
        fingerprint=fingerprint(name, payload),
        state=TaskState.PENDING,
        progress=0,
        attempts=0,
        attempts_before=0,
        max_retries=spec.max_retries if spec and spec.max_retries is not None else 0,
        tags=[],
        options={},
        cancel_requested=False,
        accepted_at=at,
        published_at=at,
    )


def fits(id: str) -> bool:
    """Whether a task of this id can have a row: under another id nobody would find it."""
    return len(id) <= ID_LIMIT and storable(id) == id


def fingerprint(name: str, payload: dict[str, Any]) -> str:
    """The same task with the same payload has the same fingerprint."""
    return hashlib.sha256(f"{name}\n{json.dumps(payload, sort_keys=True, default=str)}".encode()).hexdigest()


def called_with(args: list[Any] | tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The payload of a call; the platform's own tasks take named arguments only."""
    return kwargs if not args else {**kwargs, "args": list(args)}


def _payload(stored: Stored) -> dict[str, Any]:
    try:
        return called_with(*call_of(stored.message))
    except (ValueError, TypeError, AttributeError, RecursionError):  # it may be anything
        return {}
