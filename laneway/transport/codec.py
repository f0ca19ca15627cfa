"""Converts a kombu message into a `Message` of the engine, and back.

A task message is stored without the headers that have their default value or follow from the task id and name. They are
added again at delivery, so a worker sees the complete protocol 2. The stored body is a line of JSON with the remaining
headers and properties (or nothing), a NUL, and the message's own body.
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import uuid4

from kombu.utils.json import JSONEncoder, loads

from laneway.engine.durability import Durability
from laneway.engine.engine import Delivery
from laneway.engine.errors import InvalidMessage
from laneway.engine.flow_fields import Flow, flow_from_json, flow_to_json
from laneway.engine.message import MAX_TEXT, PRIORITIES, Message, Stored, Unique, UniqueMode
from laneway.transport.signatures import NO_SIGNATURES, Signer

HEADER_KEY = "laneway-key"
HEADER_UNIQUE = "laneway-unique"
HEADER_MAX_DELIVERIES = "laneway-max-deliveries"
HEADER_FLOW = "laneway-flow"
HEADER_LEASE = "laneway-lease"
"""Added at delivery: the lease, which a task needs to start and finish attempts (`Lease.parse`)."""
HEADER_ONCE = "laneway-once"
HEADER_DURABILITY = "laneway-durability"
HEADER_NOT_AFTER = "laneway-not-after"
HEADER_BODY_KNOWN = "laneway-body-known"
HEADER_VERSION = "laneway-version"
HEADER_CHECKED = "laneway-checked"
"""Added at delivery: whoever sent the message has checked its arguments. True for every message with `body_known`."""

_ENGINE_HEADERS = frozenset(
    (
        HEADER_KEY,
        HEADER_UNIQUE,
        HEADER_MAX_DELIVERIES,
        HEADER_FLOW,
        HEADER_LEASE,
        HEADER_ONCE,
        HEADER_DURABILITY,
        HEADER_NOT_AFTER,
        HEADER_BODY_KNOWN,
        HEADER_VERSION,
        HEADER_CHECKED,
    )
)
"""Headers for the engine. A worker needs only the lease, and whether the arguments were checked."""
_TASK_DEFAULTS: dict[str, Any] = {
    "lang": "py",
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "ignore_result": False,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
_CONTENT = (("t", "content-type", "application/json"), ("e", "content-encoding", "utf-8"))
_EMBED = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_EQUAL_TO_ID = ("id", "root_id")
_TASK_HEADERS = frozenset(_TASK_DEFAULTS) | {"id", "task"}
_USUAL_META = frozenset("hpc")
_to_json = JSONEncoder(separators=(",", ":")).encode  # with datetime, UUID, Decimal and bytes, as stock kombu has
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""Errors that reading arbitrary bytes may raise."""
_missing = object()


def message_options(
    *,
    key: str | None = None,
    unique: Unique | None = None,
    max_deliveries: int | None = None,
    flow: Flow | None = None,
    durability: Durability = Durability.MEMORY,
    once: bool = False,
    not_after: float | None = None,
    version: int | None = None,
    body_known: bool = False,
) -> dict[str, Any]:
    """Headers for `apply_async(headers=…)`.

    `key`: the ordering key. `unique`: the uniqueness key and how long it holds. `max_deliveries`: how often the message
    is delivered before it becomes a dead letter. `flow`: limits, labels, tenant, deadline. `durability`: `apply_async`
    raises NotDurable or DurabilityUnavailable when it is not confirmed. `once`: the message is not queued again while a
    message with its task id is in the queue; a durability implies it. `not_after`: unix time (s); `apply_async` raises
    TooLate when the server's clock is past it. `version`: `apply_async` queues nothing when `Engine.cancel` refuses
    this version of the task. `body_known`: the reader of the queue's journal has the arguments, so the journal leaves
    them out. The last three apply to this message alone: they are not delivered, so a retry does not have them.
    """
    headers: dict[str, Any] = {
        HEADER_KEY: key,
        HEADER_UNIQUE: [unique.key, int(unique.mode), unique.ttl_ms] if unique else None,
        HEADER_MAX_DELIVERIES: max_deliveries,
        HEADER_FLOW: flow_to_json(flow) if flow else None,
        HEADER_DURABILITY: None if durability is Durability.MEMORY else durability.value,
        HEADER_ONCE: once or None,
        HEADER_NOT_AFTER: not_after,
        HEADER_VERSION: version,
        HEADER_BODY_KNOWN: body_known or None,
    }
    return {name: value for name, value in headers.items() if value is not None}


def durability_of(raw: dict[str, Any]) -> Durability:
    """The durability that a kombu message requests."""
    durability = raw["headers"].get(HEADER_DURABILITY)
    return Durability(durability) if durability else Durability.MEMORY


