"""The workers and producers of a run. Each has a slot, which is filled again when its process has died."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.chaos.plan import POOLS, WORKER, Plan
from benchmarks.chaos.process import Process

MODULE = "benchmarks.chaos"


@dataclass(frozen=True, slots=True)
class WorkerLifetime:
    """One process of a worker's slot, from its start to its end (None: it lived to the end of the run)."""

    worker: str
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Crash:
    """A process that ended although the harness did not end it."""

    name: str
    code: int | None
    at: float
    last_lines: list[str]


class ProcessSlots:
    """Starts and replaces the processes. A slot is named `prefork-1`; its seventh process is `prefork-1.7`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._logs = plan.folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._incarnations: dict[str, int] = {}
        self._past: list[Process] = []
        self.workers: dict[str, Process] = {}
        self.producers: dict[str, Process] = {}
        self.crashes: list[Crash] = []

    def start(self) -> None:
        """Start a process in every slot."""
        for number, pool in enumerate(self._plan.pools, 1):
            self.start_worker(f"{pool}-{number}")
        for number in range(1, self._plan.producers + 1):
            self.start_producer(f"producer-{number}")

    def start_worker(self, place: str) -> None:
        """Start a worker in this slot; its former process is killed if it still runs."""
        pool = place.partition("-")[0]
        argv = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            f"{MODULE}.app",
            "worker",
            "-P",
            pool,
            "-c",
            str(POOLS[pool]),
            "-n",
            f"{{}}@chaos-{self._plan.transport}",
            "-l",
            "WARNING",
        ]
        self._start(self.workers, place, argv)

    def start_producer(self, place: str) -> None:
        """Start a producer in this slot. It sends tasks and ordering keys that no other producer sends."""
        number = place.partition("-")[2]
        incarnation = str(self._incarnations.get(place, 0) + 1)
        self._start(self.producers, place, [sys.executable, "-m", f"{MODULE}.producer", number, incarnation])

    def look(self) -> None:
        """Record and replace workers and producers that ended by themselves."""
        for places, start in ((self.workers, self.start_worker), (self.producers, self.start_producer)):
            for place, process in list(places.items()):
                if not process.alive and not process.expected:
                    crash = Crash(process.name, process.code, time.monotonic(), process.last_lines())
                    self.crashes.append(crash)
                    start(place)

    def able(self) -> Iterator[tuple[str, Process]]:
        """(slot, worker) of the workers that run and are not stopped."""
        return ((place, one) for place, one in self.workers.items() if one.alive and not one.stopped)

    def lifetimes(self) -> list[WorkerLifetime]:
        """The processes of all workers' slots, also of ended ones."""
        workers = [one for one in (*self._past, *self.workers.values()) if not one.name.startswith("producer")]
        return [WorkerLifetime(one.name, one.started, None if one.alive else one.ended) for one in workers]

    def end_producers(self, *, wait_seconds: float = 5) -> None:
        """Let the producers finish their last publish and end; kill those that do not end in time."""
        _end(list(self.producers.values()), wait_seconds)

    def end_workers(self, *, wait_seconds: float = 15) -> list[str]:
        """Shut the workers down warmly; returns the names of those that had to be killed."""
        return _end(list(self.workers.values()), wait_seconds)

    def end(self) -> None:
        """Kill all processes that still run."""
        for process in (*self.workers.values(), *self.producers.values(), *self._past):
            process.end()

    def _start(self, places: dict[str, Process], place: str, argv: list[str]) -> None:
        if place in places:
            places[place].end()
            self._past.append(places[place])
        incarnation = self._incarnations[place] = self._incarnations.get(place, 0) + 1
        name = f"{place}.{incarnation}"
        places[place] = Process(
            name,
            [word.format(name) for word in argv],
            environment={**self._plan.environment(), WORKER: name},
            log=self._logs / f"{name}.log",
        )


def _end(processes: list[Process], wait_seconds: float) -> list[str]:
    for process in processes:
        if process.alive:
            process.resume()
            process.terminate()
    deadline = time.monotonic() + wait_seconds
    while any(process.alive for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    late = [process.name for process in processes if process.alive]
    for process in processes:
        process.end()
    return late
