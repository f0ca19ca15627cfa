"""Time that also passes while the machine is suspended, and the server's clock as seen from here."""

from __future__ import annotations

import time
from collections.abc import Callable

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SYNC_SECONDS = 10.0
"""Seconds between two readings of the server's time."""


def elapsed() -> float:
    """Seconds since some moment. Unlike `time.monotonic`, it goes on while the machine is suspended (on Linux)."""
    return time.clock_gettime(_CLOCK)


class ServerClock:
    """The server's time, without asking for it at each call.

    It is read every `SYNC_SECONDS` and moved on by the time that has passed here since. So the clocks of two machines
    are never compared: only the server's own clock is, with itself. Thread-safe.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        """`read` asks the server for its time: Unix seconds."""
        self._read = read
        self._last: tuple[float, float] | None = None
        """The server's time when it was last read, and the time here (`elapsed`)."""

    def now(self) -> float:
        """The server's Unix time (s), at most a round trip late. Raises what `read` raises."""
        last = self._last  # another thread may replace or forget it at any moment
        if last is None or elapsed() - last[1] > SYNC_SECONDS:
            last = self._last = self._read(), elapsed()
        return last[0] + elapsed() - last[1]

    def forget(self) -> None:
        """Read the server's time anew at the next call: it may have changed."""
        self._last = None