def not_after_of(raw: dict[str, Any]) -> float | None:
    """The unix time (s) past which a kombu message is refused."""
    not_after = raw["headers"].get(HEADER_NOT_AFTER)
    return None if not_after is None else float(not_after)


def version_of(raw: dict[str, Any]) -> int | None:
    """The version of its task that a kombu message carries."""
    version = raw["headers"].get(HEADER_VERSION)
    return None if version is None else int(version)


def to_message(raw: dict[str, Any], *, new_id: str | None = None, zero_goes_first: bool = False) -> Message:
    """Convert a kombu message. `new_id`: its task id when it is no task message (by default a new UUID).

    `zero_goes_first`: its priority counts as in kombu's Redis transport. The engine delivers 9 first.
    """
    headers, properties = dict(raw["headers"]), dict(raw["properties"])
    task_id, name = str(headers.get("id") or new_id or uuid4()), str(headers.get("task") or "")
    short_name = _shortened(name)
    eta_ms, priority = _eta(headers.get("eta")), _priority(properties)
    priority = PRIORITIES - 1 - priority if zero_goes_first else priority
    options = {key: headers.pop(key) for key in _ENGINE_HEADERS.intersection(headers)}
    unique = options.get(HEADER_UNIQUE)
    # `once` stops a second submission of the same message; a retry is another message of its task
    once = bool(options.get(HEADER_DURABILITY) or options.get(HEADER_ONCE)) and not headers.get("retries")
    return Message(
        task_id=task_id,
        name=short_name,
        id=task_id if once else None,
        body=_pack(raw, headers, properties, task_id, short_name),
        priority=priority,
        key=options.get(HEADER_KEY),
        eta_ms=eta_ms,
        unique=Unique(unique[0], UniqueMode(unique[1]), unique[2]) if unique else None,
        max_deliveries=options.get(HEADER_MAX_DELIVERIES),
        flow=_flow(options.get(HEADER_FLOW)),
        body_known=bool(options.get(HEADER_BODY_KNOWN)),
    )


