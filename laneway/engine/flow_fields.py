"""The fields of a message that say which limits it uses, which consumers may get it, and when it has its turn.

The record keeps them as one JSON object (`message.py`), because most messages have none of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What a message must wait for beside its queue, and when it has its turn.

    `limits`: it waits until all of these let it through. `labels`: only a consumer that has all of them gets it.
    `tenant`: in a queue, tenants of one priority take turns, in proportion to the `weight` (1-100) of each.
    `deadline_ms`: it waits in the place of a message that was put an hour before this time (ms since 1970). A message
    has a tenant or a deadline, not both.
    """

    limits: tuple[LimitUse, ...] = ()
    labels: tuple[str, ...] = ()
    tenant: str | None = None
    weight: int = 1
    deadline_ms: int | None = None


def encode_flow(flow: Flow) -> bytes:
    """The fields as JSON, with its length in front, which takes 2 bytes."""
    text = json.dumps(flow_to_json(flow), separators=(",", ":"), ensure_ascii=False).encode()
    return len(text).to_bytes(2, "big") + text


def decode_flow(text: bytes) -> Flow:
    """The fields. Raises ValueError, TypeError and the like for any text but that of `encode_flow`."""
    return flow_from_json(json.loads(text))


def flow_to_json(flow: Flow) -> dict[str, Any]:
    """The fields that are set, under names of one letter."""
    fields: dict[str, Any] = {}
    if flow.limits:
        fields["l"] = [[use.name, use.key, use.points] for use in flow.limits]
    if flow.labels:
        fields["n"] = joined(flow.labels)
    if flow.tenant is not None:
        fields["t"], fields["w"] = flow.tenant, flow.weight
    if flow.deadline_ms is not None:
        fields["d"] = flow.deadline_ms
    return fields


def flow_from_json(value: object) -> Flow:
    """The fields that `flow_to_json` wrote. Raises ValueError, TypeError and the like for any other value."""
    fields = cast("dict[str, Any]", value)
    labels, deadline = str(fields.get("n") or ""), fields.get("d")
    return Flow(
        limits=tuple(LimitUse(str(name), str(key), int(points)) for name, key, points in fields.get("l", ())),
        labels=tuple(labels.split(",")) if labels else (),
        tenant=str(fields["t"]) if "t" in fields else None,
        weight=int(fields.get("w", 1)),
        deadline_ms=None if deadline is None else int(deadline),
    )


def joined(labels: Sequence[str]) -> str:
    """The labels as the engine compares them: sorted, between commas."""
    return ",".join(sorted(set(labels)))


def check_flow(flow: Flow) -> None:
    """Raise InvalidMessage for values that the engine cannot use."""
    if len(flow.limits) > MAX_LIMITS:
        raise InvalidMessage("limits", f"must be at most {MAX_LIMITS}")
    for use in flow.limits:
        _check_use(use)
    for label in flow.labels:
        if not label or "," in label:
            raise InvalidMessage("label", "must not be empty and must not contain a comma")
    if len(joined(flow.labels).encode()) > MAX_LABELS_BYTES:
        raise InvalidMessage("labels", f"must have at most {MAX_LABELS_BYTES} bytes")
    if flow.tenant is not None and not 0 < len(flow.tenant.encode()) <= MAX_TENANT_BYTES:
        raise InvalidMessage("tenant", f"must have 1 to {MAX_TENANT_BYTES} bytes")
    if not 1 <= flow.weight <= MAX_WEIGHT:
        raise InvalidMessage("weight", f"must be 1 to {MAX_WEIGHT}")
    if flow.deadline_ms is not None and not 0 <= flow.deadline_ms < MAX_TIME_MS:
        raise InvalidMessage("deadline", "must be a time in ms since 1970")
    if flow.tenant is not None and flow.deadline_ms is not None:
        raise InvalidMessage("deadline", "cannot be combined with a tenant: each gives the message another turn")


def _check_use(use: LimitUse) -> None:
    if not use.name or "\0" in use.name + use.key:
        raise InvalidMessage("limit", "must have a name, and neither the name nor the key may contain NUL")
    if len(use.name.encode()) + len(use.key.encode()) > MAX_LIMIT_BYTES:
        raise InvalidMessage("limit", f"must have at most {MAX_LIMIT_BYTES} bytes of name and key")
    if not 1 <= use.points <= MAX_POINTS:
        raise InvalidMessage("points of a limit", f"must be 1 to {MAX_POINTS}")
