"""Limits with names: several tasks, in several queues, share one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laneway.engine.admin_replies import numbers
from laneway.engine.errors import InvalidLimit
from laneway.engine.keys import Keyspace
from laneway.engine.limit_waits import MAX_HOLDERS, LimitWait, limit_wait
from laneway.engine.message import pack_id
from laneway.engine.script_runner import ScriptRunner

_MICROSECONDS = 1_000_000
_FIELDS = 6
MAX_BLOCK_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLimit:
    """What a limit lets through, for each key that messages give. None: no limit.

    `rate`: points a second; `burst`: so many points may be taken at once. `max_running`: points of leased messages.
    """

    rate: float | None = None
    burst: int = 1
    max_running: int | None = None

    @property
    def interval(self) -> int | None:
        """Microseconds from one point to the next."""
        return None if self.rate is None else max(1, round(_MICROSECONDS / self.rate))

    def fields(self) -> dict[str, int | None]:
        """The fields of the limit's key. Raises InvalidLimit."""
        if self.rate is not None and not (math.isfinite(self.rate) and 0 < self.rate <= _MICROSECONDS):
            raise InvalidLimit("rate", "must be more than 0 and at most 1,000,000 a second")
        if not 1 <= self.burst <= _MICROSECONDS:
            raise InvalidLimit("burst", "must be 1 to 1,000,000")
        if self.max_running is not None and not 1 <= self.max_running <= _MICROSECONDS:
            raise InvalidLimit("max_running", "must be 1 to 1,000,000")
        return {"interval": self.interval, "burst": self.burst, "max_running": self.max_running}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLimitState:
    """A limit as the server has it.

    `interval` (microseconds from one point to the next), `burst` and `max_running`: None when they are not set.
    `running`: points of leased messages. `waiting_in`: queue → messages in its lines. `blocked_until` (ms since 1970):
    until then it lets nothing through. `opens_at` (us since 1970): when its rate has room for a point again, for the
    key that has used most of it; None: it has.
    """

    name: str
    interval: int | None
    burst: int | None
    max_running: int | None
    running: int
    waiting_in: Mapping[str, int]
    blocked_until: int | None
    opens_at: int | None

    @property
    def waiting(self) -> int:
        """Messages in its lines."""
        return sum(self.waiting_in.values())

    def enforces(self, limit: NamedLimit) -> bool:
        """True when the server has exactly this limit."""
        fields = limit.fields()
        return (self.interval, self.burst or 1, self.max_running) == tuple(fields.values())


class NamedLimits:
    """Sets and reads limits with names. They are outside of the queues, which share them."""

    runner: ScriptRunner
    keys: Keyspace

    def set_named_limit(self, name: str, limit: NamedLimit | None) -> None:
        """Set the limit for all queues of this database; None removes it. Raises InvalidLimit.

        Messages that wait for it are looked at again. A limit that is not set lets everything through.
        """
        fields = (limit or NamedLimit()).fields() if limit else dict.fromkeys(("interval", "burst", "max_running"))
        args: list[str | int] = [name]
        for field, value in fields.items():
            args += [field, "" if value is None else value]
        self.runner.run("set_named_limit", (self.keys.queue(""),), args)

    def block_limit(self, name: str, seconds: float, *, key: str = "") -> None:
        """Let nothing through the limit for so many seconds (at most a day), for one key or for all of them ("")."""
        ms = round(min(max(seconds, 0.0), MAX_BLOCK_SECONDS) * 1000)
        self.runner.run("block_limit", (self.keys.queue(""),), (name, key, ms))

    def named_limits(self, names: Sequence[str]) -> list[NamedLimitState]:
        """The state of each limit, all read at one moment."""
        reply: list[Any] = self.runner.run("named_limits", (self.keys.queue(""),), tuple(names))
        rows = [reply[start : start + _FIELDS] for start in range(0, len(reply), _FIELDS)]
        return [_state(self.keys, name, *row) for name, row in zip(names, rows, strict=True)]

    def limit_waits(self, queue: str, id: str) -> list[LimitWait]:
        """The limits of a message that waits for one, first that one; empty if it does not.

        `id`: of the message, not of its task.
        """
        reply = self.runner.read("limit_waits", (self.keys.queue(queue),), (pack_id(id), MAX_HOLDERS))
        return [limit_wait(self.keys, row) for row in reply]


def _state(
    keys: Keyspace,
    name: str,
    raw_config: Sequence[bytes],
    running: int,
    lines: Sequence[Any],
    blocked_until: int | None,
    now: bytes,
    used_until: bytes,
) -> NamedLimitState:
    config = numbers(raw_config)
    interval, burst = config.get("interval"), config.get("burst") or 1
    opens_at = 0 if interval is None else int(float(used_until)) + (1 - burst) * interval
    return NamedLimitState(
        name=name,
        interval=interval,
        burst=config.get("burst"),
        max_running=config.get("max_running"),
        running=running,
        waiting_in=_by_queue(keys, lines),
        blocked_until=blocked_until,
        opens_at=opens_at if opens_at > int(now) else None,
    )


def _by_queue(keys: Keyspace, lines: Sequence[Any]) -> Mapping[str, int]:
    """Queue → messages; a queue has a line for each key. Lines that are empty are left out."""
    found: dict[str, int] = {}
    for prefix, messages in zip(lines[::2], lines[1::2], strict=True):
        if messages:
            queue = keys.queue_of(prefix)
            found[queue] = found.get(queue, 0) + messages
    return found
