"""When a failed task is tried again: a pure decision, and the only one.

Exponential back-off with full jitter, capped (Marc Brooker, "Exponential Backoff and Jitter", AWS
Architecture Blog, 2015): a random delay between nothing and the cap spreads a crowd of failures best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laneway.platform.errors import PlatformError

LONGEST_WAIT = 86_400.0
"""Seconds; nobody's Retry-After holds a task longer."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait after each failure (seconds), and how often to try again."""

    max_retries: int
    delay: float
    delay_max: float
    schedule: Sequence[float] | None = None
    """Delays of its own, one per retry, jittered upwards by at most a tenth; instead of the exponential ones."""

    def next_delay(self, error: BaseException, *, attempts: int, random: Callable[[], float]) -> float | None:
        """Seconds until the next try after `attempts` starts, or None when there is to be none.

        `random` gives a number in [0, 1).
        """
        if not is_retryable(error) or attempts > self.max_retries:
            return None
        asked = retry_after(error)
        if asked is not None:
            return min(max(asked, 0.0), LONGEST_WAIT)
        if self.schedule is not None:
            step = self.schedule[min(attempts, len(self.schedule)) - 1]
            return step * (1 + random() / 10)
        return random() * min(self.delay * 2 ** min(attempts - 1, 32), self.delay_max)


def is_retryable(error: BaseException) -> bool:
    """Whether doing it again may help: the platform's errors say so themselves, unknown ones are given a chance."""
    if isinstance(error, PlatformError):
        return error.retryable
    return not isinstance(error, TypeError | ValueError | LookupError | AttributeError | NotImplementedError)


def retry_after(error: BaseException) -> float | None:
    """The wait in seconds that the error itself asks for."""
    return error.retry_after if isinstance(error, PlatformError) else None
