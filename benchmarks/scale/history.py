"""The page of unfinished tasks that the comparison with the broker reads, in a history of many rows."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from benchmarks.scale.figures import Figure
from laneway.platform import clock
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.operations.maintenance import PAGE
from tests.fixtures.databases import StoppablePostgres, stoppable_postgres

REPEATS = 20
UNFINISHED = 10_000
"""Unfinished tasks in each history, as far as it has so many rows."""
INDEX = "ix_task_runs_unfinished"
GROWTH, SLACK_MS = 2.0, 5.0
"""With the most rows, a page may take this many times what it takes with the fewest, and these ms more."""
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)"
    " {insert} numbers",
    "postgresql": "{insert} generate_series(1, :rows) AS numbers(n)",
}
_INSERT = """
INSERT INTO task_runs (id, name, queue, priority, payload, fingerprint, state, progress, attempts, attempts_before,
                       max_retries, tags, options, cancel_requested, accepted_at, published_at, started_at, finished_at)
SELECT 'task-' || n, 'cleanup_old_data_task', 'maintenance', 1, '{}', 'f',
       CASE WHEN n <= :ended THEN 'completed' ELSE 'pending' END, 0, 1, 0, 3, '[]', '{}', FALSE, :at, :at, :at,
       CASE WHEN n <= :ended THEN :at END
FROM"""


def fill(database: Database, *, rows: int, unfinished: int) -> None:
    """Add `rows` tasks. All have ended but the newest `unfinished` ones, which wait in the broker."""
    at = clock.now() - timedelta(hours=1)
    parameters: dict[str, Any] = {"rows": rows, "ended": rows - unfinished, "at": at}
    statement = text(_NUMBERS[database.url.get_backend_name()].replace("{insert}", _INSERT))
    with database.transaction() as session:
        session.execute(statement, parameters)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE task_runs"))


def measure_page(database: Database) -> tuple[float, str]:
    """Milliseconds that the database needs for the first page of unfinished tasks, the least of some; and its plan."""
    statement, parameters = _statement(database)
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            explain = "EXPLAIN (ANALYZE, TIMING OFF) " + statement
            answers = [connection.exec_driver_sql(explain, parameters).scalars().all() for _ in range(REPEATS)]
            return min(float(answer[-1].split()[-2]) for answer in answers), "\n".join(answers[0])
        times: list[float] = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            connection.exec_driver_sql(statement, parameters).all()
            times.append((time.perf_counter() - started) * 1000)
        rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
        return min(times), "\n".join(str(row[-1]) for row in rows)


def _statement(database: Database) -> tuple[str, Any]:
    """The statement of the first page with its parameters, as the platform sends it."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.reading() as session:
        task_runs.unfinished_before(session, clock.now(), after_seq=0, limit=PAGE)
    event.remove(database.engine, "before_cursor_execute", note)
    return executed[-1]


def pages_of_unfinished_tasks(folder: Path, *, rows: list[int], postgresql: bool) -> Iterator[Figure]:
    """Milliseconds that the comparison needs for its first page, in histories of several sizes on both databases."""
    yield from _pages(None, folder, rows)
    if postgresql:
        try:
            with stoppable_postgres() as server:
                server.start()
                yield from _pages(server, folder, rows)
        except pytest.skip.Exception as reason:
            yield Figure("page of unfinished tasks, PostgreSQL", None, "ms", note=str(reason))


def _pages(server: StoppablePostgres | None, folder: Path, rows: list[int]) -> Iterator[Figure]:
    smallest: float | None = None
    for number in sorted(rows):
        url = server.new_database(f"rows_{number}") if server else None
        with new_database(url, folder / f"rows-{number}") as database:
            fill(database, rows=number, unfinished=min(UNFINISHED, number))
            took, plan = measure_page(database)
            name = "PostgreSQL" if server else "SQLite"
            target = None if smallest is None else smallest * GROWTH + SLACK_MS
            smallest = smallest or took
            index = INDEX if INDEX in plan else "another index"
            yield Figure(f"page of unfinished tasks, {number:,} rows, {name}", took, "ms", target, index)


@contextmanager
def new_database(url: str | None, folder: Path) -> Generator[Database]:
    """A database with the platform's tables: an empty one at `url`, or a new SQLite file."""
    address = url or f"sqlite:///{folder / 'scale.db'}"
    upgrade(address)
    database = Database(address)
    try:
        yield database
    finally:
        database.close()
