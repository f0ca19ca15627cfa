"""Remembers that the broker does not answer, so that not every caller waits for it.

A broker that refuses connections fails at once. A broker that is frozen, or behind a network that drops everything, is
only noticed by a timeout. The first caller pays for that timeout. After it the other callers get the error at once,
and one caller at a time tries again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from laneway.platform.errors import BrokerUnavailable

SLOW: Final = 2.0
"""A call that fails after this many seconds has failed by a timeout."""
PAUSE: Final = 3.0
"""Seconds between such a failure and the next try."""
PATIENCE: Final = 30.0
"""Seconds for which the others fail at once while one caller tries; two tries with their timeouts take less."""


class CircuitBreaker:
    """The state of one broker in one process; safe for any thread.

    There is no lock, because a fork in the middle of a call would leave it taken in the child.
    """

    def __init__(self) -> None:
        self._closed_at: float | None = None
        """Monotonic time from which calls are let through again; None: they are let through."""

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Call the broker in this block; blocks must not be nested.

        Raises BrokerUnavailable at once while the broker is known not to answer.
        """
        started, closed_at = monotonic(), self._closed_at
        if closed_at is not None:
            if started < closed_at:
                raise BrokerUnavailable("it did not answer a moment ago")
            self._closed_at = started + PATIENCE
        timed_out = False
        try:
            yield
        except BrokerUnavailable:
            timed_out = monotonic() - started >= SLOW
            raise
        finally:
            self._closed_at = monotonic() + PAUSE if timed_out else None
