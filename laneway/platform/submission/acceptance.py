"""What a submission may ask for, and the row and the message options that come of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session

from laneway.engine import Durability, Unique, UniqueMode
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import outbox, task_runs
from laneway.platform.db.queries import task_events as stories
from laneway.platform.errors import (
    Conflict,
    InvalidPayload,
    PayloadTooLarge,
    UnknownQueue,
    UnknownTask,
)
from laneway.platform.history.adoption import fingerprint
from laneway.platform.payload import Payload
from laneway.platform.queues import Priority
from laneway.platform.queues import queues as declared
from laneway.platform.registry import TaskRef, TaskSpec, registry
from laneway.platform.schemas.task import TaskHandle, TaskState
from laneway.platform.settings import TaskSettings

PAYLOAD_LIMIT = 1_048_576
"""Bytes of a payload, as JSON in UTF-8."""
KEY_LIMIT = 200
"""Bytes of an ordering key; a longer one is cut, and told apart by a digest."""
IDEMPOTENCY = UUID("7d0d6f0e-3f4b-4f86-9c35-6b6f0c2f5d11")
"""The namespace of ids made from idempotency keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """How a task is to be accepted. Times in seconds.

    `id` or `idempotency_key`: the same one again, with the same payload, gives back the first handle.
    `expires`: not started after so long, it never is. `unique`: one task with this key at a time, `unique_mode`
    long; another is refused with DuplicateTask. `queue`, `max_retries`, `time_limit` (an attempt is stopped after it):
    instead of the task's own. `durability`: when the message counts as queued.
    """

    id: str | None = None
    idempotency_key: str | None = None
    priority: Priority | None = None
    delay: float = 0
    expires: float | None = None
    unique: str | None = None
    unique_mode: UniqueMode = UniqueMode.UNTIL_DONE
    unique_seconds: float = 0
    tags: tuple[str, ...] = field(default=())
    queue: str | None = None
    max_retries: int | None = None
    time_limit: float | None = None
    durability: Durability = Durability.MEMORY

    def task_id(self) -> str:
        """The caller's id, one made from the idempotency key, or a new one."""
        if self.id is not None:
            return self.id
        return str(uuid5(IDEMPOTENCY, self.idempotency_key) if self.idempotency_key is not None else uuid4())


def spec_of(task: TaskRef) -> TaskSpec:
    """The spec of a task. Raises UnknownTaskType for a name that is not registered."""
    if isinstance(task, str):
        return registry.find(task)
    return task if isinstance(task, TaskSpec) else task.spec


def validated(spec: TaskSpec, payload: Payload | dict[str, Any]) -> Payload:
    """The payload as its type. Raises InvalidPayload, naming each field and problem, never the values."""
    if isinstance(payload, spec.payload):
        return payload
    try:
        return spec.payload.model_validate(dict(payload))
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in details]
        raise InvalidPayload(spec.name, problems) from None


def row_of(spec: TaskSpec, payload: Payload, options: SubmitOptions, settings: TaskSettings) -> dict[str, Any]:
    """The row of a submission. Raises InvalidPayload, PayloadTooLarge, UnknownQueue."""
    now, data = clock.now(), _bounded(spec, _as_json(spec, payload))
    key = getattr(payload, spec.key) if spec.key else None
    return {
        "id": options.task_id(),
        "name": spec.name,
        "queue": _queue_of(spec, options),
        "priority": int(spec.priority if options.priority is None else options.priority),
        "key": ordering_key(f"{spec.key}:{key}") if isinstance(key, str) else None,
        "payload": data,
        "fingerprint": fingerprint(spec.name, data),
        "state": TaskState.SCHEDULED if options.delay > 0 else TaskState.PENDING,
        "max_retries": next(
            number for number in (options.max_retries, spec.max_retries, settings.max_retries) if number is not None
        ),
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
        "tags": sorted(set(options.tags)),
        "options": _options(options),
        "accepted_at": now,
        "published_at": now,
        "due_at": _in(now, options.delay) if options.delay > 0 else None,
        "expires_at": _in(now, options.expires),
    }


def accept(session: Session, values: dict[str, Any]) -> TaskRun | TaskHandle:
    """Write the row down, or give back the handle of the task that had this id first. Raises Conflict.

    One whose ordering key has tasks that are not yet with the broker waits behind them.
    """
    return accept_many(session, [values])[0]


def accept_many(session: Session, rows: Sequence[dict[str, Any]]) -> list[TaskRun | TaskHandle]:
    """The same for many; what is not new is told by its handle."""
    _put_behind(session, rows)
    added = {run.id: run for run in task_runs.add(session, rows)}
    stories.add_events(
        session,
        [
            {
                "task_id": run.id,
                "at": run.accepted_at,
                "kind": "accepted",
                "attempt": None,
                "data": {"queue": run.queue, "priority": run.priority, "request_id": run.request_id},
            }
            for run in added.values()
        ],
    )
    for run in added.values():
        stories.add_tags(session, run.id, run.tags)
    return [added.pop(row["id"], None) or _known(session, row) for row in rows]


def _put_behind(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Those whose key has an earlier task that is not yet with the broker are sent after it, by the relay."""
    keys = {row["key"] for row in rows if row["key"] is not None}
    waiting = outbox.keys_waiting(session, keys) if keys else set[str]()
    for row in rows:
        if row["key"] in waiting:
            row.update(state=TaskState.ACCEPTED, published_at=None)


def _known(session: Session, row: dict[str, Any]) -> TaskHandle:
    known = task_runs.find(session, row["id"])
    if known is None:
        raise UnknownTask(row["id"])  # deleted at this very moment
    if known.fingerprint != row["fingerprint"]:
        raise Conflict(f"The id {known.id!r} was used before for another task or another payload.")
    task_runs.count_on(session, known)
    return TaskHandle(task_id=known.id, state=TaskState(known.state), created=False)


def _as_json(spec: TaskSpec, payload: Payload) -> dict[str, Any]:
    try:
        return payload.model_dump(mode="json", exclude_none=True)
    except ValueError as error:  # nested too deeply, a number of thousands of digits
        raise InvalidPayload(spec.name, [f"payload: {error}"]) from None


def _bounded(spec: TaskSpec, data: dict[str, Any]) -> dict[str, Any]:
    """The same, if it is not too much. Raises PayloadTooLarge."""
    size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if size > PAYLOAD_LIMIT:
        raise PayloadTooLarge(spec.name, size, PAYLOAD_LIMIT)
    return data


def _queue_of(spec: TaskSpec, options: SubmitOptions) -> str:
    if options.queue is None:
        return spec.queue
    if options.queue not in declared:
        raise UnknownQueue(options.queue, list(declared))
    return options.queue


def unique_of(run: TaskRun) -> Unique | None:
    """The uniqueness that a row was submitted with."""
    kept = run.options.get("unique")
    return Unique(kept[0], UniqueMode(kept[1]), kept[2]) if kept else None


def ordering_key(key: str) -> str:
    """At most `KEY_LIMIT` bytes; different keys stay different."""
    raw = key.encode("utf-8", "replace")
    if len(raw) <= KEY_LIMIT:
        return key
    return f"{raw[: KEY_LIMIT - 33].decode('utf-8', 'ignore')}:{hashlib.sha256(raw).hexdigest()[:32]}"


def _options(options: SubmitOptions) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if options.unique is not None:
        kept["unique"] = [options.unique, int(options.unique_mode), round(options.unique_seconds * 1000)]
    if options.max_retries is not None:
        kept["max_retries"] = options.max_retries
    if options.time_limit is not None:
        kept["time_limit"] = options.time_limit
    return kept


def _in(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)
