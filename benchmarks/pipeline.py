"""Measures a queue: submissions and tasks per second, bytes of Redis per task, large payloads.

    python -m benchmarks.pipeline [--jobs 2000] [--rounds 3] [--pool solo] [--concurrency 1]

Each figure is measured twice: on the delivery engine alone, and through the whole platform (row, message, attempt,
history, on SQLite) with a real worker. The benchmark starts an embedded Valkey without persistence.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.engine_micro import Meter, embedded_server
from laneway.engine import Engine, Message, RoundRobin

if TYPE_CHECKING:
    from app.services.container import Services

QUEUE, BATCH, SMALL = "maintenance", 32, 200
"""SMALL: bytes of a payload."""
MEGABYTE = 1_048_576
LARGE_JOBS = 20
PER_TRANSACTION = 500
"""Submissions in one transaction."""
CONCURRENCY = {"prefork": 4, "threads": 8, "solo": 1}
Figures = dict[str, list[float]]


def rate(jobs: int, call: Callable[[], object]) -> float:
    """Call the function; returns jobs per second."""
    began = time.perf_counter()
    call()
    return jobs / (time.perf_counter() - began)


def messages(jobs: int, size: int = SMALL) -> list[Message]:
    """New messages with bodies of this size."""
    return [Message(task_id=str(uuid.uuid4()), name="bench.noop", body=b"x" * size) for _ in range(jobs)]


def drain(engine: Engine, queue: str) -> None:
    """Fetch and acknowledge everything."""
    lanes = RoundRobin({queue: 1})
    while deliveries := engine.fetch(lanes, BATCH).deliveries:
        engine.ack(deliveries)


def on_engine(url: str, jobs: int, figures: Figures) -> None:
    """Measure the engine alone."""
    engine, queue = Engine.from_url(url), f"bench-{uuid.uuid4().hex[:6]}"
    meter = Meter(engine)
    work = messages(jobs)
    _add(figures, "engine: puts one by one, /s", rate(jobs, lambda: [engine.put(queue, message) for message in work]))
    before = meter.field("memory", "used_memory")
    work = messages(jobs)
    _add(figures, "engine: puts in bulk, /s", rate(jobs, lambda: engine.put_many(queue, work)))
    _add(figures, f"engine: bytes a waiting message of {SMALL}", (meter.field("memory", "used_memory") - before) / jobs)
    _add(figures, "engine: fetch and ack, one consumer, /s", rate(2 * jobs, lambda: drain(engine, queue)))
    large = messages(LARGE_JOBS, MEGABYTE)
    seconds = LARGE_JOBS / rate(LARGE_JOBS, lambda: (engine.put_many(queue, large), drain(engine, queue)))
    _add(figures, "engine: 1 MiB there and back, ms", seconds / LARGE_JOBS * 1000)
    engine.delete(queue)


def platform(url: str, folder: Path) -> Services:
    """The application's services. The environment is set first, because the settings read it when they are imported."""
    os.environ |= {
        "CELERY_BROKER_URL": f"{url}",
        "CELERY_RESULT_BACKEND": url.rsplit("/", 1)[0] + "/1",
        "DATA_DIR": str(folder),
        "DATABASE_URL": "",
        "MAX_QUEUE_SIZE": "1000000",
        "LOG_LEVEL": "WARNING",
        "MAX_UNREAD_EVENTS": "10000000",
    }
    from app.core.settings import settings
    from app.services.container import Services
    from benchmarks.pipeline_app import celery_app
    from laneway.platform.db.migrate import upgrade
    from laneway.platform.logging import configure_logging

    configure_logging(settings().operation)
    upgrade(settings().storage.url, Services.migrations)
    services = Services(settings(), celery_app)
    services.broker.prepare()
    return services


