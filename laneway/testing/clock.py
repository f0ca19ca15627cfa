"""The platform's clock (`laneway.platform.clock.now`) under the control of a test."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

from laneway.platform import clock

Moved = Callable[[float], object]


class Clock:
    """A clock that a test moves. It runs in between, or stands still if it was set to a time."""

    def __init__(self, at: datetime | None = None) -> None:
        """`at`: the time at which it stands still; a time without a zone is UTC. None: it runs."""
        self._base, self._start, self._ahead = clock.source(), clock.aware(at), timedelta(0)
        self._listeners: list[Moved] = []

    def now(self) -> datetime:
        """Its time, in UTC."""
        return (self._start or self._base()) + self._ahead

    def move(self, seconds: float | timedelta) -> None:
        """Move it forward. Raises ValueError for a step back: the platform's time never goes back."""
        step = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        if step < timedelta(0):
            raise ValueError(f"A clock moves forward only, not by {step.total_seconds():g} seconds.")
        self._ahead += step
        for moved in self._listeners:
            moved(step.total_seconds())

    def move_to(self, time: datetime) -> None:
        """Move it forward to a time; a time without a zone is UTC. Raises ValueError for a time before its own."""
        self.move((clock.aware(time) or time) - self.now())

    def on_move(self, moved: Moved) -> None:
        """Call this function with the seconds of each later move."""
        self._listeners.append(moved)

    @contextmanager
    def installed(self) -> Generator[None]:
        """While the block runs, this is the clock of the platform in this process."""
        with clock.replaced(self.now):
            yield
