"""Group commit: one thread does the work for all threads that submit at the same moment.

Nobody waits for a group to fill. A caller that finds no work in progress starts at once, alone. The calls that arrive
while it works form the next group, and one of them becomes its leader.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Lock, get_ident
from typing import Any, Final, Generic, TypeVar

from laneway.engine.batches import split
from laneway.platform.db.wait_limit import seconds_left

T = TypeVar("T")
R = TypeVar("R")

MAX_GROUP: Final = 100
"""Items in one group."""
MAX_GROUP_BYTES: Final = 4_194_304
"""Bytes of the items in one group. A larger item is a group of its own."""
LEADER_TIMEOUT: Final = 60.0
"""A waiter gives up on its leader after this many seconds, or at its own limit, and runs its item itself."""


class _Call(Generic[T, R]):
    """One call of `GroupCommit.run`."""

    __slots__ = ("item", "leads", "outcome", "size", "woken")

    def __init__(self, item: T, size: int) -> None:
        self.item, self.size, self.leads, self.woken = item, size, False, Event()
        self.outcome: R | Exception | None = None


class GroupCommit(Generic[T, R]):
    """Runs items in groups; safe for any thread.

    `work` returns one outcome per item, in order. An outcome that is an exception is raised in the call of its item
    only.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._work = work
        self._reset()

    def run(self, item: T, *, size: int = 0) -> R:
        """Run this item, together with the waiting ones; return its outcome. `size`: the bytes of the item.

        Raises the outcome if it is an exception, and what `work` raises.

        The leader calls `work` directly in this function, to keep the call stack of a submission short.
        """
        if self._pid != os.getpid():
            self._reset()  # a fork left the other threads behind, and perhaps a taken lock
        call = _Call[T, R](item, size)
        if get_ident() not in self._leaders and (self._enter(call) or self._wait(call)):
            group = self._take_group()
            outcomes: Sequence[R | Exception | None] = [None] * len(group)
            self._leaders.add(get_ident())
            try:
                outcomes = self._work([member.item for member in group])
            except Exception as error:  # noqa: BLE001 - raised in every call of the group
                outcomes = [error] * len(group)
            finally:
                self._leaders.discard(get_ident())
                self._hand_out(group, outcomes)
        if call.outcome is None:  # the wait timed out, its leader was interrupted, or `work` itself made this call
            call.outcome = self._work([item])[0]
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call.outcome

    def _reset(self) -> None:
        self._pid, self._lock, self._busy = os.getpid(), Lock(), False
        self._waiting: deque[_Call[T, R]] = deque()
        self._leaders: set[int] = set()

    def _enter(self, call: _Call[T, R]) -> bool:
        """Join the waiting calls; True if the call becomes the leader, because no work is in progress."""
        with self._lock:
            self._waiting.append(call)
            leads, self._busy = not self._busy, True
        return leads

    def _wait(self, call: _Call[T, R]) -> bool:
        """Wait for the outcome; True if the call has to lead instead."""
        try:
            woken = call.woken.wait(seconds_left(LEADER_TIMEOUT))
        except BaseException:
            self._withdraw(call)
            raise
        if not woken:
            self._withdraw(call)
            self._appoint_leader()  # a second leader does no harm; without a leader every waiter would time out
        return call.leads

    def _take_group(self) -> list[_Call[T, R]]:
        with self._lock:
            groups = split(self._waiting, _size_of, most=MAX_GROUP, most_bytes=MAX_GROUP_BYTES)
            group = next(groups, list[_Call[T, R]]())
            for _ in group:
                self._waiting.popleft()
        return group

    def _hand_out(self, group: Sequence[_Call[T, R]], outcomes: Sequence[R | Exception | None]) -> None:
        for member, outcome in zip(group, outcomes, strict=True):
            member.outcome = outcome
            member.woken.set()
        self._appoint_leader()

    def _withdraw(self, call: _Call[T, R]) -> None:
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
        if call.leads:
            call.leads = False
            self._appoint_leader()

    def _appoint_leader(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting[0].leads = True
                self._waiting[0].woken.set()


def _size_of(call: _Call[Any, Any]) -> int:
    return call.size
