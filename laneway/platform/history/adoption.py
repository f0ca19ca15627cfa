"""Makes the rows of tasks that were sent without the task manager (by Beat, a shell, a chain) from their messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, cast

from laneway.engine import Stored
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.task_events import storable
from laneway.platform.payload_store import is_stored
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.sealing import Sealer, shown_payload
from laneway.schemas.task import TaskState
from laneway.transport.codec import call_of
from laneway.transport.signatures import NO_SIGNATURES, Signer

PAYLOAD_UNKNOWN: Final = "payload_unknown"
"""The option of a row whose task cannot be sent again: the journal left its body out, and the broker has it no more."""
NOT_SIGNED: Final = "not_signed"
"""The option of a row whose message is not signed by us. Its task is never sent: the platform's message would be."""
POSITIONAL: Final = "args"
"""The field of a payload with the positional arguments that its task cannot take."""
UNKNOWN = "(unreadable)"
"""The name of a task whose message contains no name."""
ID_LIMIT = 155
"""Characters of a task's id: the width of the column."""


def is_not_signed(run: TaskRun) -> bool:
    """Whether the message of this row is not signed by us. Somebody may have written another value than ours there."""
    options = cast("object", run.options)
    return isinstance(options, dict) and NOT_SIGNED in options


def run_from_message(
    stored: Stored, *, queue: str, at: datetime, signer: Signer = NO_SIGNATURES, sealer: Sealer | None = None
) -> TaskRun:
    """Make the row of a task from its message, which may contain anything.

    `signer` says whether the message is signed by us. `sealer` encrypts what came readable and must not be stored so.
    """
    message = stored.message
    run = run_from_call(
        message.task_id,
        message.name or UNKNOWN,
        _payload(stored),
        queue=queue,
        at=at,
        priority=min(message.priority // 3, Priority.CRITICAL),
        key=message.key,
        sealer=sealer,
    )
    if message.body_known and not message.body:
        run.options = {PAYLOAD_UNKNOWN: True}
    elif not signer.is_ours(queue, message):
        run.options = {NOT_SIGNED: True}
    return run


def run_from_call(
    id: str,
    name: str,
    payload: dict[str, Any],
    *,
    queue: str,
    at: datetime,
    priority: int,
    key: str | None = None,
    sealer: Sealer | None = None,
) -> TaskRun:
    """Make the row of a task from its call. Texts are cut to the size of their columns."""
    spec = registry.get(name)
    stored = is_stored(payload)  # it is not read here, and is encrypted already if it must be
    digest = fingerprint(name, payload if stored else shown_payload(payload))
    if sealer is not None and spec is not None and sealer.seals(spec) and not stored:
        payload, digest = sealer.payload(spec, payload), sealer.keyed_digest(digest)
    return TaskRun(
        id=id,
        name=storable(name)[:155],
        queue=queue[:64],
        priority=priority,
        payload=payload,
        key=storable(key)[:200] if key is not None else None,
        fingerprint=digest,
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


def is_storable_id(id: str) -> bool:
    """Whether a task with this id can have a row. The id is not changed to fit: nobody would find the task by it."""
    return len(id) <= ID_LIMIT and storable(id) == id


def fingerprint(name: str, payload: dict[str, Any]) -> str:
    """A digest of the task's name and payload. Equal calls have equal fingerprints."""
    return hashlib.sha256(f"{name}\n{json.dumps(payload, sort_keys=True, default=str)}".encode()).hexdigest()


def payload_of_call(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of a call of the task with this name.

    Positional arguments are the values of the payload's first fields, as those of a function are of its parameters. So
    the body of a chord and the later tasks of a chain get the results before them: `body.s(title="x")`. If the fields
    cannot take them, or the task is unknown, the positional arguments are in the payload under `POSITIONAL`. A worker
    that knows the task takes them from there.
    """
    if not args and POSITIONAL not in kwargs:
        return kwargs
    spec = registry.get(name)
    fields = [field.alias or key for key, field in spec.payload.model_fields.items()] if spec else []
    if not args and POSITIONAL not in fields and isinstance(kwargs[POSITIONAL], list):
        kwargs = dict(kwargs)
        args = kwargs.pop(POSITIONAL)
    given = dict(zip(fields, args, strict=False))
    if len(given) < len(args) or given.keys() & kwargs.keys():
        return {**kwargs, POSITIONAL: list(args)}
    return given | kwargs


def _payload(stored: Stored) -> dict[str, Any]:
    try:
        return payload_of_call(stored.message.name, *call_of(stored.message))
    except (ValueError, TypeError, AttributeError, RecursionError):  # the message may contain anything
        return {}
