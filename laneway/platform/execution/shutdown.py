"""Whether this worker shuts down: one byte that the main process shares with the children that it forks."""

from __future__ import annotations

import mmap

_flag = mmap.mmap(-1, 1)  # shared and anonymous: made before the fork, seen by all after it


def announce_shutdown() -> None:
    """Long loops stop at their next item."""
    _flag[0] = 1


def shutting_down() -> bool:
    """Whether a shutdown was announced."""
    return _flag[0] == 1
