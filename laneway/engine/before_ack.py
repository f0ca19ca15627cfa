"""What must be on the server before a task is acknowledged.

A task may be acked only after its result is stored, but results need not be sent one by one. Result stores register
here, and whoever sends the acks of a process flushes them first:

    start_buffering(wake)   # once, in the process that acks; a fork's child starts without
    flush_buffers()         # results first; raises ServerLost: send no acks then, and call it again later
    engine.ack(group)       # then the acks

From `start_buffering` on a store may keep final results in memory. It calls `wake` when one begins to wait, and
`flush_buffers` must follow within some milliseconds. In a process that does not call `start_buffering` each result
is stored at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

Wake = Callable[[], None]


class Buffer(Protocol):
    """Something that keeps writes in memory and sends them on request."""

    def flush(self) -> None:
        """Send what waits. Raises ServerLost, and keeps what was not sent."""
        ...


def register(buffer: Buffer) -> None:
    """Flush this buffer before each group of acks, as long as it lives."""
    _buffers.add(buffer)


def start_buffering(wake: Wake) -> None:
    """Let the buffers of this process wait for `flush_buffers`; they call `wake` when something begins to wait."""
    global _buffering  # noqa: PLW0603 - a process has one sender of acks
    _buffering = (os.getpid(), wake)


def stop_buffering(wake: Wake | None = None) -> None:
    """Send what waits, and store results at once again; keep buffering if it was started with another `wake`."""
    global _buffering  # noqa: PLW0603
    if wake is None or (_buffering is not None and _buffering[1] == wake):
        _buffering = None
    flush_buffers()


def buffering_wakeup() -> Wake | None:
    """What a buffer calls when something begins to wait in it; None: buffers must not keep anything."""
    if _buffering is None or _buffering[0] != os.getpid():
        return None
    return _buffering[1]


def flush_buffers() -> None:
    """Send everything that waits in this process. Raises ServerLost, or the server's error."""
    for buffer in list(_buffers):
        buffer.flush()


_buffering: tuple[int, Wake] | None = None
_buffers: WeakSet[Buffer] = WeakSet()
