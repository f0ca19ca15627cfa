"""How long the current work waits for the database, without getting on.

The API limits each request. All waits of a request share its limit: for a thread, for a turn among the writers of this
process, for the database. Without a limit each wait lasts as long as its own default.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic


@dataclass(slots=True)
class _Limit:
    seconds: float
    ends: float
    """Monotonic time at which the work stops waiting."""
    outer: _Limit | None


_limit: ContextVar[_Limit | None] = ContextVar("laneway_wait_limit", default=None)


@contextmanager
def limit_waits(seconds: float) -> Generator[None]:
    """Let the block wait for these seconds in total. An outer limit that ends sooner stays in force."""
    token = _limit.set(_Limit(seconds, monotonic() + seconds, _limit.get()))
    try:
        yield
    finally:
        _limit.reset(token)


def seconds_left(most: float) -> float:
    """Return how long to wait now: `most`, or what is left of the limit; 0 when it is over."""
    now, limit = monotonic(), _limit.get()
    while limit is not None:
        most, limit = min(most, limit.ends - now), limit.outer
    return max(0.0, most)


def restart_limit() -> None:
    """Count anew, because the work got on: a request may commit many transactions, each after a short wait."""
    now, limit = monotonic(), _limit.get()
    while limit is not None:
        limit.ends, limit = now + limit.seconds, limit.outer
