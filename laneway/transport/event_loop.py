"""Lets Celery's event loop wait for work: adds a transport's connections and timers to it, and removes them."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from typing import Any

from laneway.transport.poller import Poller
from laneway.transport.write_through import write_through_loops

MAX_PER_TURN = 32
"""The most messages handed out in one turn of the event loop, which must also serve the pipes of the pool."""
CHECK_SECONDS = 10
"""Seconds between two checks for dead connections."""


class TickTimer:
    """Ends the event loop's wait in time for the next tick.

    The loop first chooses how long it will wait, and then calls `on_tick`. So a timer that `on_tick` sets takes effect
    one round late. A byte in a pipe starts that round at once.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._at, self._at_once = 0.0, False
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._close = weakref.finalize(self, _close, self._read, self._write)
        loop.add_reader(self._read, self._on_byte)

    def set(self, seconds: float) -> None:
        """Make the loop tick again within this many seconds. 0: in each round, until another time is set."""
        if self._read not in self._loop.readers:  # a reset of the worker's loop removes all readers
            self._loop.add_reader(self._read, self._on_byte)
        now, was_at_once, self._at_once = time.monotonic(), self._at_once, seconds <= 0
        if not seconds:
            if not was_at_once:
                self._wake_loop()
            return
        if not now < self._at <= now + seconds + 0.001:
            self._at = now + seconds
            self._loop.call_later(seconds, _nothing)
            self._wake_loop()
        elif was_at_once:
            self._on_byte()

    def stop(self) -> None:
        """Remove the pipe from the loop, and close it."""
        if self._close.alive:
            self._loop.remove_reader(self._read)
            self._close()

    def _wake_loop(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def _on_byte(self) -> None:
        if self._at_once:
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)


class EventLoopDriver:
    """Hands out messages in each turn of Celery's event loop, and has the loop watch the poller's connections."""

    def __init__(self, loop: Any, poller: Poller, *, poll_interval: float) -> None:
        self._loop, self._poller, self._poll_interval = loop, poller, poll_interval
        self._timer = TickTimer(loop)
        loop.on_tick.add(self._on_tick)
        self._checks = loop.call_repeatedly(CHECK_SECONDS, poller.replace_dead_connections)

    def stop(self) -> None:
        """Remove everything from the loop except the connections, which are removed when they are closed."""
        self._loop.on_tick.discard(self._on_tick)
        self._checks.cancel()
        self._timer.stop()

    def stop_watching(self, descriptor: int) -> None:
        """Remove this descriptor from the loop."""
        self._loop.remove_reader(descriptor)

    def _on_tick(self) -> None:
        has_more = self._take_turn()
        for descriptor in self._poller.connections():
            if descriptor not in self._loop.readers:
                self._loop.add_reader(descriptor, self._on_readable, descriptor)
        self._timer.set(0 if has_more else self._poller.seconds_until_due(self._poll_interval))

    def _on_readable(self, descriptor: int) -> None:
        if descriptor not in self._poller.connections():
            self._loop.remove_reader(descriptor)
            return
        self._poller.read(descriptor)

    def _take_turn(self) -> bool:
        """Hand out messages; stop after one that used `call_soon`, as an ack does, because that runs in the next turn.

        So a pool that blocks sends the ack of a task before it gets the next one, and other pools get many messages in
        one turn. Returns True if the loop must not wait before its next round: there is more to hand out, or the pool
        got work too late in this round to write it to its processes. (Celery's prefork pool; the pool of
        `laneway.worker.prefork` writes at once.)
        """
        for handed_out in range(MAX_PER_TURN):
            if not self._poller.step():
                return handed_out > 0 and self._loop not in write_through_loops
            if self._loop._ready:
                break
        return True


def _nothing() -> None:
    """Do nothing: the timer only ends the loop's wait, and the next tick does the work."""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
