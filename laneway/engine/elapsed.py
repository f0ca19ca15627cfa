"""Time that also passes while the machine is suspended, and the server's clock as seen from here."""

from __future__ import annotations

import time
from collections.abc import Callable

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SYNC_SECONDS = 10.0


def elapsed() -> float:
    """Seconds since some moment. Unlike `time.monotonic`, it goes on while the machine is suspended (on Linux)."""
    return time.clock_gettime(_CLOCK)


class ServerClock:
    """The server's time, without asking for it at each call.

    It is read every `SYNC_SECONDS` and moved on by the time that has passed here since. So the clocks of two machines
    are never compared: only the server's own clock is, with itself.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        """`read` asks the server for its time: Unix seconds."""
        self._read = read
        self._read_at: float | None = None
        self._time = 0.0

    def now(self) -> float:
        """The server's Unix time (s), at most a round trip late. Raises what `read` raises."""
        if self._read_at is None or elapsed() - self._read_at > SYNC_SECONDS:
            self._time, self._read_at = self._read(), elapsed()
        return self._time + elapsed() - self._read_at

    def forget(self) -> None:
        """Read the server's time anew at the next call: it may have changed."""
        self._read_at = None
