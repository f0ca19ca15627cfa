"""Worker processes, with the same pool and the same number of processes for every contestant."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from celery import Celery

from benchmarks.throughput.contestants import QUEUE, WARM_QUEUE

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS, STOP_SECONDS = 60, 30


@dataclass(frozen=True, slots=True)
class Pool:
    """`processes` workers with this pool, each with this concurrency."""

    name: str
    processes: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.name} {self.processes}x{self.concurrency}"


POOLS = {pool.name: pool for pool in (Pool("solo", 2, 1), Pool("prefork", 1, 2), Pool("threads", 1, 8))}


class Workers:
    """Running workers. At first they consume only the warm-up queue."""

    def __init__(self, app: Celery, processes: list[subprocess.Popen[bytes]]) -> None:
        self._control: Any = app.control
        self._processes = processes

    def wait_until_ready(self) -> None:
        """Wait until every worker answers. Raises SystemExit if one ends or does not answer."""
        deadline = time.monotonic() + START_SECONDS
        while len(self._control.ping(timeout=2, limit=len(self._processes)) or ()) < len(self._processes):
            if any(process.poll() is not None for process in self._processes):
                raise SystemExit("A worker ended at its start: run again with --verbose.")
            if time.monotonic() > deadline:
                raise SystemExit("The workers did not answer in time.")

    def consume(self, queue: str) -> None:
        """Tell all workers to consume this queue as well, without waiting for them."""
        self._control.broadcast("add_consumer", arguments={"queue": queue})

    def check(self, queue: str) -> None:
        """Raise SystemExit unless every worker consumes this queue."""
        answers: dict[str, Any] = self._control.inspect(timeout=10, limit=len(self._processes)).active_queues() or {}
        if sum(queue in str(queues) for queues in answers.values()) < len(self._processes):
            raise SystemExit(f"Not every worker consumed {queue!r}: {answers}")

    def cpu_seconds(self) -> float:
        """The CPU seconds of all workers and their children so far."""
        total = 0.0
        for process in self._processes:
            root = psutil.Process(process.pid)
            for member in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = member.cpu_times()
                    total += times.user + times.system
        return total


@contextmanager
def running(name: str, pool: Pool, app: Celery, url: str, *, prefetch: int, verbose: bool) -> Generator[Workers]:
    """Run workers of this contestant, and stop them at the end."""
    environment = os.environ | {
        "LANEWAY_BENCH_NAME": name,
        "LANEWAY_BENCH_URL": url,
        "LANEWAY_BENCH_PREFETCH": str(prefetch),
        "PYTHONPATH": str(ROOT),
    }
    output = None if verbose else subprocess.DEVNULL
    processes = [
        subprocess.Popen(_argv(pool, index), cwd=ROOT, env=environment, stdout=output, stderr=output)  # noqa: S603
        for index in range(pool.processes)
    ]
    try:
        workers = Workers(app, processes)
        workers.wait_until_ready()
        yield workers
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            _wait(process)


def _argv(pool: Pool, index: int) -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "-A", "benchmarks.throughput.contestants:app", "worker"),
        *("--pool", pool.name, "--concurrency", str(pool.concurrency), "--hostname", f"bench{index}@localhost"),
        *("--queues", WARM_QUEUE, "--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        "--without-heartbeat",
    ]


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


__all__ = ["POOLS", "QUEUE", "Pool", "Workers", "running"]
