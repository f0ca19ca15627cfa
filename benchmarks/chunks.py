"""Compares tasks that store a row each with tasks that do so in chunks of 100.

    python -m benchmarks.chunks [--jobs 10000] [--rounds 4] [--pool prefork] [--concurrency 2] [--database URL]

Both are measured in turns, in parts of the jobs, with one worker on an embedded Valkey without persistence: from the
first finished task to the last, through the whole platform. The rows are stored in a SQLite file, or in `--database`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engine_micro import embedded_server
from benchmarks.pipeline import CONCURRENCY, PER_TRANSACTION, QUEUE, platform, worker

if TYPE_CHECKING:
    from app.services.container import Services
    from laneway.platform.registry import TaskSpec


def submit(services: Services, spec: TaskSpec, jobs: int) -> None:
    """Submit so many tasks."""
    from laneway.platform.submission.acceptance import SubmitOptions
    from laneway.platform.submission.transaction import Submission

    for start in range(0, jobs, PER_TRANSACTION):
        with services.tasks.transaction(bounded=True) as transaction:
            numbers = range(start, min(start + PER_TRANSACTION, jobs))
            transaction.submit_many([Submission(spec, {"number": number}, SubmitOptions()) for number in numbers])
    services.recorder.catch_up()


def left(services: Services) -> int:
    """How many tasks wait or run."""
    assert services.broker.engine is not None  # noqa: S101 - the engine is the default transport
    (stats,) = services.broker.engine.stats([QUEUE])
    return stats.waiting + stats.leased


def drained(services: Services, spec: TaskSpec, jobs: int) -> float:
    """Submit tasks while the queue is paused, and let the worker run them; returns tasks per second."""
    engine = services.broker.engine
    assert engine is not None  # noqa: S101
    engine.pause(QUEUE)
    submit(services, spec, jobs)
    engine.resume(QUEUE)
    while (first := left(services)) == jobs:
        time.sleep(0.005)
    began = time.perf_counter()
    while left(services):
        time.sleep(0.005)
    return first / (time.perf_counter() - began)


def main() -> None:
    """Measure, and print what a chunk brings."""
    parser = argparse.ArgumentParser(prog="benchmarks.chunks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--pool", choices=tuple(CONCURRENCY), default="prefork")
    parser.add_argument("--concurrency", type=int, default=2, help="processes or threads of the worker")
    parser.add_argument("--database", default="", help="where the rows are stored; default: a SQLite file")
    options = parser.parse_args()
    os.environ["BENCH_DATABASE"] = options.database
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, embedded_server() as url:
        services = platform(url, Path(folder))
        from benchmarks.pipeline_app import ROW, ROWS, rows

        rows()
        with worker(options.pool, options.concurrency):
            drained(services, ROW, 100)  # the worker is up
            for _ in range(options.rounds):
                for name, spec in (("one by one", ROW), ("chunks of 100", ROWS)):
                    rate = drained(services, spec, options.jobs // options.rounds)
                    figures.setdefault(name, []).append(rate)
        services.recorder.catch_up()
        counts = services.tasks.counts()
        assert set(counts) == {"completed"}, counts  # noqa: S101 - unfinished work would make the figures wrong
        services.close()
    for name, rates in figures.items():
        print(f"{name}: {statistics.median(rates):,.0f} tasks/s ({min(rates):,.0f} to {max(rates):,.0f})")


if __name__ == "__main__":
    main()
