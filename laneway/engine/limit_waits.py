"""The limits of a message that waits for one of them: what each lets through, who has its points, and when it opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laneway.engine.keys import Keyspace
from laneway.engine.message import unpack_id

MAX_HOLDERS = 20
"""Holders of one limit that are read."""
_HOLDER_FIELDS = 3


@dataclass(frozen=True, slots=True)
class LimitHolder:
    """A leased message that has points of a limit. `lease_end`: ms since 1970."""

    queue: str
    task_id: str
    lease_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWait:
    """How a limit stands for one message that uses it.

    `key`: the limit is counted for this key alone. `points`: those that the message takes. `interval` (microseconds
    from one point to the next), `burst` and `max_running`: None when they are not set. `now`, `used_until` and
    `blocked_until`: microseconds since 1970, the last two 0 when they are over. `running`: points of leased messages of
    the key. `ahead`: messages that go before it, roughly: queues take turns. `holders`: at most MAX_HOLDERS.
    """

    now: int
    name: str
    key: str
    points: int
    interval: int | None
    burst: int
    max_running: int | None
    used_until: int
    blocked_until: int
    running: int
    ahead: int
    holders: Sequence[LimitHolder]

    @property
    def opens_at(self) -> int:
        """When blocks and rate let the message through, after those before it (us since 1970); 0: they do now."""
        opens = self.blocked_until
        if self.interval is not None:
            points = self.ahead * self.points + min(self.points, self.burst)
            used = max(self.used_until, self.blocked_until, self.now)
            opens = max(opens, used + (points - self.burst) * self.interval)
        return opens if opens > self.now else 0

    @property
    def is_full(self) -> bool:
        """True when running messages have so many points that this message has to wait for one of them."""
        return self.max_running is not None and self.running + min(self.points, self.max_running) > self.max_running


def limit_wait(keys: Keyspace, row: Sequence[Any]) -> LimitWait:
    """Make a LimitWait of a part of a reply of `limit_waits.lua`."""
    now, name, key, points, interval, burst, most, used_until, blocked_until, running, ahead, holders = row
    return LimitWait(
        now=int(now),
        name=name.decode(errors="replace"),
        key=key.decode(errors="replace"),
        points=points,
        interval=interval,
        burst=burst,
        max_running=most,
        used_until=int(used_until),
        blocked_until=int(blocked_until),
        running=running,
        ahead=ahead,
        holders=[
            LimitHolder(keys.queue_of(holders[start]), unpack_id(holders[start + 1]), holders[start + 2])
            for start in range(0, len(holders), _HOLDER_FIELDS)
        ],
    )