def on_platform(services: Services, jobs: int, pool: tuple[str, int], figures: Figures) -> None:
    """Measure the whole platform."""
    from benchmarks.pipeline_app import NOTHING

    engine = services.broker.engine
    assert engine is not None  # noqa: S101 - the engine is the default transport
    meter, payload = Meter(engine), {"data": "x" * SMALL}

    def submit(_: int) -> object:
        return services.tasks.submit(NOTHING, payload)

    before = meter.field("memory", "used_memory")
    cpu = time.process_time()
    _add(figures, "platform: submissions, one thread, /s", rate(jobs, lambda: [submit(n) for n in range(jobs)]))
    _add(figures, "platform: CPU of the submitter, µs a submission", (time.process_time() - cpu) / jobs * 1e6)
    services.recorder.catch_up()
    used = (meter.field("memory", "used_memory") - before) / jobs
    _add(figures, f"platform: bytes of Redis a waiting task of {SMALL}", used)
    with ThreadPoolExecutor(8) as threads:
        _add(
            figures, "platform: submissions, eight threads, /s", rate(jobs, lambda: [*threads.map(submit, range(jobs))])
        )
    _add(
        figures,
        f"platform: submissions, {PER_TRANSACTION} at once, /s",
        rate(jobs, lambda: _batches(services, jobs, payload)),
    )
    services.recorder.catch_up()
    with worker(*pool):
        name = "platform: tasks done by one worker ({} x {}), /s".format(*pool)
        _add(figures, name, _drained(engine, 3 * jobs))
        big = {"data": "x" * (MEGABYTE - 100)}
        began = time.perf_counter()
        services.tasks.submit(NOTHING, big)
        _until(lambda: _left(engine) == 0)
        _add(
            figures, "platform: one task of 1 MiB from submission to its end, ms", (time.perf_counter() - began) * 1000
        )
    services.recorder.catch_up()
    counts = services.tasks.counts()
    assert set(counts) == {"completed"}, counts  # noqa: S101 - unfinished work would make the figures wrong


def _batches(services: Services, jobs: int, payload: dict[str, Any]) -> None:
    """Submit in transactions, as `POST /tasks/batch` does."""
    from benchmarks.pipeline_app import NOTHING
    from laneway.platform.submission.acceptance import SubmitOptions
    from laneway.platform.submission.transaction import Submission

    for _ in range(0, jobs, PER_TRANSACTION):
        with services.tasks.transaction(bounded=True) as transaction:
            transaction.submit_many([Submission(NOTHING, payload, SubmitOptions()) for _ in range(PER_TRANSACTION)])


@contextmanager
def worker(pool: str, concurrency: int) -> Generator[None]:
    """Run a worker process. It may not be ready yet; its start is not measured."""
    argv = [
        sys.executable,
        "-m",
        "celery",
        "-q",
        "-A",
        "benchmarks.pipeline_app:celery_app",
        "worker",
        "-Q",
        QUEUE,
        "-P",
        pool,
        "-c",
        str(concurrency),
        "--without-mingle",
        "--without-gossip",
    ]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _drained(engine: Engine, jobs: int) -> float:
    """Wait until all tasks are done; returns tasks per second, from the first finished task to the last."""
    _until(lambda: _left(engine) < jobs)
    began, first = time.perf_counter(), _left(engine)
    _until(lambda: _left(engine) == 0)
    return first / (time.perf_counter() - began)


def _left(engine: Engine) -> int:
    (stats,) = engine.stats([QUEUE])
    return stats.waiting + stats.leased


def _until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.02)


def _add(figures: Figures, name: str, value: float) -> None:
    figures.setdefault(name, []).append(value)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.pipeline", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pool", choices=tuple(CONCURRENCY), default="prefork")
    parser.add_argument("--concurrency", type=int, help="processes or threads of the worker")
    options = parser.parse_args()
    pool = options.pool, options.concurrency or CONCURRENCY[options.pool]
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder, embedded_server() as url:
        services = platform(url, Path(folder))
        for _ in range(options.rounds):
            on_engine(url, options.jobs, figures)
            on_platform(services, options.jobs, pool, figures)
        services.close()
    table = Table("", "median", "min", "max", box=None)
    for name, values in figures.items():
        table.add_row(name, *(f"{value:,.0f}" for value in (statistics.median(values), min(values), max(values))))
    Console().print(table)


if __name__ == "__main__":
    main()
