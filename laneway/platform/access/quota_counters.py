"""The counters of quotas, as the package `limits` uses them: in the memory of the process, or at the broker."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from laneway.engine import Engine
from laneway.platform.access.quota_errors import QuotaExceeded

__all__ = ["Counter", "EngineCounters", "MemoryStorage"]

INCREASE: Final = """
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
if count == tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return count
"""


class Counter:
    """Counts in windows of one minute, each of which begins with its first use."""

    def __init__(self, storage: Storage) -> None:
        self._limiter = FixedWindowRateLimiter(storage)

    def count(self, whose: str, what: str, *, limit: int, cost: int) -> None:
        """Count something. Raises QuotaExceeded."""
        item = RateLimitItemPerMinute(limit)
        if not self._limiter.hit(item, whose, what, cost=cost):
            ends = self._limiter.get_window_stats(item, whose, what).reset_time
            raise QuotaExceeded(whose, what, limit, max(1, math.ceil(ends - time.time())))


class EngineCounters(Storage):
    """Counters at the broker, over the engine's connections."""

    STORAGE_SCHEME = ["laneway-engine"]  # noqa: RUF012 - as the base class has it

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    @property
    def base_exceptions(self) -> type[Exception]:
        return Exception

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Increase a counter, whose window of `expiry` seconds begins with its first use."""
        return int(self._engine.runner.call("EVAL", INCREASE, 1, self._key(key), amount, expiry))

    def get(self, key: str) -> int:
        """The value of a counter."""
        return int(self._engine.runner.call("GET", self._key(key)) or 0)

    def get_expiry(self, key: str) -> float:
        """The Unix time (s) at which the window of a counter ends."""
        left: int = self._engine.runner.call("PTTL", self._key(key))
        return time.time() + max(0, left) / 1000

    def check(self) -> bool:
        """Whether the broker answers."""
        return bool(self._engine.time())

    def reset(self) -> int | None:
        """Not supported: the windows end by themselves."""
        raise NotImplementedError

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._engine.runner.call("DEL", self._key(key))

    def _key(self, key: str) -> bytes:
        return self._engine.keys.quota(key)
