"""Decides from the seed which processes are killed, stopped or cut off, and when."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection
from random import Random

from benchmarks.chaos import profiles
from benchmarks.chaos.clock import MovableClock
from benchmarks.chaos.disturbance import KILLS, Disturbance, Kind
from benchmarks.chaos.ledger import LedgerRecords, Run
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.process import Process
from benchmarks.chaos.process_slots import ProcessSlots
from benchmarks.chaos.server import Server
from benchmarks.chaos.server_faults import ServerFaults

BESIDES = {
    Kind.SERVER: 8,
    Kind.CUT: 6,
    Kind.STOP: 12,
    Kind.PRODUCER: 10,
    Kind.RESTART: 12,
    Kind.FULL: 12,
    Kind.CLOCK: 12,
    Kind.FAILOVER: 20,
}
"""Kind → kills for each disturbance of this kind; there is at least one of each."""
ON_PROCESSES = (Kind.CHILD, Kind.WORKER, Kind.STOP, Kind.PRODUCER, Kind.RESTART)
BUSY_SHARE = 0.8
"""The share of victims that are chosen among the processes that execute a task."""
START_SECONDS = 15.0
"""A worker counts as started after this many seconds, even if it has executed nothing."""
OVERRUN_FACTOR = 1.3
"""The rest of a schedule is dropped when the run takes this many times its planned seconds."""


def schedule(plan: Plan, random: Random, *, possible: Collection[Kind] = tuple(Kind)) -> list[tuple[float, Kind]]:
    """(seconds from the start, kind) of each disturbance, spread over the run in a random order."""
    used = [kind for kind in possible if not plan.kinds or kind in plan.kinds]
    fatal = [kind for kind in KILLS if kind in used]
    kinds = [random.choice(fatal) for _ in range(plan.kills if fatal else 0)]
    kinds += [kind for kind, each in BESIDES.items() if kind in used for _ in range(max(1, plan.kills // each))]
    random.shuffle(kinds)
    step = plan.seconds / len(kinds)
    return [(step * (index + random.random()), kind) for index, kind in enumerate(kinds)]


class Director:
    """Carries out the schedule. Call `step` often, until `done`."""

    def __init__(
        self,
        plan: Plan,
        *,
        slots: ProcessSlots,
        server: Server,
        clock: MovableClock | None,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._slots, self._server, self._say = plan, slots, server, say
        self._random = Random(plan.seed)
        self._began = time.monotonic()
        self._faults = ServerFaults(
            plan, server, self._random, clock=clock, note=self._note_server_fault, later=self._in
        )
        possible = (*ON_PROCESSES, *self._faults.kinds)
        self._schedule = schedule(plan, self._random, possible=possible)[::-1]
        self._records = LedgerRecords()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self._dead: set[tuple[str, int]] = set()
        """(worker, pid) of the pool processes that were killed."""
        self.disturbances: list[Disturbance] = []

    @property
    def done(self) -> bool:
        """Whether the schedule is over, or has taken too long."""
        late = time.monotonic() - self._began > self._plan.seconds * OVERRUN_FACTOR
        return not self._later and (late or not self._schedule)

    def counts(self) -> Counter[Kind]:
        """The number of disturbances of each kind."""
        return Counter(one.kind for one in self.disturbances)

    def step(self, records: LedgerRecords) -> None:
        """Carry out the disturbances that are due. One that finds no victim is tried again at a later step."""
        self._records = records
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        if self._schedule and time.monotonic() - self._began >= self._schedule[-1][0]:
            kind = self._schedule.pop()[1]
            if not self._do(kind, records):
                # Put it behind the next two, which may find a victim meanwhile.
                self._schedule.insert(max(0, len(self._schedule) - 2), (0.0, kind))

    def _do(self, kind: Kind, records: LedgerRecords) -> bool:
        if not self._server.answers():
            return False
        match kind:
            case Kind.PRODUCER:
                return self._kill_producer()
            case Kind.CHILD:
                return self._kill_child(records)
            case Kind.WORKER | Kind.STOP | Kind.RESTART:
                return self._on_worker(kind, records)
            case _:
                return self._faults.do(kind)

    def _kill_producer(self) -> bool:
        place, process = self._random.choice(sorted(self._slots.producers.items()))
        if not process.alive:
            return False
        self._note(Kind.PRODUCER, worker=process.name)
        process.kill()
        self._in(self._random.uniform(0.1, 1.0), lambda: self._slots.start_producer(place))
        return True

    def _kill_child(self, records: LedgerRecords) -> bool:
        able = [one for _, one in self._able(records) if one.name.startswith("prefork")]
        pids = {pid: one for one in able for pid in one.children()}
        busy = sorted({run.pid for run in self._running(records)} & pids.keys())
        some = busy if busy and self._random.random() < BUSY_SHARE else sorted(pids)
        if not some:
            return False
        victim = self._random.choice(some)
        running = [run.mark for run in self._running(records) if run.pid == victim]
        self._note(Kind.CHILD, worker=pids[victim].name, pid=victim, running=running)
        pids[victim].kill_child(victim)
        self._dead.add((pids[victim].name, victim))
        return True

    def _on_worker(self, kind: Kind, records: LedgerRecords) -> bool:
        able = [(place, one) for place, one in self._able(records) if not one.expected]
        busy = {run.worker for run in self._running(records)}
        some = [entry for entry in able if entry[1].name in busy] if self._random.random() < BUSY_SHARE else able
        stopped = any(one.stopped for one in self._slots.workers.values())
        if len(able) < 2 or (kind is Kind.STOP and stopped):  # another worker must be able to take over
            return False
        place, victim = self._random.choice(some or able)
        running = [run.mark for run in self._running(records) if run.worker == victim.name]
        one = self._note(kind, worker=victim.name, pid=victim.pid, running=running)
        if kind is Kind.RESTART:
            victim.terminate()
            self._restart(one, place, victim)
            return True
        victim.stop()  # so that the messages that it holds do not change while they are read
        held = profiles.leased_by(self._plan, victim.pid)
        one.held = [records.marks[id] for id in held if id in records.marks]
        if kind is Kind.STOP:
            self._stop(one, victim)
        else:
            victim.kill()
            self._in(self._random.uniform(0.0, 1.0), lambda: self._slots.start_worker(place))
        return True

    def _stop(self, one: Disturbance, victim: Process) -> None:
        def resume() -> None:
            one.until = time.monotonic()
            victim.resume()

        one.until = float("inf")
        self._in(self._plan.redelivery_seconds + self._random.uniform(1, 4), resume)

    def _restart(self, one: Disturbance, place: str, victim: Process, waited: float = 0.0) -> None:
        if victim.alive and waited < 30:
            self._in(0.2, lambda: self._restart(one, place, victim, waited + 0.2))
            return
        one.until = time.monotonic()
        one.note = "did not end in 30 s" if victim.alive else f"took {one.until - one.at:.1f} s"
        self._slots.start_worker(place)

    def _able(self, records: LedgerRecords) -> list[tuple[str, Process]]:
        """The workers that have started. Killing an earlier one shows little, because Celery itself gives up then."""
        since = time.monotonic() - START_SECONDS
        return [
            entry for entry in self._slots.able() if entry[1].name in records.last_began or entry[1].started < since
        ]

    def _running(self, records: LedgerRecords) -> list[Run]:
        """The runs that living processes execute."""
        living = {one.name for one in self._slots.workers.values() if one.alive}
        return [
            one for one in records.running.values() if one.worker in living and (one.worker, one.pid) not in self._dead
        ]

    def _note(self, kind: Kind, *, worker: str = "", pid: int = 0, running: list[str] | None = None) -> Disturbance:
        one = Disturbance(len(self.disturbances) + 1, kind, time.monotonic(), worker, pid, running=running or [])
        self.disturbances.append(one)
        self._say(f"{one}{f', running {len(one.running)}' if one.running else ''}")
        return one

    def _note_server_fault(self, kind: Kind) -> Disturbance:
        running = [] if kind in (Kind.CUT, Kind.FULL) else [run.mark for run in self._running(self._records)]
        return self._note(kind, running=running)

    def _in(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._tie), action))
