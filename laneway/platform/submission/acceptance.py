"""The row that stores a submission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from laneway.engine import InvalidMessage, Unique, UniqueMode
from laneway.platform import clock, tracing
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import outbox, task_events, task_runs
from laneway.platform.errors import Conflict, InvalidPayload, PayloadTooLarge, UnknownQueue, UnknownTask
from laneway.platform.flow.task_flow import FLOW, flow_of
from laneway.platform.history.adoption import POSITIONAL, fingerprint
from laneway.platform.payload_store import STORED
from laneway.platform.queues import queues as declared
from laneway.platform.registry import TaskRef, TaskSpec, registry
from laneway.platform.sealing import SEALED, holds_sealed, keyed_digests, opened_if_possible, opened_payload
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.key_rules import rule_of
from laneway.platform.submission.ordering_keys import given_key
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.tracing.carrier import CARRIER
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskHandle, TaskState

PAYLOAD_LIMIT = 1_048_576
"""Bytes of a payload as JSON in UTF-8."""

Row: TypeAlias = dict[str, Any]
"""The columns of a row of `task_runs` that is to be inserted."""


def spec_of(task: TaskRef) -> TaskSpec:
    """The spec of a task. Raises UnknownTaskType for a name that is not registered."""
    if isinstance(task, str):
        return registry.find(task)
    return task if isinstance(task, TaskSpec) else task.spec


def validated(spec: TaskSpec, payload: Payload | dict[str, Any]) -> Payload:
    """Return the payload as the task's payload type. Raises InvalidPayload, which names fields and no values."""
    if isinstance(payload, spec.payload):
        return payload
    try:
        return spec.payload.model_validate(dict(payload), by_alias=True, by_name=True)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [f"{'.'.join(map(str, item['loc'])) or 'payload'}: {item['msg']}" for item in details]
        if POSITIONAL in dict(payload) and POSITIONAL not in spec.payload.model_fields:
            problems.append("its fields cannot take the positional arguments, such as the result of an earlier task")
        raise InvalidPayload(spec.name, problems) from None


def row_of(
    spec: TaskSpec, payload: Payload, options: SubmitOptions, settings: TaskSettings, *, sealed: bool = True
) -> Row:
    """The row of a submission. `sealed`: False leaves the payload readable, also that of an encrypted task.

    Raises InvalidPayload, InvalidOptions, PayloadTooLarge, UnknownQueue, KeysMissing.
    """
    now, id, key = clock.now(), options.task_id(), given_key(spec, payload, options)
    rule_of(spec, options, key)  # refuses what cannot work
    data = _json_of(spec, payload)
    digest = fingerprint(spec.name, data)
    if sealed and settings.sealer.seals(spec):
        data, digest = settings.sealer.payload(spec, data), settings.sealer.keyed_digest(digest)
    kept = _stored_options(options) | _stored_flow(spec, payload, options, now)
    if (spans := tracing.active) is not None:
        kept[CARRIER] = spans.carrier(spec.name)
    return {
        "id": id,
        "name": spec.name,
        "queue": _queue_of(spec, options),
        "priority": int(spec.priority if options.priority is None else options.priority),
        "key": key,
        "payload": data,
        "fingerprint": digest,
        "state": TaskState.SCHEDULED if options.delay > 0 else TaskState.PENDING,
        "max_retries": _first_given(options.max_retries, spec.max_retries, settings.max_retries),
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
        "tags": sorted(set(options.tags)),
        "batch_id": options.batch,
        "options": kept,
        "accepted_at": now,
        "published_at": now,
        "due_at": _after(now, options.delay) if options.delay > 0 else None,
        "expires_at": _after(now, options.expires),
    }


def store_large(rows: Sequence[Row], settings: TaskSettings) -> None:
    """Put the large payloads of these rows into the storage, and references in their place.

    It is done when nothing refuses the rows any more, so that what is refused leaves no object behind. Raises
    StorageUnavailable.
    """
    store = settings.payload_store
    for row in rows if store.url is not None else ():
        row["payload"] = store.stored(row["payload"], id=row["id"])


def accept(session: Session, row: Row) -> TaskRun | TaskHandle:
    """Insert a row, or return the handle of the task that already has its id. Raises Conflict."""
    return accept_many(session, [row])[0]


def accept_many(session: Session, rows: Sequence[Row]) -> list[TaskRun | TaskHandle]:
    """Insert rows, in order; return each new row, or the handle of the task that already has its id. Raises Conflict.

    If earlier tasks of a row's ordering key are still in the outbox, the row is left to the relay, which sends all of
    them in order.
    """
    _queue_behind_key(session, rows)
    added = {run.id: run for run in task_runs.add(session, rows)}
    task_events.add_events(session, [_accepted_event(run) for run in added.values()])
    for run in added.values():
        task_events.add_tags(session, run.id, run.tags)
    return [added.pop(row["id"], None) or existing(session, row) for row in rows]


def unique_of(run: TaskRun) -> Unique | None:
    """Return the uniqueness with which a row was submitted, if any."""
    stored = run.options.get("unique")
    return Unique(stored[0], UniqueMode(stored[1]), stored[2]) if stored else None


