"""The page of unfinished tasks that the comparison with the broker reads, in a history of many rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from laneway.platform import clock
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.operations.maintenance import PAGE

REPEATS = 20
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows) {insert} numbers",
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


def page_ms(database: Database) -> tuple[float, float]:
    """Milliseconds of the first page and of a later page of unfinished tasks: medians."""
    first, later = list[float](), list[float]()
    for _ in range(REPEATS):
        after = 0
        for times in (first, later):
            with database.reading() as session:
                started = time.perf_counter()
                page = task_runs.unfinished_before(session, clock.now(), after_seq=after, limit=PAGE)
                times.append((time.perf_counter() - started) * 1000)
            after = page[-1].seq if page else after
    return statistics.median(first), statistics.median(later)


def plan(database: Database) -> str:
    """How the database reads the page."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.reading() as session:
        task_runs.unfinished_before(session, clock.now(), after_seq=0, limit=PAGE)
    event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(explain + executed[-1][0], executed[-1][1]).all()
    return "\n".join(str(row[-1]) for row in rows)


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
