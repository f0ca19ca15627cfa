"""Compares forecasts with what happened: how many tasks started and ended by the times that were foretold.

    python -m benchmarks.forecast [--seconds 240] [--seed 1]

A real worker works on a queue that grows and shrinks: every few seconds a burst of tasks of very different lengths is
submitted, each with a forecast. At the end, the rows say when each really started and ended. The benchmark starts an
embedded Valkey without persistence.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.engine_micro import embedded_server
from benchmarks.pipeline import platform, worker
from laneway.schemas.forecast import Forecast

if TYPE_CHECKING:
    from app.services.container import Services

BURST_SECONDS = 5.0
MEAN_ROUNDS, SPREAD = 60_000, 0.8
"""Work of a task: rounds of a hash, log-normal with this spread."""
LARGEST_BURST = 120
WARM_UP = 0.25
"""This part of the time makes the history that forecasts need; it is not judged."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A forecast, and what happened."""

    asked: datetime
    foretold: Forecast
    started: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Score:
    """How good forecasts were. Of perfect ones half of the tasks start by p50, and nine of ten by p90."""

    count: int
    by_p50: float
    by_p90: float
    error: float
    """The median of |foretold - real| waiting, as a part of the real waiting; tasks that waited a second or longer."""


def score(outcomes: Sequence[Outcome], *, of_end: bool = False) -> Score:
    """Judge the forecasts of the start, or of the end."""
    kept = [each for each in outcomes if not of_end or each.foretold.ends_p50 is not None]
    early, late, errors = 0, 0, list[float]()
    for each in kept:
        half = each.foretold.ends_p50 if of_end else each.foretold.starts_p50
        most = each.foretold.ends_p90 if of_end else each.foretold.starts_p90
        real = each.ended if of_end else each.started
        assert half is not None and most is not None  # noqa: S101 - see `kept`
        early, late = early + (real <= half), late + (real <= most)
        waited = (real - each.asked) / timedelta(seconds=1)
        if waited >= 1:
            errors.append(abs((half - real) / timedelta(seconds=1)) / waited)
    count = max(1, len(kept))
    return Score(len(kept), early / count, late / count, statistics.median(errors) if errors else 0.0)


def run(services: Services, seconds: float, seed: int) -> list[Outcome]:
    """Submit bursts for so long, and wait until all is done."""
    from benchmarks.pipeline_app import WORK
    from laneway.platform import clock

    chance, asked = random.Random(seed), dict[str, tuple[datetime, Forecast]]()
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        for _ in range(chance.randrange(LARGEST_BURST)):
            rounds = int(MEAN_ROUNDS * chance.lognormvariate(0, SPREAD))
            handle = services.tasks.submit(WORK, {"rounds": min(rounds, 2_000_000)})
            if passed < seconds * WARM_UP:
                continue
            now, forecast = clock.now(), services.tasks.with_forecast(handle).forecast
            if forecast is not None:
                asked[handle.task_id] = now, forecast
        services.queue_samples.take_if_due()
        time.sleep(max(0.0, begin + passed + BURST_SECONDS - time.monotonic()))
    while any(figures.active + figures.pending for figures in services.tasks.queues().values()):
        time.sleep(1)
    rows = (services.tasks.current(id) for id in asked)
    return [
        Outcome(*asked[row.id], row.started_at, row.finished_at) for row in rows if row.started_at and row.finished_at
    ]


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=240, help="for so long tasks are submitted")
    parser.add_argument("--seed", type=int, default=1, help="another number makes other bursts")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="laneway-bench-") as folder, embedded_server() as url:
        services = platform(url, Path(folder))
        with worker("solo", 1):
            outcomes = run(services, given.seconds, given.seed)
    table = Table("forecast", "tasks", "by p50 (50 %)", "by p90 (90 %)", "median error")
    for name, found in (("start", score(outcomes)), ("end", score(outcomes, of_end=True))):
        table.add_row(name, str(found.count), f"{found.by_p50:.0%}", f"{found.by_p90:.0%}", f"{found.error:.0%}")
    console.print(table)


if __name__ == "__main__":
    main()
