"""Makes sure that results are stored before their tasks are acknowledged.

A task may be acked only after its result is stored, but results need not be sent one by one. Result stores register
here. The sender of a process's acks flushes them before each group of acks:

    start_buffering(wake)   # once, in the process that acks; a forked child does not inherit it
    flush_buffers()         # results first; after ServerLost send no acks, and call it again later
    engine.ack(group)       # then the acks

After `start_buffering`, a store may keep final results in memory. It calls `wake` when it has kept one, and the sender
calls `flush_buffers` within some milliseconds. A process that does not call `start_buffering` stores each result at
once.
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
        """Send the writes that wait. Raises ServerLost, and keeps those that were not sent."""
        ...


def register(buffer: Buffer) -> None:
    """Flush this buffer before each group of acks, as long as it lives."""
    _buffers.add(buffer)


def start_buffering(wake: Wake) -> None:
    """Let the buffers of this process keep writes until `flush_buffers`; they call `wake` when they keep one."""
    global _buffering  # noqa: PLW0603 - a process has one sender of acks
    _buffering = (os.getpid(), wake)


def stop_buffering(wake: Wake | None = None) -> None:
    """Flush the buffers, and store results at once again. Buffering that has another `wake` goes on."""
    global _buffering  # noqa: PLW0603
    if wake is None or (_buffering is not None and _buffering[1] == wake):
        _buffering = None
    flush_buffers()


def buffering_wakeup() -> Wake | None:
    """What a buffer calls when it has kept a write; None: buffers must not keep any."""
    if _buffering is None or _buffering[0] != os.getpid():
        return None
    return _buffering[1]


def flush_buffers() -> None:
    """Send all writes that wait in this process. Raises ServerLost, or the server's error."""
    for buffer in list(_buffers):
        buffer.flush()


_buffering: tuple[int, Wake] | None = None
_buffers: WeakSet[Buffer] = WeakSet()
