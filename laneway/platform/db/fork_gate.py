"""What no thread may be in the middle of when its process forks: the child would have it half done for ever.

A worker's main process starts new pool processes while its other threads work (the steward, at least). A child
has only the thread that forked, and a copy of everything else as it was at that moment:

- SQLite notes in the process's own memory which locks on a file the process has. A child that was forked in
  another thread's write transaction finds the write lock taken, by nobody who could ever give it back: each of
  its transactions ends in "database is locked". A file that is merely open is noted too, and the child then
  leaves out locks that it needs ("How To Corrupt An SQLite Database File", 2.6).
- The stream that log lines go to is locked while a line is written; a child that was forked then stands still
  at its first line.

So a fork waits for a moment in which nobody is in such a block, keeps others from entering one, and lets
registered resources be closed. It happens in `os.register_at_fork`, and so also for a library's forks.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import get_ident
from time import monotonic, sleep

log = logging.getLogger(__name__)

PATIENCE = 40.0
"""Seconds that a fork waits for the blocks of other threads; more than a SQLite writer waits for another process."""
POLL_SECONDS = 0.001


class ForkGate:
    """Keeps blocks of work and forks apart.

    There is no lock in it: tasks are interrupted between any two instructions (`TaskCancelled`), and one taken
    and not released would stop everything. Each side says what it does first, and then looks at the other.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._inside: dict[int, int] = {}
        self._forking: set[int] = set()
        self._before: tuple[weakref.WeakMethod[Callable[[], object]], ...] = ()
        self._taken: dict[int, list[logging.Handler]] = {}

    def before(self, close: Callable[[], object]) -> None:
        """Call this bound method before each fork, as long as its object lives."""
        self._before = (*(one for one in self._before if one()), weakref.WeakMethod(close))

    @contextmanager
    def held_off(self) -> Generator[None]:
        """No fork by another thread while the block lasts; waits for one that is under way. May be nested."""
        me = get_ident()
        try:
            self._enter(me)
            yield
        finally:
            self._leave(me)

    def close(self) -> None:
        """In the forking thread: wait until nobody is inside, and close what must not be open."""
        me = get_ident()
        self._forking.add(me)
        deadline = monotonic() + self._patience
        while any(thread != me for thread in tuple(self._inside)):
            if monotonic() > deadline:
                log.error("a process is forked while a thread uses the database: the new one may not be able to")
                break
            sleep(POLL_SECONDS)
        for method in self._before:
            if close := method():
                close()
        self._taken[me] = list(logging.getLogger().handlers)
        for handler in self._taken[me]:
            handler.acquire()

    def open(self) -> None:
        """In the parent, after the fork: let the others go on."""
        me = get_ident()
        for handler in self._taken.pop(me, ()):
            handler.release()
        self._forking.discard(me)

    def renew(self) -> None:
        """In the child: there are no others, and logging has made its locks anew."""
        self._taken.clear()
        self._inside.clear()
        self._forking.clear()

    def _enter(self, me: int) -> None:
        while True:
            depth = self._inside.get(me, 0)
            self._inside[me] = depth + 1
            if depth or not self._forking - {me}:
                return
            del self._inside[me]
            sleep(POLL_SECONDS)

    def _leave(self, me: int) -> None:
        depth = self._inside.pop(me, 0)
        if depth > 1:
            self._inside[me] = depth - 1


gate = ForkGate()
"""This process's."""

os.register_at_fork(before=gate.close, after_in_parent=gate.open, after_in_child=gate.renew)
