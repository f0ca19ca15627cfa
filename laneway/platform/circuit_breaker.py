"""Remembers that the broker does not answer, so that not every caller waits for it.

A broker that refuses connections is known to be away at once. One that is frozen, or behind a network that swallows
everything, is only known by a timeout: whoever asks pays for it, and so would everybody after him. Here the others
are told at once, and one at a time asks again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from laneway.platform.errors import BrokerUnavailable

SLOW: Final = 2.0
"""Seconds after which an attempt that failed has failed by a timeout."""
PAUSE: Final = 3.0
"""Seconds from such a failure until somebody asks again."""
PATIENCE: Final = 30.0
"""Seconds for which the others wait for the answer of the one who asks; two tries with their timeouts take less."""


class CircuitBreaker:
    """Of one broker, in one process, for any thread. No lock: a fork amid it must not leave one taken."""

    def __init__(self) -> None:
        self._until: float | None = None

    @contextmanager
    def heeded(self) -> Generator[None]:
        """Ask the broker in this block; not within another one. Raises BrokerUnavailable at once while it is silent."""
        began, until = monotonic(), self._until
        if until is not None:
            if began < until:
                raise BrokerUnavailable("it did not answer a moment ago")
            self._until = began + PATIENCE
        silent = False
        try:
            yield
        except BrokerUnavailable:
            silent = monotonic() - began >= SLOW
            raise
        finally:
            self._until = monotonic() + PAUSE if silent else None
