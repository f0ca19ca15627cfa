"""The workloads.

W1   one producer enqueues no-op jobs one by one
W1b  the same by the bulk call that a user of the library finds
W2   workers drain a full queue, results stored where the library has them; the rate between 10 % and 95 % done
W3   warm and idle workers: enqueue one job and wait for its result, many times
W4   2,000 jobs sleep for 50 ms, 100 at a time
W5   bytes of all keys in Redis for a queued job, from W1 (by `MEMORY USAGE`)
CPU  the workers' CPU time for a job, from W2

The workers of W2 answer a few round trips first. Then they are paused by a signal, the queue is filled, and they go on:
no start of a process is measured.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.environment import DRIVERS, RUNTIMES, Runtime
from benchmarks.peers.group import Groups, PeerFailed, call, running
from benchmarks.peers.libraries import Library, Setup
from benchmarks.peers.stores import Stores

UNITS = {"W1": "jobs/s", "W1b": "jobs/s", "W2": "jobs/s", "W3": "ms", "W4": "jobs/s", "W5": "bytes", "CPU": "µs a job"}
DRIVER_SECONDS = 120
WARM = 20
"""What each driver enqueues before it measures."""
POLL_SECONDS, SHORT_POLL_SECONDS = 0.02, 0.005
SLEEPING_JOBS, FIRST_WAVE = 2000, 0.05
FROM, TO = 0.10, 0.95


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    jobs: int
    round_trips: int
    limit_seconds: float
    """When a drain ends at the latest: the rate is that of the jobs that are done by then."""


@dataclass(frozen=True)
class Figure:
    """A measurement of one round, in the unit of its workload."""

    workload: str
    value: float
    more: Mapping[str, float] = field(default_factory=dict[str, float])


class Bench:
    """Measures one library on the servers of this run."""

    def __init__(self, library: Library, stores: Stores, sizes: Sizes) -> None:
        self._library, self._stores, self._sizes = library, stores, sizes
        self._runtime: Runtime = RUNTIMES[library.runtime]()
        self._environment = {
            **self._runtime.environment,
            **stores.environment(library.database),
            **library.environment,
        }
        self._jobs = max(1, round(sizes.jobs * library.share))

    def prepare(self) -> None:
        """Make its tables."""
        if self._library.database:
            self._drive("prepare", 0)

    def produce(self, wanted: set[str]) -> Iterator[Figure]:
        """W1, W5 and W1b."""
        if wanted & {"W1", "W5"}:
            self._empty()
            answer = self._drive("one", self._jobs)
            yield Figure("W1", self._jobs / answer["seconds"], _cpu(answer, self._jobs))
            if self._library.database is None:
                yield Figure("W5", self._stores.bytes_of_keys() / (self._jobs + WARM))
        if "W1b" in wanted and self._library.bulk:
            self._empty()
            answer = self._drive("bulk", self._jobs)
            yield Figure("W1b", self._jobs / answer["seconds"], _cpu(answer, self._jobs))

    def work(self, setup: Setup, wanted: set[str]) -> Iterator[Figure]:
        """W3 and then W2, by the same workers."""
        with self._working(setup) as workers:
            if "W3" in wanted:
                yield round_trips(self._drive("ask", self._sizes.round_trips)["ms"])
            if wanted & {"W2", "CPU"}:
                cpu, samples = self._drain(workers, "fill", self._jobs, POLL_SECONDS)
                yield Figure("W2", rate(samples, FROM, TO))
                yield Figure("CPU", cpu * 1e6 / samples[-1][1])

    def sleepers(self) -> Figure:
        """W4, from the first 100 jobs that are done to the last."""
        with self._working(self._library.sleepers) as workers:
            _, samples = self._drain(workers, "sleep", SLEEPING_JOBS, SHORT_POLL_SECONDS)
            return Figure("W4", rate(samples, FIRST_WAVE, 1.0))

    def _drain(self, workers: Groups, fill: str, jobs: int, poll: float) -> tuple[float, list[tuple[float, int]]]:
        """Fill the queue of paused workers and let them work; returns CPU seconds, and how many were done when."""
        workers.pause()
        self._drive(fill, jobs)
        before, cpu = self._library.count(self._stores), workers.cpu_seconds()
        began = time.perf_counter()
        workers.resume()
        samples = sample(
            lambda: self._library.count(self._stores) - before,
            jobs,
            until=began + self._sizes.limit_seconds,
            poll_seconds=poll,
            check=workers.check,
        )
        return workers.cpu_seconds() - cpu, samples

    @contextmanager
    def _working(self, setup: Setup) -> Generator[Groups]:
        """Workers that have answered."""
        self._empty()
        commands = [
            [word.replace("{index}", str(index)) for word in setup.command(self._runtime)]
            for index in range(setup.processes)
        ]
        with running(commands, environment=self._environment, folder=DRIVERS) as workers:
            self._drive("ask", 1)
            workers.check()
            yield workers

    def _empty(self) -> None:
        self._stores.redis.empty()
        if self._library.database and self._library.empty:
            self._stores.run(self._library.database, self._library.empty)

    def _drive(self, verb: str, count: int) -> dict[str, Any]:
        argv = self._library.drive(self._runtime, verb, count)
        return call(argv, environment=self._environment, folder=DRIVERS, seconds=DRIVER_SECONDS)


def sample(
    done: Callable[[], int],
    jobs: int,
    *,
    until: float,
    poll_seconds: float,
    check: Callable[[], None],
    idle_seconds: float = math.inf,
) -> list[tuple[float, int]]:
    """Count until all jobs are done, or no more for a while, or until a moment; returns the counts in time.

    Raises PeerFailed if none was done, and what `check` raises.
    """
    samples = [(time.perf_counter(), done())]
    changed = samples[0][0]
    while samples[-1][1] < jobs and samples[-1][0] < until and samples[-1][0] - changed < idle_seconds:
        check()
        time.sleep(poll_seconds)
        samples.append((time.perf_counter(), done()))
        if samples[-1][1] != samples[-2][1]:
            changed = samples[-1][0]
    if samples[-1][1] <= 0:
        raise PeerFailed("no job was done in time")
    return [(at, min(number, jobs)) for at, number in samples]


def rate(samples: list[tuple[float, int]], start: float, end: float) -> float:
    """Jobs a second from the first count of at least a share of the jobs that were done, to that of another share."""
    last = samples[-1][1]
    (began, first), (ended, final) = (
        next(each for each in samples if each[1] >= share * last) for share in (start, end)
    )
    if ended <= began:  # all between two counts
        began, first = samples[0]
    return (final - first) / (ended - began)


def round_trips(taken: list[float]) -> Figure:
    """The median in ms, and the p95."""
    ordered = sorted(taken)
    return Figure("W3", statistics.median(ordered), {"p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]})


def _cpu(answer: dict[str, Any], jobs: int) -> dict[str, float]:
    return {"producer_cpu_us": answer["cpu_seconds"] / jobs * 1e6}
