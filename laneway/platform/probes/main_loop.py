"""Whether the main loop of a process turns: that of a worker's consumer, or the ticks of Beat."""

from __future__ import annotations

from time import monotonic
from typing import Final

STALLED_SECONDS: Final = 30.0
"""A loop that has not turned for this long hangs. A turn that waits for a broker that is away takes less."""
STARTS: Final = "It starts."


class MainLoop:
    """What the main thread of this process says of itself. Other threads read it."""

    def __init__(self) -> None:
        self._waits: str | None = STARTS
        self._turned_at = 0.0
        self._sleeps = 0.0
        self._is_in_turn = False
        self._is_over = False

    def begin_turn(self) -> None:
        """Note that a turn begins, so that a first one that never ends is a stall, too."""
        self._turned_at, self._sleeps, self._is_in_turn = monotonic(), 0.0, True

    def turn(self, *, sleeps: float = 0.0) -> None:
        """Note that the loop turns now. `sleeps`: seconds that it will sleep before its next turn."""
        self._turned_at, self._sleeps, self._is_in_turn = monotonic(), sleeps, False
        if not self._is_over:
            self._waits = None

    def leave(self, reason: str, *, for_good: bool = False) -> None:
        """Note that the process has left the loop, and why, in a sentence. `for_good`: it ends."""
        self._is_in_turn = False
        if not self._is_over:
            self._waits, self._is_over = reason, for_good

    @property
    def waits(self) -> str | None:
        """Why the process is not in its loop; None: it is."""
        return self._waits

    @property
    def stall(self) -> str | None:
        """That the loop hangs, in a sentence; None: it turns, or the process is not in it."""
        seconds = monotonic() - self._turned_at - self._sleeps
        is_elsewhere = self._waits is not None and not self._is_in_turn
        if is_elsewhere or seconds <= STALLED_SECONDS:
            return None
        return f"Its main loop has not turned for {seconds:.0f} s."