def call_of(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a stored task message. Raises ValueError when they cannot be read."""
    args, kwargs, _later = contents_of(message)
    return args, kwargs


def contents_of(message: Message) -> tuple[list[Any], dict[str, Any], Any]:
    """The arguments of a stored task message, and the later calls that it carries: its chain, chord and links.

    Raises ValueError when they cannot be read.
    """
    meta_raw, _, body = message.body.partition(b"\0")
    try:
        meta = _read_meta(meta_raw)
        args, kwargs, later = json.loads(_unpack_body(body, meta))
        return list(args), dict(kwargs), later
    except UNREADABLE as error:
        raise ValueError("not the arguments of a task") from error


def from_delivery(
    delivery: Delivery, tag: str, *, zero_goes_first: bool = False, signer: Signer = NO_SIGNATURES
) -> dict[str, Any]:
    """The kombu message of a delivery. `zero_goes_first`: see `to_message`.

    Raises NotSigned for one that the signer does not accept, and ValueError for an unreadable one.
    """
    stored = delivery.stored
    signer.check(delivery.queue, stored.message)
    raw = from_stored(stored, queue=delivery.queue, deliveries=delivery.deliveries, tag=tag)
    if zero_goes_first:
        raw["properties"]["priority"] = PRIORITIES - 1 - raw["properties"]["priority"]
    raw["headers"][HEADER_LEASE] = str(delivery.lease)
    return raw


def from_stored(stored: Stored, *, queue: str, deliveries: int, tag: str) -> dict[str, Any]:
    """The kombu message of a stored message, without a lease. Raises ValueError when it cannot be read."""
    try:
        return _read(stored, queue=queue, deliveries=deliveries, tag=tag)
    except UNREADABLE as error:
        raise ValueError(f"not a message: {error}") from error


def broadcast_message(payload: bytes) -> dict[str, Any]:
    """The kombu message of a broadcast. Raises ValueError when the payload is none: any client can publish anything."""
    try:
        raw: dict[str, Any] = loads(payload)
        properties: dict[str, Any] = raw["properties"]
        body, encoding = raw["body"], properties.get("body_encoding")
        if encoding == "base64":
            b64decode(body, validate=True)
        well_formed = (
            isinstance(body, str | bytes)
            and encoding in (None, "utf-8", "base64")
            and isinstance(properties["delivery_tag"], str)
            and isinstance(raw.get("headers"), dict | None)
            and isinstance(properties.get("delivery_info"), dict | None)
        )
    except UNREADABLE as error:
        raise ValueError(f"not a message: {error}") from error
    if not well_formed:
        raise ValueError("not a message: a field has the wrong type")
    return raw


def _read(stored: Stored, *, queue: str, deliveries: int, tag: str) -> dict[str, Any]:
    message = stored.message
    meta_raw, _, body = message.body.partition(b"\0")
    meta = _read_meta(meta_raw)
    headers: dict[str, Any] = meta.get("h", {})
    properties: dict[str, Any] = meta.get("p", {})
    if not meta.get("n"):
        headers = {**_TASK_DEFAULTS, "task": message.name, **dict.fromkeys(_EQUAL_TO_ID, message.task_id), **headers}
        properties = {"correlation_id": message.task_id, **properties}
    headers |= message_options(
        key=message.key, unique=message.unique, max_deliveries=message.max_deliveries, flow=message.flow
    )
    if message.body_known:
        headers[HEADER_CHECKED] = True
    routing = meta.get("r") or ["", queue]
    info = {"exchange": routing[0], "routing_key": routing[1], "redelivered": deliveries > 1}
    properties |= {"delivery_tag": tag, "delivery_info": info, "priority": message.priority, "body_encoding": None}
    properties.setdefault("delivery_mode", 2)
    content_type = meta.get("t", "application/json")
    if content_type == "application/json" and not (meta.get("n") or meta.get("b") or "compression" in headers):
        _check_call(body)
    return {
        "body": _unpack_body(body, meta),
        "content-type": content_type,
        "content-encoding": meta.get("e", "utf-8"),
        "headers": headers,
        "properties": properties,
    }


def _check_call(body: bytes) -> None:
    """Raise ValueError for a body without arguments. A number or an empty body would crash Celery's worker."""
    if body.lstrip()[:1] not in {b"[", b"{"}:
        raise ValueError("not the arguments of a task")


def _pack(raw: dict[str, Any], headers: dict[str, Any], properties: dict[str, Any], task_id: str, name: str) -> bytes:
    meta: dict[str, Any] = {}
    info: dict[str, Any] = properties.pop("delivery_info", {})
    for derived in ("delivery_tag", "body_encoding", "priority"):
        properties.pop(derived, None)
    if properties.get("delivery_mode") == 2:
        del properties["delivery_mode"]
    if headers.keys() >= _TASK_HEADERS:
        derived = {**_TASK_DEFAULTS, "task": name, "id": task_id, "root_id": task_id}
        headers = {key: value for key, value in headers.items() if derived.get(key, _missing) != value}
        if properties.get("correlation_id") == task_id:
            del properties["correlation_id"]
    else:
        meta["n"] = 1
    if info.get("exchange"):
        meta["r"] = [info["exchange"], info.get("routing_key", "")]
    meta |= {key: value for key, value in (("h", headers), ("p", properties)) if value}
    meta |= {key: raw[field] for key, field, default in _CONTENT if raw[field] != default}
    body = _pack_body(raw["body"], meta)
    if meta.keys() == _USUAL_META and headers.keys() == {"origin"} and properties.keys() == {"reply_to"}:
        return _usual_meta(headers["origin"], properties["reply_to"]) + body
    return (_to_json(meta).encode() if meta else b"") + b"\0" + body


@lru_cache(maxsize=16)
def _usual_meta(origin: str, reply_to: str) -> bytes:
    """The line of JSON of nearly all messages. It is cached, because all messages of one thread have the same."""
    return _to_json({"h": {"origin": origin}, "p": {"reply_to": reply_to}, "c": 1}).encode() + b"\0"


def _shortened(name: str) -> str:
    """The part of a task's name that the record has room for. The headers keep a longer name whole."""
    return name if len(name) < MAX_TEXT // 4 else name.encode()[:MAX_TEXT].decode(errors="ignore")


def _read_meta(raw: bytes) -> dict[str, Any]:
    """The line of JSON before a body. Only kombu's own reader restores the types that JSON does not have."""
    if not raw:
        return {}
    return loads(raw) if b'"__type__"' in raw else json.loads(raw)


def _pack_body(body: str | bytes, meta: dict[str, Any]) -> bytes:
    if isinstance(body, bytes):
        meta["b"] = 1
    else:
        body = body.encode()
    if body.endswith(_EMBED):
        meta["c"] = 1
        body = body[: -len(_EMBED)]
    return body


def _unpack_body(body: bytes, meta: dict[str, Any]) -> str | bytes:
    if meta.get("c"):
        body += _EMBED
    return body if meta.get("b") else body.decode()


def _flow(value: object) -> Flow | None:
    if value is None:
        return None
    try:
        return flow_from_json(value)
    except UNREADABLE as error:
        raise InvalidMessage("flow", "is not what `message_options` makes") from error


def _priority(properties: dict[str, Any]) -> int:
    priority = properties.get("priority")
    if not priority:
        return 0
    try:
        return min(max(int(priority), 0), PRIORITIES - 1)
    except (TypeError, ValueError):
        return 0


def _eta(eta: object) -> int | None:
    if not isinstance(eta, str):
        return None
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        return None
    return int((due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp() * 1000)
