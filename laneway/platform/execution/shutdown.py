"""Stores whether this worker shuts down, in one byte of memory that the main process shares with its children."""

from __future__ import annotations

import mmap

_flag = mmap.mmap(-1, 1)  # anonymous and shared: created before the fork, so every child sees the same byte


def announce_shutdown() -> None:
    """Make `Context.loop` stop at its next item, in this process and in its children."""
    _flag[0] = 1


def is_shutting_down() -> bool:
    """Whether a shutdown was announced."""
    return _flag[0] == 1
