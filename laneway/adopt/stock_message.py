"""Reads a message of kombu's Redis transport, which may contain anything, and makes the engine's message of it."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from kombu.utils.json import loads

from laneway.adopt.layout import DEFAULT_STEPS
from laneway.engine.errors import InvalidMessage
from laneway.engine.message import PRIORITIES, Message, encode
from laneway.transport.codec import HEADER_ONCE, UNREADABLE, to_message

NOT_JSON: Final = "it cannot be read"
OLD_PROTOCOL: Final = "it has Celery's protocol 1 (task_protocol = 1)"
NO_CALL: Final = "it is no call of a task"
NOT_ADDRESSED: Final = "no single queue is bound to its exchange and routing key"
SENT_AS: Final = "content-type"


@dataclass(frozen=True, slots=True)
class StockMessage:
    """A message of a list, or of the delivered messages that were not acknowledged.

    `place`: its index from the tail of the list, or its delivery tag. `member`: as the server keeps it. `step`: its
    step of priority. `queue`: the queue in which it waits or from which it was delivered. `raw`: as kombu has it; None
    when it cannot be taken over, and `problem` says why. `delivered_at`: unix time (s) of its delivery.
    """

    place: int | bytes
    member: bytes
    step: int
    queue: str
    raw: dict[str, Any] | None
    problem: str = ""
    delivered_at: float | None = None

    @property
    def name(self) -> str:
        """The name of its task, or nothing."""
        return str(self.raw["headers"]["task"]) if self.raw else ""

    @property
    def task_id(self) -> str:
        """The id of its task, or nothing."""
        return str(self.raw["headers"]["id"]) if self.raw else ""

    @property
    def digest(self) -> str:
        """The SHA-1 of the member, by which the server knows it again."""
        return hashlib.sha1(self.member, usedforsecurity=False).hexdigest()


def read_listed(member: bytes, *, place: int, queue: str, step: int) -> StockMessage:
    """Read a message of a list."""
    try:
        raw, problem = _read(_loads(member))
    except UNREADABLE:
        raw, problem = None, NOT_JSON
    return StockMessage(place, member, step, queue, raw, problem)


def read_unacked(member: bytes | None, *, tag: bytes, at: float | None) -> tuple[StockMessage, tuple[str, str]]:
    """Read a delivered message; return it, and the exchange and the routing key to which it was sent."""
    try:
        raw, exchange, routing_key = _loads(member or b"")
        if not (isinstance(exchange, str) and isinstance(routing_key, str)):
            raise TypeError
        raw, problem = _read(raw)
    except UNREADABLE:
        raw, problem, exchange, routing_key = None, NOT_JSON, "", ""
    return StockMessage(tag, member or b"", 0, "", raw, problem, at), (exchange, routing_key)


def priority_of(raw: dict[str, Any]) -> int:
    """The priority that the sender gave, or 0."""
    priority = raw["properties"].get("priority")
    return priority if isinstance(priority, int) and not isinstance(priority, bool) else 0


def engine_priority(step: int, steps: Sequence[int] = DEFAULT_STEPS) -> int:
    """The engine's priority of a step: kombu delivers the lowest step first, the engine the highest priority.

    A project whose steps go beyond 9 has its steps spread over the ten priorities, in their order. With more than ten
    steps, neighbours share a priority.
    """
    most = max(steps, default=0)
    if most >= PRIORITIES:
        below = sum(other < step for other in steps)
        return PRIORITIES - 1 - min(below * (PRIORITIES - 1) // max(len(steps) - 1, 1), PRIORITIES - 1)
    return PRIORITIES - 1 - min(max(step, 0), PRIORITIES - 1)


def engine_message(found: StockMessage, *, once: bool = False, steps: Sequence[int] = DEFAULT_STEPS) -> Message:
    """The engine's message, with the priority of its step. Raises InvalidMessage.

    `once`: the engine drops it when it has a message of this task; a retry is never dropped. `steps`: those of the
    project.
    """
    assert found.raw is not None  # noqa: S101 - the caller leaves the others out
    headers = {name: value for name, value in found.raw["headers"].items() if name != HEADER_ONCE}
    try:
        message = to_message(found.raw | {"headers": headers | ({HEADER_ONCE: True} if once else {})})
        message = replace(message, priority=engine_priority(found.step, steps))
        encode(message)
    except (*UNREADABLE, RuntimeError) as error:
        raise InvalidMessage("content", f"cannot be stored: {error}") from error
    return message


def content_problem(found: StockMessage, accepted: Collection[str]) -> str:
    """Why no worker of the app would read the body; nothing if one would. `accepted`: content types."""
    sent_as = str((found.raw or {}).get(SENT_AS, ""))
    return "" if sent_as in accepted else f"accept_content of the app does not contain {sent_as[:100]}"


def _loads(member: bytes) -> Any:
    """The value of JSON. Only kombu's own reader restores the types that JSON does not have; it is slower."""
    return loads(member) if b'"__type__"' in member else json.loads(member)


def _read(value: Any) -> tuple[dict[str, Any] | None, str]:
    """The message with its body decoded, or None and the reason. Raises one of `UNREADABLE`."""
    raw = cast("dict[str, Any]", value)
    body, properties, headers = raw["body"], raw["properties"], raw["headers"]
    info = properties.get("delivery_info")
    if properties.get("body_encoding") == "base64":
        body = b64decode(body, validate=True)
        encoding = raw["content-encoding"]
        if encoding != "binary" and "compression" not in headers:
            body = body.decode(encoding)
    texts = (raw["content-type"], raw["content-encoding"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(info, dict | None):
        return None, NOT_JSON
    if not isinstance(body, str | bytes):
        return None, NOT_JSON
    if not all(isinstance(headers.get(name), str) and headers[name] for name in ("task", "id")):
        is_old = "task" not in headers and isinstance(body, str) and '"task"' in body
        return None, OLD_PROTOCOL if is_old else NO_CALL
    return raw | {"body": body}, ""
