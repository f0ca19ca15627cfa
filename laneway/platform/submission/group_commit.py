"""Group commit: what several threads ask for at the same moment is done together by one of them.

Nobody waits for company: who finds nobody at work begins at once, alone, and what comes meanwhile is the next group.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Lock, get_ident
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST: Final = 100
"""In one group."""
PATIENCE: Final = 60.0
"""Seconds after which who still waits does its own alone: whoever led was stopped where nothing could be passed on."""


class _Place(Generic[T, R]):
    """One who asks."""

    __slots__ = ("item", "leads", "outcome", "told")

    def __init__(self, item: T) -> None:
        self.item, self.leads, self.told = item, False, Event()
        self.outcome: R | Exception | None = None


class GroupCommit(Generic[T, R]):
    """For any thread. `work` gives back what became of each, in order: an exception is raised for that one alone."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._work = work
        self._forget()

    def do(self, item: T) -> R:
        """Have this done. Raises what `work` raises, or has for this one."""
        if self._pid != os.getpid():
            self._forget()  # the others, and perhaps the lock, were left behind by a fork
        place = _Place[T, R](item)
        if get_ident() not in self._leading and (self._is_first(place) or self._is_called(place)):
            self._lead(place)
        outcome = place.outcome
        if outcome is None:  # its leader was stopped; or it is asked for amid the work, by the one who does that
            outcome = self._work([item])[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _forget(self) -> None:
        self._pid, self._lock, self._busy = os.getpid(), Lock(), False
        self._waiting: deque[_Place[T, R]] = deque()
        self._leading: set[int] = set()

    def _is_first(self, place: _Place[T, R]) -> bool:
        with self._lock:
            self._waiting.append(place)
            first, self._busy = not self._busy, True
        return first

    def _is_called(self, place: _Place[T, R]) -> bool:
        """Wait until it is done, or for this one to do it."""
        try:
            told = place.told.wait(PATIENCE)
        except BaseException:
            self._withdraw(place)
            raise
        if not told:
            self._withdraw(place)
            self._pass_on()  # a second leader does no harm, none at all would have everybody wait as long
        return place.leads

    def _lead(self, place: _Place[T, R]) -> None:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        outcomes: Sequence[R | Exception | None] = [None] * len(group)
        self._leading.add(get_ident())
        try:
            outcomes = self._work([one.item for one in group])
        except Exception as error:  # noqa: BLE001 - each gets it
            outcomes = [error] * len(group)
        finally:
            self._leading.discard(get_ident())
            for one, outcome in zip(group, outcomes, strict=True):
                one.outcome = outcome
                if one is not place:
                    one.told.set()
            self._pass_on()

    def _withdraw(self, place: _Place[T, R]) -> None:
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
        if place.leads:
            place.leads = False
            self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting[0].leads = True
                self._waiting[0].told.set()
