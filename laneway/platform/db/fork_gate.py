"""Delays forks during blocks of work that must not be copied half done into a child process.

A worker's main process forks its pool processes while its other threads work (maintenance, at least). A child has only
the thread that forked, and a copy of all memory as it was at that moment. Whatever another thread was in the middle of
stays half done in the child for ever:

- SQLite records in the memory of the process which locks it holds on a file. A child that was forked during another
  thread's write transaction finds the write lock taken, and no thread can ever release it. Each of its transactions
  ends in "database is locked". SQLite also records files that are only open; the child then omits locks that it needs
  ("How To Corrupt An SQLite Database File", 2.6).
- The stream of log lines is locked while a line is written. A child that was forked at that moment hangs at its first
  log line.

So a fork waits until no thread is inside such a block, lets no thread enter one, and closes registered resources. This
uses `os.register_at_fork`, so it covers the forks of libraries as well.
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

FORK_TIMEOUT = 40.0
"""Seconds that a fork waits for other threads; longer than a SQLite writer waits for another process."""
POLL_SECONDS = 0.001


class ForkGate:
    """Keeps blocks of work and forks apart.

    It has no lock. A task can be interrupted between any two instructions (`TaskCancelled`), and a lock that was taken
    and never released would stop the whole process. Instead, a block and a fork each announce themselves first and then
    check for the other: of two that come at the same time, at least one sees the other.
    """

    def __init__(self, *, timeout: float = FORK_TIMEOUT) -> None:
        self._timeout = timeout
        self._depth_by_thread: dict[int, int] = {}
        self._forking_threads: set[int] = set()
        self._close_methods: tuple[weakref.WeakMethod[Callable[[], object]], ...] = ()
        self._locked_handlers: dict[int, list[logging.Handler]] = {}

    def close_before_fork(self, close: Callable[[], object]) -> None:
        """Call this bound method before each fork, as long as its object lives."""
        alive = (method for method in self._close_methods if method())
        self._close_methods = (*alive, weakref.WeakMethod(close))

    @contextmanager
    def block_forks(self) -> Generator[None]:
        """Let no other thread fork while the block runs; first wait for a fork in progress. Blocks may be nested."""
        thread = get_ident()
        try:
            self._enter(thread)
            yield
        finally:
            self._leave(thread)

    def before_fork(self) -> None:
        """In the forking thread: wait until all blocks of other threads have ended, and close the registered resources.

        After `timeout` seconds the fork happens anyway, and an error is logged.
        """
        thread = get_ident()
        self._forking_threads.add(thread)
        deadline = monotonic() + self._timeout
        while any(other != thread for other in tuple(self._depth_by_thread)):
            if monotonic() > deadline:
                log.error("forking while another thread uses the database: the child may not be able to use it")
                break
            sleep(POLL_SECONDS)
        for method in self._close_methods:
            if close := method():
                close()
        self._locked_handlers[thread] = list(logging.getLogger().handlers)
        for handler in self._locked_handlers[thread]:
            handler.acquire()

    def after_fork_in_parent(self) -> None:
        """Let other threads enter blocks and write log lines again."""
        thread = get_ident()
        for handler in self._locked_handlers.pop(thread, ()):
            handler.release()
        self._forking_threads.discard(thread)

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads, which the child does not have. `logging` itself has renewed its locks."""
        self._locked_handlers.clear()
        self._depth_by_thread.clear()
        self._forking_threads.clear()

    def _enter(self, thread: int) -> None:
        while True:
            depth = self._depth_by_thread.get(thread, 0)
            self._depth_by_thread[thread] = depth + 1
            if depth or not self._forking_threads - {thread}:
                return
            del self._depth_by_thread[thread]
            sleep(POLL_SECONDS)

    def _leave(self, thread: int) -> None:
        depth = self._depth_by_thread.pop(thread, 0)
        if depth > 1:
            self._depth_by_thread[thread] = depth - 1


fork_gate = ForkGate()
"""The gate of this process."""

os.register_at_fork(
    before=fork_gate.before_fork,
    after_in_parent=fork_gate.after_fork_in_parent,
    after_in_child=fork_gate.after_fork_in_child,
)
