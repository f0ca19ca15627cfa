"""The fields of a message that say which limits it uses, which consumers may get it, and when it has its turn.

The record keeps them as one JSON object (`message.py`), because most messages have none of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from laneway.engine.errors import InvalidMessage

MAX_LIMITS = 8
MAX_LIMIT_BYTES = 200
MAX_POINTS = 100
MAX_WEIGHT = 100
MAX_TENANT_BYTES = 200
MAX_LABELS_BYTES = 200
MAX_TIME_MS = 1 << 46
"""A deadline in ms since 1970 is below this: the year 4199."""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A message takes `points` (1-100) of a named limit when it is delivered.

    `key`: the limit is counted for each key alone. `name` and `key` together have at most 200 bytes.
    """

    name: str
    key: str = ""
    points: int = 1


class FlowFields(Protocol):
    """The fields, as `Message` has them."""

    @property
    def limits(self) -> tuple[LimitUse, ...]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def weight(self) -> int: ...
    @property
    def deadline_ms(self) -> int | None: ...


def has_flow(message: FlowFields) -> bool:
    """True when the message has any of these fields."""
    return bool(message.limits or message.labels or message.tenant is not None or message.deadline_ms is not None)


def encode_flow(message: FlowFields) -> bytes:
    """The fields with their length in front, which takes 2 bytes."""
    fields: dict[str, Any] = {}
    if message.limits:
        fields["l"] = [[use.name, use.key, use.points] for use in message.limits]
    if message.labels:
        fields["n"] = joined(message.labels)
    if message.tenant is not None:
        fields["t"], fields["w"] = message.tenant, message.weight
    if message.deadline_ms is not None:
        fields["d"] = message.deadline_ms
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return len(text).to_bytes(2, "big") + text


def decode_flow(text: bytes) -> dict[str, Any]:
    """The fields as arguments of `Message`. Raises ValueError and the like for any text but that of `encode_flow`."""
    fields = cast("dict[str, Any]", json.loads(text))
    found: dict[str, Any] = {
        "limits": tuple(LimitUse(str(name), str(key), int(points)) for name, key, points in fields.get("l", ())),
        "labels": tuple(str(fields.get("n", "")).split(",")) if fields.get("n") else (),
    }
    if "t" in fields:
        found |= {"tenant": str(fields["t"]), "weight": int(fields.get("w", 1))}
    if "d" in fields:
        found["deadline_ms"] = int(fields["d"])
    return found


def joined(labels: Sequence[str]) -> str:
    """The labels as the engine compares them: sorted, between commas."""
    return ",".join(sorted(set(labels)))


def check_flow(message: FlowFields) -> None:
    """Raise InvalidMessage for values that the engine cannot use."""
    if len(message.limits) > MAX_LIMITS:
        raise InvalidMessage("limits", f"must be at most {MAX_LIMITS}")
    for use in message.limits:
        _check_use(use)
    for label in message.labels:
        if not label or "," in label:
            raise InvalidMessage("label", "must not be empty and must not contain a comma")
    if len(joined(message.labels).encode()) > MAX_LABELS_BYTES:
        raise InvalidMessage("labels", f"must have at most {MAX_LABELS_BYTES} bytes")
    if message.tenant is not None and not 0 < len(message.tenant.encode()) <= MAX_TENANT_BYTES:
        raise InvalidMessage("tenant", f"must have 1 to {MAX_TENANT_BYTES} bytes")
    if not 1 <= message.weight <= MAX_WEIGHT:
        raise InvalidMessage("weight", f"must be 1 to {MAX_WEIGHT}")
    if message.deadline_ms is not None and not 0 <= message.deadline_ms < MAX_TIME_MS:
        raise InvalidMessage("deadline", "must be a time in ms since 1970")
    if message.tenant is not None and message.deadline_ms is not None:
        raise InvalidMessage("deadline", "cannot be combined with a tenant: each gives the message another turn")


def _check_use(use: LimitUse) -> None:
    if not use.name or "\0" in use.name + use.key:
        raise InvalidMessage("limit", "must have a name, and neither the name nor the key may contain NUL")
    if len(use.name.encode()) + len(use.key.encode()) > MAX_LIMIT_BYTES:
        raise InvalidMessage("limit", f"must have at most {MAX_LIMIT_BYTES} bytes of name and key")
    if not 1 <= use.points <= MAX_POINTS:
        raise InvalidMessage("points of a limit", f"must be 1 to {MAX_POINTS}")
