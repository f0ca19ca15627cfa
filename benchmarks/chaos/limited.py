"""How many tasks of the shared limit ran at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

LIMIT: Final = "chaos-api"
MOST_RUNNING: Final = 2


def most_at_once(runs: Iterable[tuple[float, float]]) -> int:
    """The most of these runs, each from its beginning to its end (s), that were going on at the same moment.

    A run that begins in the moment in which another one ends comes after it.
    """
    moments = sorted(moment for began, over in runs for moment in ((began, 1), (max(began, over), -1)))
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most
