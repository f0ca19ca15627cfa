"""What the comparison of the history with the broker costs the database, by the number of workers, and what a task
costs the broker's memory."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import event

from app.core.celery_app import celery_app, make_celery
from app.core.settings import Settings, load_settings
from benchmarks.engine_micro import Meter
from benchmarks.scale.figures import Figure
from benchmarks.scale.history import new_database
from laneway.engine import Engine
from laneway.platform.broker import Broker
from laneway.platform.celery_app import load_tasks
from laneway.platform.db.session import Database
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.operations.maintenance import COMPARE_EVERY, Maintenance
from laneway.platform.operations.reconciliation import Reconciliation
from laneway.platform.task_manager import TaskManager

WORKERS = (1, 4)
ROUNDS = round(60 / COMPARE_EVERY)
"""Comparisons in a minute."""
PAYLOAD = {"url": "https://example.com/hook", "event": "replied", "data": {"text": "x" * 100}}
TASK = "send_webhook_response_task"
JOURNAL_TARGET = 150.0
"""An entry that does not repeat the payload."""


def reconciler(url: str, folder: Path) -> Iterator[Figure]:
    """Statements a minute of the comparison, in fleets of several sizes."""
    single: float | None = None
    for workers in WORKERS:
        with new_database(None, folder / str(workers)) as database, _statements(database) as seen:
            fleet = [_maintenance(url, database, name=f"worker-{number}") for number in range(workers)]
            for _ in range(ROUNDS):
                for maintenance in fleet:
                    maintenance.compare()
            pages = sum("FROM task_runs" in statement for statement in seen)
            count = sum(not statement.startswith(("BEGIN", "PRAGMA")) for statement in seen)
        label = f"{workers} worker{'s' if workers > 1 else ''}"
        yield Figure(f"pages of unfinished tasks a minute, {label}", pages, "pages", single)
        yield Figure(f"statements of the comparison a minute, {label}", count, "statements")
        single = single or pages


def bytes_per_task(engine: Engine, url: str, folder: Path, *, tasks: int) -> Iterator[Figure]:
    """Bytes of the broker's memory for a waiting task that the platform submitted, with its journal entry."""
    with new_database(None, folder / "bytes") as database:
        (_, _, recorder, manager), meter = _parts(url, database), Meter(engine)
        manager.submit(TASK, PAYLOAD)
        recorder.catch_up()
        before = meter.field("memory", "used_memory")
        for _ in range(tasks):
            manager.submit(TASK, PAYLOAD)
        both = (meter.field("memory", "used_memory") - before) / tasks
        recorder.catch_up()
        message = (meter.field("memory", "used_memory") - before) / tasks
    size = len(json.dumps(PAYLOAD))
    yield Figure(f"Redis bytes of a waiting task with {size} bytes of payload", message, "bytes")
    yield Figure("Redis bytes of its journal entry, until it is recorded", both - message, "bytes", JOURNAL_TARGET)
    meter.command("FLUSHDB")


@contextmanager
def _statements(database: Database) -> Generator[list[str]]:
    """The statements that are executed in the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def _app(url: str) -> tuple[Celery, Settings]:
    load_tasks(celery_app)
    settings = load_settings()
    app = make_celery(settings)
    app.conf.update(broker_url=url)
    return app, settings


def _parts(url: str, database: Database) -> tuple[Celery, Broker, JournalRecorder, TaskManager]:
    app, settings = _app(url)
    broker = Broker(app, max_queue_size=10_000_000, max_unread=10_000_000)
    recorder = JournalRecorder(database, broker, settings.tasks)
    return app, broker, recorder, TaskManager(database, broker, recorder, settings.tasks)


def _maintenance(url: str, database: Database, *, name: str) -> Maintenance:
    app, broker, recorder, tasks = _parts(url, database)
    reconciliation = Reconciliation(database, broker, recorder, tasks, CeleryResults(app))
    return Maintenance(
        database, broker, tasks, recorder, reconciliation, name=name, queues=broker.queues, lease_seconds=30
    )
