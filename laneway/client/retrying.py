"""When a request is repeated: after an error that a repeat can mend, with growing pauses, until a deadline."""

from __future__ import annotations

import random
import time

from laneway.client.errors import AWAY, ClientError, ServerError, TooManyRequests, Unreachable

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds. The pause doubles after each attempt; its second half is random, so that clients do not come together."""


class Retrying:
    """Decides about the repeats of one request."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE

    def pause_after(self, error: ClientError, *, repeatable: bool) -> float:
        """Return the seconds to wait before the next attempt; raise the error if there is none.

        `repeatable`: a repeat does no harm, even if the platform did what was asked and only its answer was lost.
        """
        if not self._may_help(error, repeatable=repeatable):
            raise error
        pause = self._pause * random.uniform(0.5, 1)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if isinstance(error, TooManyRequests | ServerError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if time.monotonic() + pause >= self._deadline:
            raise error
        return pause

    @staticmethod
    def _may_help(error: ClientError, *, repeatable: bool) -> bool:
        if isinstance(error, TooManyRequests):
            return True
        is_away = isinstance(error, Unreachable) or (isinstance(error, ServerError) and error.status in AWAY)
        return repeatable and is_away
