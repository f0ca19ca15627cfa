"""What the director does to the server: kills, cut connections, full memory, a moved clock, a failover."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Protocol

from redis.exceptions import RedisError

from benchmarks.chaos.clock import READ_SECONDS, MovableClock
from benchmarks.chaos.disturbance import Disturbance, Kind
from benchmarks.chaos.pair import Pair
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.server import NoServer, Server

PROMOTION_SECONDS = 60.0
FULL_SECONDS = (1.0, 4.0)


class Note(Protocol):
    """Records a disturbance that begins now."""

    def __call__(self, kind: Kind) -> Disturbance:
        """Record it and return it."""
        ...


class ServerFaults:
    """The disturbances of the server. Only one lasts at a time."""

    def __init__(
        self,
        plan: Plan,
        server: Server,
        random: Random,
        *,
        clock: MovableClock | None,
        note: Note,
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._plan, self._server, self._random, self._clock = plan, server, random, clock
        self._note, self._later = note, later
        self._open: Disturbance | None = None
        self._do = {
            Kind.SERVER: self._kill,
            Kind.CUT: self._cut,
            Kind.FULL: self._fill,
            Kind.CLOCK: self._move_clock,
            Kind.FAILOVER: self._fail_over,
        }

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that this run can do."""
        missing = {
            kind
            for kind, present in ((Kind.CLOCK, self._clock), (Kind.FAILOVER, isinstance(self._server, Pair)))
            if not present
        }
        return tuple(kind for kind in self._do if kind not in missing)

    def do(self, kind: Kind) -> bool:
        """Do it now; False: it is not possible now."""
        if self._open is not None:
            return False
        self._do[kind]()
        return True

    def _begin(self, kind: Kind) -> Disturbance:
        one = self._open = self._note(kind)
        one.until = float("inf")
        return one

    def _end(self, one: Disturbance, note: str) -> None:
        one.until, self._open = time.monotonic(), None
        one.note = note

    def _kill(self) -> None:
        one = self._begin(Kind.SERVER)
        self._server.kill()

        def back() -> None:
            self._server.start()
            self._end(one, f"away for {time.monotonic() - one.at:.2f} s")

        self._later(self._random.uniform(0.1, 2.0), back)

    def _cut(self) -> None:
        one = self._note(Kind.CUT)
        share = self._random.choice((0.3, 0.7, 1.0))
        try:
            one.note = f"{self._server.cut(self._random, share=share)} connections"
        except RedisError as error:
            one.note = str(error)

    def _fill(self) -> None:
        one = self._begin(Kind.FULL)
        self._server.set_full(full=True)

        def release() -> None:
            self._server.set_full(full=False)
            self._end(one, f"full for {time.monotonic() - one.at:.2f} s")

        self._later(self._random.uniform(*FULL_SECONDS), release)

    def _move_clock(self) -> None:
        if self._clock is None:
            raise ValueError("the server has no clock that can be moved")
        one = self._note(Kind.CLOCK)
        redelivery = self._plan.redelivery_seconds
        one.moved = round(
            self._random.choice((self._random.uniform(1, 2), -self._random.uniform(0.3, 1))) * redelivery, 1
        )
        # A worker learns with its next renewal that a lease is over.
        one.until = one.at + READ_SECONDS + redelivery / 3 + 1
        one.note = f"moved by {one.moved:+g} s"
        self._clock.move(one.moved)

    def _fail_over(self) -> None:
        pair = self._server
        if not isinstance(pair, Pair):
            raise TypeError("a single server has no replica")
        one = self._begin(Kind.FAILOVER)
        pair.kill()

        def look() -> None:
            if pair.is_promoted():
                pair.rejoin()
                self._end(one, f"promoted after {time.monotonic() - one.at:.2f} s")
            elif time.monotonic() - one.at > PROMOTION_SECONDS:
                raise NoServer(f"the replica was not promoted within {PROMOTION_SECONDS:g} s")
            else:
                self._later(0.1, look)

        self._later(0.1, look)
