"""Decides, from the seed, who is killed, stopped or cut off, and when."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from redis.exceptions import RedisError

from benchmarks.chaos.crew import Crew
from benchmarks.chaos.disturbance import KILLS, Disturbance, Kind
from benchmarks.chaos.ledger import Books
from benchmarks.chaos.plan import Plan
from benchmarks.chaos.process import Process
from benchmarks.chaos.server import Server

BESIDES = {Kind.SERVER: 8, Kind.CUT: 6, Kind.STOP: 12, Kind.PRODUCER: 10, Kind.RESTART: 12}
"""One of these for so many kills, and at least one."""
BUSY_SHARE = 0.8
"""How often a victim is chosen among those that are executing a task."""
PATIENCE = 1.3
"""By how much of its time a schedule may run late before the rest of it is dropped."""


def schedule(plan: Plan, random: Random) -> list[tuple[float, Kind]]:
    """When to do what, in seconds from the start: spread over the run, in a random order."""
    kinds = [random.choice(KILLS) for _ in range(plan.kills)]
    kinds += [kind for kind, each in BESIDES.items() for _ in range(max(1, plan.kills // each))]
    random.shuffle(kinds)
    step = plan.seconds / len(kinds)
    return [(step * (index + random.random()), kind) for index, kind in enumerate(kinds)]


class Director:
    """Call `step` often; `done` says when the schedule is over."""

    def __init__(self, plan: Plan, *, crew: Crew, server: Server, say: Callable[[str], None]) -> None:
        self._plan, self._crew, self._server, self._say = plan, crew, server, say
        self._random = Random(plan.seed)
        self._began = time.monotonic()
        self._schedule = schedule(plan, self._random)[::-1]
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self.disturbances: list[Disturbance] = []

    @property
    def done(self) -> bool:
        """Whether all is done, or it takes too long."""
        late = time.monotonic() - self._began > self._plan.seconds * PATIENCE
        return not self._later and (late or not self._schedule)

    def counts(self) -> Counter[Kind]:
        """How often each was done."""
        return Counter(one.kind for one in self.disturbances)

    def step(self, books: Books) -> None:
        """Do what is due; what finds no victim now is tried again at the next step."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        if self._schedule and time.monotonic() - self._began >= self._schedule[-1][0]:
            kind = self._schedule.pop()[1]
            if not self._do(kind, books):
                # Another may find its victim meanwhile.
                self._schedule.insert(max(0, len(self._schedule) - 2), (0.0, kind))

    def _do(self, kind: Kind, books: Books) -> bool:
        if not self._server.answers():
            return False
        match kind:
            case Kind.SERVER:
                return self._kill_server(books)
            case Kind.CUT:
                return self._cut()
            case Kind.PRODUCER:
                return self._kill_producer()
            case Kind.CHILD:
                return self._kill_child(books)
            case _:
                return self._on_worker(kind, books)

    def _kill_server(self, books: Books) -> bool:
        running = [run.mark for run in books.running.values()]
        one = self._note(Kind.SERVER, running=running)
        self._server.kill()

        def back() -> None:
            self._server.start()
            one.until = time.monotonic()
            one.note = f"away for {one.until - one.at:.2f} s"

        one.until = float("inf")
        self._in(self._random.uniform(0.1, 2.0), back)
        return True

    def _cut(self) -> bool:
        one = self._note(Kind.CUT)
        share = self._random.choice((0.3, 0.7, 1.0))
        try:
            one.note = f"{self._server.cut(self._random, share=share)} connections"
        except RedisError as error:
            one.note = str(error)
        return True

    def _kill_producer(self) -> bool:
        place, process = self._random.choice(sorted(self._crew.producers.items()))
        if not process.alive:
            return False
        self._note(Kind.PRODUCER, worker=process.name)
        process.kill()
        self._in(self._random.uniform(0.1, 1.0), lambda: self._crew.start_producer(place))
        return True

    def _kill_child(self, books: Books) -> bool:
        pids = {pid: one for _, one in self._crew.able() for pid in one.children() if one.name.startswith("prefork")}
        busy = sorted(pid for _, pid, _ in books.running if pid in pids)
        some = busy if busy and self._random.random() < BUSY_SHARE else sorted(pids)
        if not some:
            return False
        victim = self._random.choice(some)
        running = [run.mark for (_, pid, _), run in books.running.items() if pid == victim]
        self._note(Kind.CHILD, worker=pids[victim].name, pid=victim, running=running)
        pids[victim].kill_child(victim)
        return True

    def _on_worker(self, kind: Kind, books: Books) -> bool:
        # One that has not executed anything yet is still starting.
        able = [(place, one) for place, one in self._crew.able() if one.name in books.last_began and not one.expected]
        busy = {worker for worker, _, _ in books.running}
        some = [entry for entry in able if entry[1].name in busy] if self._random.random() < BUSY_SHARE else able
        if not (some or able) or (kind is Kind.STOP and any(one.stopped for one in self._crew.workers.values())):
            return False
        place, victim = self._random.choice(some or able)
        running = [run.mark for (worker, _, _), run in books.running.items() if worker == victim.name]
        one = self._note(kind, worker=victim.name, pid=victim.pid, running=running)
        if kind is Kind.STOP:
            self._stop(one, victim)
        elif kind is Kind.RESTART:
            victim.terminate()
            self._restart(one, place, victim)
        else:
            victim.kill()
            self._in(self._random.uniform(0.0, 1.0), lambda: self._crew.start_worker(place))
        return True

    def _stop(self, one: Disturbance, victim: Process) -> None:
        def resume() -> None:
            one.until = time.monotonic()
            victim.resume()

        one.until = float("inf")
        victim.stop()
        self._in(self._plan.patience + self._random.uniform(1, 4), resume)

    def _restart(self, one: Disturbance, place: str, victim: Process, waited: float = 0.0) -> None:
        if victim.alive and waited < 30:
            self._in(0.2, lambda: self._restart(one, place, victim, waited + 0.2))
            return
        one.until = time.monotonic()
        one.note = "did not end in 30 s" if victim.alive else f"took {one.until - one.at:.1f} s"
        self._crew.start_worker(place)

    def _note(self, kind: Kind, *, worker: str = "", pid: int = 0, running: list[str] | None = None) -> Disturbance:
        one = Disturbance(len(self.disturbances) + 1, kind, time.monotonic(), worker, pid, running=running or [])
        self.disturbances.append(one)
        self._say(f"{one}{f', running {len(one.running)}' if one.running else ''}")
        return one

    def _in(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._tie), action))
