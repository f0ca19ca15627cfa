"""A lock that is free in a forked child, whatever the threads of the parent held during the fork."""

from __future__ import annotations

import os
import threading
from types import TracebackType


class ForkLock:
    """A reentrant lock. A child that is forked while another thread holds it gets a free one.

    An ordinary lock would stay taken in the child for ever, because the thread that would release it does not exist
    there.
    """

    def __init__(self) -> None:
        self._lock, self._pid = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            self._lock, self._pid = threading.RLock(), os.getpid()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pid == os.getpid():  # not in a child that was forked inside the block
            self._lock.release()
