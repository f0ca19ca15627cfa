"""Calls of a function that may never return, and of one that many ask for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from time import monotonic
from typing import Final, Generic, TypeVar

T = TypeVar("T")

RECENT_SECONDS: Final = 1.0
"""A result is not older than this when it is given to whoever asks."""


class SingleCall(Generic[T]):
    """Calls a function in a thread, one call at a time. The thread does not hold up the end of the process.

    A disk that stands still, or a server whose disk does, answers nothing, and no limit of a driver ends that wait. A
    call that has not returned is not repeated: whoever asks meanwhile waits for it as well, or learns at once that its
    time is over.
    """

    def __init__(self, function: Callable[[], T], *, seconds: float, name: str) -> None:
        self._function, self._seconds, self._name = function, seconds, name
        self._lock = Lock()
        self._call: Future[T] | None = None
        self._ends = 0.0

    def result(self) -> T:
        """What the function returns or raises.

        Raises TimeoutError after the seconds of a call, and RuntimeError if the system gives no thread.
        """
        with self._lock:
            call = self._call
            if call is None or call.done():
                call = Future[T]()
                Thread(target=self._run, args=(call,), name=self._name, daemon=True).start()
                self._call, self._ends = call, monotonic() + self._seconds
            ends = self._ends
        return call.result(max(0.0, ends - monotonic()))

    def _run(self, call: Future[T]) -> None:
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it
            call.set_exception(error)
        else:
            call.set_result(result)


class RecentCall(Generic[T]):
    """The result of a function, which is called at most once in `RECENT_SECONDS`, however many ask.

    Those who ask while it is called wait for its result.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function, self._lock = function, Lock()
        self._known: tuple[T, float] | None = None

    def result(self) -> T:
        """What the function returned not long ago, or returns now."""
        with self._lock:
            if self._known is None or monotonic() - self._known[1] >= RECENT_SECONDS:
                self._known = self._function(), monotonic()
            return self._known[0]
