"""The memory of a process and of the processes that it has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROCESSES: Final = Path("/proc")
RESIDENT: Final = 1
"""The field of `/proc/PID/statm` with the pages that are in memory."""


def memory_of_tree(pid: int) -> int | None:
    """Bytes of memory that a process and all below it use (RSS); None where the system does not say.

    Pages that a forked process shares with its parent count for both. A process that ends meanwhile counts nothing.
    """
    if (own := _resident(pid)) is None:
        return None
    return own + sum(_resident(child) or 0 for child in _descendants(pid))


def _resident(pid: int) -> int | None:
    try:
        return int((PROCESSES / str(pid) / "statm").read_text().split()[RESIDENT]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> list[int]:
    """The children of all threads of a process."""
    try:
        threads = list((PROCESSES / str(pid) / "task").iterdir())
    except OSError:
        return []
    return [child for thread in threads for child in _children_of_thread(thread)]


def _children_of_thread(thread: Path) -> list[int]:
    """Empty if the thread has ended meanwhile."""
    try:
        return [int(child) for child in (thread / "children").read_text().split()]
    except (OSError, ValueError):
        return []
