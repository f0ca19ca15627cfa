"""One run: start everything, disturb it, wait until all tasks are done, and judge."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from benchmarks.chaos import profiles
from benchmarks.chaos.clock import NOT_INSTALLED, MovableClock, find_library
from benchmarks.chaos.director import Director
from benchmarks.chaos.disturbance import Disturbance, Kind
from benchmarks.chaos.ledger import LedgerReader, LedgerRecords
from benchmarks.chaos.pair import Pair
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.process_slots import Crash, ProcessSlots
from benchmarks.chaos.server import Server, free_port
from benchmarks.chaos.verdict import JudgingTerms, Promise, Verdict, judge, promises

TICK_SECONDS = 0.05
SAY_SECONDS = 5.0
START_SECONDS = 60.0
DRAIN_SECONDS = 20.0
"""Seconds, in addition to the lease, that the remaining tasks may take without any disturbance."""


class NotStarted(Exception):
    """The workers did not execute any task, so there was nothing to disturb."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judged run."""

    plan: Plan
    server: str
    verdict: Verdict
    promises: list[Promise]
    disturbances: list[Disturbance]
    crashes: list[Crash]
    would_not_stop: list[str]
    drained: float | None
    """Seconds until the last accepted task had ended and the server was empty; None: not by the deadline."""
    took: float

    @property
    def clean(self) -> bool:
        """Whether all promises held."""
        return all(promise.held for promise in self.promises)


class Chaos:
    """Runs one transport in its own folder, which is emptied first."""

    def __init__(self, plan: Plan, *, say: Callable[[str], None]) -> None:
        self._plan = plan.under(plan.transport, port=free_port())
        shutil.rmtree(self._plan.folder, ignore_errors=True)
        self._plan.folder.mkdir(parents=True)
        self._began, self._say_line = time.monotonic(), say
        self._said = 0.0
        library = find_library()
        self._clock = MovableClock(library, self._plan.folder / "clock") if library else None
        make = Pair if self._plan.is_pair else Server
        folder = self._plan.folder / "server"
        self._server = make(folder, port=self._plan.port, fsync=plan.fsync, clock=self._clock)
        self._slots = ProcessSlots(self._plan)
        self._reader = LedgerReader(self._plan)

    def run(self) -> Outcome:
        """Run and judge. No process is left afterwards."""
        try:
            if self._clock is None:
                self._say(NOT_INSTALLED)
            self._server.start()
            profiles.set_limit(self._plan)
            self._slots.start()
            self._wait_for_work()
            director = Director(self._plan, slots=self._slots, server=self._server, clock=self._clock, say=self._say)
            self._disturb(director)
            drained = self._drain()
            return self._judge(director, drained)
        finally:
            self._slots.end()
            self._server.end()

    def _wait_for_work(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        names = {one.name for one in self._slots.workers.values()}
        while not names <= self._reader.refresh().last_began.keys():
            if time.monotonic() > deadline or self._slots.crashes:
                idle = ", ".join(sorted(names - self._reader.records.last_began.keys()))
                raise NotStarted(f"nothing was executed by {idle}; see {self._plan.folder / 'logs'}")
            self._slots.look()
            time.sleep(TICK_SECONDS)
        self._say("every worker has executed a task")

    def _disturb(self, director: Director) -> None:
        while not director.done:
            records = self._reader.refresh()
            self._hold(records)
            director.step(records)
            self._slots.look()
            self._progress(records, director)
            time.sleep(TICK_SECONDS)

    def _hold(self, records: LedgerRecords) -> None:
        # Tasks that are stuck or lost must not make the producers pause for ever.
        since = time.monotonic() - self._plan.redelivery_seconds - 2 * self._plan.margin
        if records.waiting_since(since) > self._plan.most_waiting:
            self._plan.hold.touch()
        else:
            self._plan.hold.unlink(missing_ok=True)

    def _drain(self) -> float | None:
        """Wait until all accepted tasks have ended and the server is empty; returns the seconds, None at the limit."""
        began = time.monotonic()
        self._slots.end_producers()
        self._say("the producers have ended; the workers do the remaining tasks")
        while (now := time.monotonic()) < began + self._plan.redelivery_seconds + DRAIN_SECONDS:
            records = self._reader.refresh()
            if not records.waiting() and not self._left():
                return now - began
            self._slots.look()
            self._progress(records, None)
            time.sleep(0.2)
        return None

    def _left(self) -> int:
        try:
            return profiles.left(self._plan)
        except (RedisError, OSError):
            return 1

    def _judge(self, director: Director, drained: float | None) -> Outcome:
        records = self._reader.refresh()
        missing = [o.task_id for o in records.offers.values() if o.accepted_at and o.mark not in records.ended]
        held = profiles.held(self._plan, missing) if missing else {}
        version = self._server.version()
        lifetimes = self._slots.lifetimes()
        would_not_stop = self._slots.end_workers()
        terms = JudgingTerms(
            redelivery_seconds=self._plan.redelivery_seconds, margin=self._plan.margin, origin=self._began, held=held
        )
        verdict = judge(self._reader.refresh(), director.disturbances, terms=terms, lifetimes=lifetimes)
        return Outcome(
            plan=self._plan,
            server=version,
            verdict=verdict,
            promises=promises(verdict, terms=terms, ordered=self._plan.transport == "laneway"),
            disturbances=director.disturbances,
            crashes=self._slots.crashes,
            would_not_stop=would_not_stop,
            drained=drained,
            took=time.monotonic() - self._began,
        )

    def _progress(self, records: LedgerRecords, director: Director | None) -> None:
        if time.monotonic() - self._said < SAY_SECONDS:
            return
        self._said = time.monotonic()
        counts: dict[Kind, int] = director.counts() if director else {}
        done = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        self._say(f"accepted {records.accepted}, ended {len(records.ended)}, waiting {records.waiting()}; {done}")

    def _say(self, line: str) -> None:
        self._say_line(f"[{self._plan.transport} {time.monotonic() - self._began:6.1f} s] {line}")
