"""Decides when a failed task is retried: a pure function, and the only place that decides this.

Exponential backoff with full jitter, capped (Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog,
2015): a random delay between zero and the cap spreads many simultaneous failures best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laneway.platform.errors import PlatformError

LONGEST_WAIT = 86_400.0
"""Seconds. A longer `Retry-After` is cut to this."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to retry, and how many seconds to wait after each failure."""

    max_retries: int
    delay: float
    delay_max: float
    schedule: Sequence[float] | None = None
    """Seconds before each retry, instead of the exponential delays; jitter adds at most a tenth."""

    def next_delay(self, error: BaseException, *, attempts: int, random: Callable[[], float]) -> float | None:
        """Seconds until the next attempt after `attempts` attempts, or None when there is none.

        `random` returns a number in [0, 1). A wait that the error itself asks for replaces the computed one.
        """
        if not is_retryable(error) or attempts > self.max_retries:
            return None
        requested = retry_after(error)
        if requested is not None:
            return min(max(requested, 0.0), LONGEST_WAIT)
        if self.schedule is not None:
            step = self.schedule[min(attempts, len(self.schedule)) - 1]
            return step * (1 + random() / 10)
        return random() * min(self.delay * 2 ** min(attempts - 1, 32), self.delay_max)


def is_retryable(error: BaseException) -> bool:
    """Whether a retry may help.

    The platform's errors say so themselves. Of other errors, those that point to a bug are not retried.
    """
    if isinstance(error, PlatformError):
        return error.retryable
    return not isinstance(error, TypeError | ValueError | LookupError | AttributeError | NotImplementedError)


def retry_after(error: BaseException) -> float | None:
    """The wait in seconds that the error itself asks for, if any."""
    return error.retry_after if isinstance(error, PlatformError) else None
