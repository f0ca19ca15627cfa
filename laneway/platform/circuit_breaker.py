"""Remembers that the broker does not answer, so that not every caller waits for it.

A broker that refuses connections fails at once. A broker that is frozen, or behind a network that drops all packets,
can only be detected by a timeout. The first caller waits for that timeout, at most 2 seconds. After that the other
callers get the error at once, and one caller at a time tries again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from laneway.platform.errors import BrokerUnavailable

ANSWER_SECONDS, CONNECT_SECONDS = 1.0, 0.75
"""Most seconds that a caller waits for an answer, and then for a new connection, on which it repeats its call."""
SLOW: Final = 0.5
"""A failed call that took at least this many seconds counts as a timeout."""
PAUSE: Final = 3.0
"""Seconds between a timeout and the next try."""
PROBE_TIMEOUT: Final = 30.0
"""Most seconds for which the other callers fail at once while one caller tries. A call with two timeouts takes less."""


class CircuitBreaker:
    """The state of one broker in one process; safe for any thread.

    It has no lock, because a lock that another thread holds during a fork stays taken in the child.
    """

    def __init__(self) -> None:
        self._open_until: float | None = None
        """Monotonic time until which calls fail at once; None: calls are let through."""
        self._reason = ""

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Call the broker in this block; blocks must not be nested.

        Raises BrokerUnavailable at once while the broker is known not to answer.
        """
        started, open_until = monotonic(), self._open_until
        if open_until is not None:
            if started < open_until:
                raise BrokerUnavailable(f"it did not answer a moment ago ({self._reason})")
            self._open_until = started + PROBE_TIMEOUT
        timed_out = False
        try:
            yield
        except BrokerUnavailable as error:
            timed_out, self._reason = monotonic() - started >= SLOW, error.reason
            raise
        finally:
            self._open_until = monotonic() + PAUSE if timed_out else None
