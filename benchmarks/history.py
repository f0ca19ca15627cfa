"""Measures what the history costs per task.

    python -m benchmarks.history [--jobs 3000] [--rounds 3]

The same jobs go through the engine in three ways, interleaved: without attempts, with attempts, and with attempts and
the journal. Then the recorder writes the journal into a SQLite database. An embedded Valkey without persistence is
started for it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.core.celery_app import make_celery
from app.core.settings import load_settings
from benchmarks.engine_micro import Meter, embedded_server
from laneway.engine import AckAction, Engine, Message, RoundRobin
from laneway.platform.broker import Broker
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.session import Database
from laneway.platform.execution.outcomes import AttemptResult
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.schemas.task import TaskState

QUEUE = "maintenance"
BATCH = 32
OUTCOME = AttemptResult(TaskState.COMPLETED, result={"done": True}).to_json()


def work(engine: Engine, jobs: int, *, attempts: bool) -> None:
    """Put the jobs, then fetch and acknowledge them as a worker does. `attempts`: also start and finish them."""
    for start in range(0, jobs, BATCH):
        engine.put_many(
            QUEUE,
            [
                Message(task_id=str(uuid.uuid4()), name="bench.noop", body=b"\0[[], {}, {}]")
                for _ in range(start, min(start + BATCH, jobs))
            ],
        )
    lanes = RoundRobin({QUEUE: 1})
    while deliveries := engine.fetch(lanes, BATCH).deliveries:
        for delivery in deliveries if attempts else ():
            engine.start_attempt(delivery.lease, worker="bench@here")
            engine.finish_attempt(delivery.lease, AckAction.DONE, outcome=OUTCOME)
        engine.ack(deliveries)


def time_per_job(jobs: int, call: Callable[[], object]) -> float:
    """Call the function; returns microseconds per job."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) / jobs * 1e6


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.history", description=__doc__)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, list[float]] = {}
    commands: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, embedded_server() as url:
        engine = Engine.from_url(url)
        meter, recorder = Meter(engine), make_recorder(url, Path(folder))
        for _ in range(options.rounds):
            for name, attempts, bound in (
                ("plain", False, None),
                ("with attempts", True, None),
                ("with attempts and journal", True, 10_000_000),
            ):
                engine.enable_journal(QUEUE, bound)
                meter.command("CONFIG", "RESETSTAT")
                took = time_per_job(options.jobs, lambda a=attempts: work(engine, options.jobs, attempts=a))
                figures.setdefault(name, []).append(took)
                stats = meter.command_stats()
                commands[name] = sum(calls for calls, _ in stats.values()) / options.jobs
            took = time_per_job(options.jobs, recorder.catch_up)
            figures.setdefault("recorder, SQLite", []).append(took)
    print_table(figures, commands)


def make_recorder(url: str, folder: Path) -> JournalRecorder:
    """A recorder on a new database."""
    database = Database(f"sqlite:///{folder / 'history.db'}")
    upgrade(database.url.render_as_string(hide_password=False))
    settings = load_settings()
    app = make_celery(settings)
    app.conf.update(broker_url=url)
    return JournalRecorder(database, Broker(app, max_queue_size=10_000_000, max_unread=10_000_000), settings.tasks)


def print_table(figures: dict[str, list[float]], commands: dict[str, float]) -> None:
    """Print medians with minimum and maximum, and the commands per task."""
    table = Table("", "µs per task", "min", "max", "commands per task", box=None)
    for name, values in figures.items():
        count = f"{commands[name]:.1f}" if name in commands else ""
        table.add_row(name, f"{statistics.median(values):.0f}", f"{min(values):.0f}", f"{max(values):.0f}", count)
    Console().print(table)


if __name__ == "__main__":
    main()
