"""How late the event loop of this process runs what is due: what blocks it delays every request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

from anyio.lowlevel import RunVar

EVERY: Final = 0.5
"""Seconds between two looks."""
LOOKS: Final = 120
"""Looks that are kept: those of a minute."""
_lags: RunVar[deque[float]] = RunVar("laneway_event_loop_lags")


@asynccontextmanager
async def watched_event_loop() -> AsyncGenerator[None]:
    """Measure the lag of the running event loop in this block."""
    lags = deque[float](maxlen=LOOKS)
    _lags.set(lags)
    watching = asyncio.get_running_loop().create_task(_watch(lags), name="laneway-event-loop-lag")
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def longest_lag() -> float | None:
    """The longest lag of the running event loop within the last minute (s); None: nobody measures it."""
    return max(_lags.get(deque[float]()), default=None)


async def _watch(lags: deque[float]) -> None:
    while True:
        due = monotonic() + EVERY
        await asyncio.sleep(EVERY)
        lags.append(max(0.0, monotonic() - due))
