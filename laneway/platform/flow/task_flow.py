"""What tasks declare of limits, labels, tenants and deadlines, and what a submission makes of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from laneway.engine import Flow, InvalidMessage, LimitUse
from laneway.engine.flow_fields import MAX_POINTS, check_flow, flow_from_json, flow_to_json
from laneway.engine.keys import TASK_LIMIT
from laneway.platform.errors import ConfigError

FLOW: Final = "flow"
"""The option of a row that stores the flow of its message."""
KEY_BYTES: Final = 120
"""Bytes of the key of a limit. A longer one is replaced by its digest."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class BadLimit(ConfigError):
    """A limit is declared in a way that cannot work."""

    template = "The limit {name!r} cannot be declared: {problem}"
    name: object
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitValues:
    """What a limit lets through, for all workers together. None: no limit.

    `rate`: points within `per` seconds. `burst`: points that may be taken at once. `max_running`: points of running
    tasks.
    """

    rate: int | None = None
    per: float = 1.0
    burst: int = 1
    max_running: int | None = None

    @property
    def per_second(self) -> float | None:
        """The rate in points a second."""
        return None if self.rate is None else self.rate / self.per


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit with a name, which several tasks may share: `@task(limits=[Limit("crm-api", rate=10, per=1)])`.

    `key`: a field of the payload; the limit is counted for each of its values alone. `points`: what one run takes of
    it. `rate` within `per` seconds, `burst` at once, and `max_running` hold until an operator sets others; a limit
    without any of them lets everything through until then. `learn`: an attempt that ends with the error of an HTTP
    client for 429 or 503 with `Retry-After` closes the limit for that time, as `ctx.limit_reached` does, and does not
    count. Raises BadLimit.
    """

    name: str
    key: str | None = None
    points: int = 1
    rate: int | None = None
    per: float = 1.0
    burst: int = 1
    max_running: int | None = None
    learn: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadLimit(self.name, "a name has 1 to 64 letters, digits, dots, hyphens and underscores.")
        if not 1 <= self.points <= MAX_POINTS:
            raise BadLimit(self.name, f"points must be 1 to {MAX_POINTS}.")
        if self.rate is not None and not (1 <= self.rate <= 1_000_000 and 0.1 <= self.per <= 86_400):
            raise BadLimit(self.name, "rate must be 1 to 1,000,000, and per 0.1 to 86,400 seconds.")
        if not 1 <= self.burst <= 1_000_000 or (self.max_running is not None and self.max_running < 1):
            raise BadLimit(self.name, "burst and max_running must be at least 1.")

    @property
    def values(self) -> LimitValues | None:
        """What it lets through; None when that is not declared here."""
        if self.rate is None and self.max_running is None:
            return None
        return LimitValues(rate=self.rate, per=self.per, burst=self.burst, max_running=self.max_running)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlow:
    """The declaration of a task: its limits, the labels of the workers that may run it, and its turn in the queue."""

    limits: tuple[Limit, ...] = ()
    needs: tuple[str, ...] = ()
    tenant: str | None = None
    """The payload's field that names the tenant."""
    deadline: float | None = None
    """Seconds from the submission within which the task should run."""

    def fields(self) -> Iterable[str]:
        """The fields of the payload that it names."""
        yield from (limit.key for limit in self.limits if limit.key)
        if self.tenant:
            yield self.tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """What a submission says of its turn. None: what the task declares."""

    tenant: str | None = None
    weight: int = 1
    """The tenant's share of the queue, 1 to 100."""
    deadline: float | None = None
    """Seconds."""


def flow_of(declared: TaskFlow, payload: BaseModel, options: FlowOptions, *, now: datetime) -> dict[str, Any] | None:
    """The flow of a submission, as its row stores it; None when it has none. Raises InvalidMessage."""
    limits = tuple(LimitUse(limit.name, limit_key(limit, payload), limit.points) for limit in declared.limits)
    tenant = options.tenant if options.tenant is not None else _text_of(payload, declared.tenant)
    seconds = options.deadline if options.deadline is not None else declared.deadline
    deadline = None if seconds is None or tenant is not None else now + timedelta(seconds=seconds)
    if not limits and not declared.needs and tenant is None and deadline is None:
        return None
    flow = Flow(
        limits=limits,
        labels=declared.needs,
        tenant=None if tenant is None else _short(tenant),
        weight=options.weight,
        deadline_ms=None if deadline is None else round(deadline.timestamp() * 1000),
    )
    check_flow(flow)
    return flow_to_json(flow)


def stored_flow(options: Mapping[str, Any]) -> Flow | None:
    """The flow in the options of a row. Raises ValueError and the like for one that cannot be read."""
    stored = options.get(FLOW)
    if stored is None:
        return None
    flow = flow_from_json(stored)
    try:
        check_flow(flow)
    except InvalidMessage as error:
        raise ValueError(str(error)) from error
    return flow


def task_limit(name: str) -> str:
    """The name of the limit of all runs of a task."""
    return f"{TASK_LIMIT}{name}"


def limit_key(limit: Limit, payload: BaseModel) -> str:
    """The key for which a limit is counted, of a task with this payload; empty if it has none."""
    return _short(_text_of(payload, limit.key) or "")


def _text_of(payload: BaseModel, field: str | None) -> str | None:
    """The value of a field as text; None for one that is neither text, a number nor a UUID, or is empty."""
    value = getattr(payload, field) if field else None
    return str(value) or None if isinstance(value, str | int | UUID) else None


def _short(text: str) -> str:
    text = text.replace("\0", " ")
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= KEY_BYTES else hashlib.sha256(raw).hexdigest()