def payload_bytes(payload: dict[str, Any]) -> int:
    """Return the size of a payload: its bytes as JSON in UTF-8."""
    return len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _accepted_event(run: TaskRun) -> dict[str, Any]:
    data = {"queue": run.queue, "priority": run.priority, "request_id": run.request_id}
    return {"task_id": run.id, "at": run.accepted_at, "kind": "accepted", "attempt": None, "data": data}


def _queue_behind_key(session: Session, rows: Sequence[Row]) -> None:
    """Leave those rows to the relay whose ordering key has an earlier task in the outbox."""
    keys = {row["key"] for row in rows if row["key"] is not None}
    waiting = outbox.keys_waiting(session, keys) if keys else set[str]()
    for row in rows:
        if row["key"] in waiting and not is_held_row(row):
            row.update(state=TaskState.ACCEPTED, published_at=None)


def is_held_row(row: Row) -> bool:
    """Whether the database holds the task until it is due; see `queries.held`."""
    return row["state"] == TaskState.SCHEDULED and row["published_at"] is None


def existing(session: Session, row: Row) -> TaskHandle:
    """The handle of the task that has the id of this row.

    Raises UnknownTask, Conflict (another task or payload, or not of the same batch).
    """
    run = task_runs.find(session, row["id"])
    if run is None:
        raise UnknownTask(row["id"])  # deleted by another transaction at this moment
    if not _is_same_call(run, row):
        raise Conflict(f"The id {run.id!r} was used before for another task or another payload.")
    if row["batch_id"] is not None and row["batch_id"] != run.batch_id:
        raise Conflict(f"The id {run.id!r} was used before for a task outside of the batch {row['batch_id']!r}.")
    task_runs.mark_relied_on(session, run)
    return TaskHandle(task_id=run.id, state=TaskState(run.state), created=False)


def _is_same_call(run: TaskRun, row: Row) -> bool:
    """Whether a row is of the same task and payload, perhaps from before the task was renamed."""
    if run.fingerprint == row["fingerprint"] or (run.name == row["name"] and has_fingerprint(row, run.fingerprint)):
        return True
    given = fingerprint(row["name"], opened_payload(row["payload"]))
    # Renamed, or the key of the stored digest was removed.
    known = {run.name, *registry.names_of(run.name)}
    return row["name"] in known and fingerprint(row["name"], opened_if_possible(run.payload)) == given


def has_fingerprint(row: Row, stored: str) -> bool:
    """Whether a stored fingerprint is that of this row, perhaps with another key of the ring."""
    given = fingerprint(row["name"], opened_payload(row["payload"]))
    return stored in (row["fingerprint"], given, *keyed_digests(given))


def _json_of(spec: TaskSpec, payload: Payload) -> dict[str, Any]:
    """Return the payload as JSON. Raises InvalidPayload, PayloadTooLarge."""
    try:
        data = payload.model_dump(mode="json", exclude_none=_none_is_default(type(payload)))
    except ValueError as error:  # nested too deeply, or a number of thousands of digits
        raise InvalidPayload(spec.name, [f"payload: {error}"]) from None
    if holds_sealed(data) or STORED in data:
        raise InvalidPayload(spec.name, [f"no payload may have a field {SEALED} or {STORED}"])
    size = payload_bytes(data)
    if size > PAYLOAD_LIMIT:
        raise PayloadTooLarge(spec.name, size, PAYLOAD_LIMIT)
    return data


@cache
def _none_is_default(payload: type[BaseModel]) -> bool:
    """Whether every field that may be None is None when it is missing. Then None need not be stored."""
    seen, waiting = set[type[BaseModel]](), [payload]
    while waiting:
        model = waiting.pop()
        seen.add(model)
        for each in model.model_fields.values():
            is_none = each.default is None and each.default_factory is None
            if not is_none and _allows_none(each.annotation):
                return False
            waiting += _models_in(each.annotation) - seen
    return True


def _allows_none(annotation: Any) -> bool:
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return not {NoneType, Any, object}.isdisjoint(choices)


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models_in(part)}


def _queue_of(spec: TaskSpec, options: SubmitOptions) -> str:
    if options.queue is None:
        return spec.queue
    if options.queue not in declared:
        raise UnknownQueue(options.queue, list(declared))
    return options.queue


def _stored_options(options: SubmitOptions) -> dict[str, Any]:
    stored: dict[str, Any] = {}
    if options.unique is not None:
        stored["unique"] = [options.unique, int(options.unique_mode), round(options.unique_seconds * 1000)]
    if options.max_retries is not None:
        stored["max_retries"] = options.max_retries
    if options.time_limit is not None:
        stored["time_limit"] = options.time_limit
    return stored


def _stored_flow(spec: TaskSpec, payload: Payload, options: SubmitOptions, now: datetime) -> dict[str, Any]:
    try:
        flow = flow_of(spec.flow, payload, options.flow, now=_after(now, options.delay) or now)
    except InvalidMessage as error:
        raise InvalidPayload(spec.name, [str(error)]) from None
    return {} if flow is None else {FLOW: flow}


def _first_given(*numbers: int | None) -> int:
    return next(number for number in numbers if number is not None)


def _after(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)
