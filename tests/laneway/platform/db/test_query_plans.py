"""Queries that run all the time read an index, however many tasks have ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import batches, held, search, task_runs
from laneway.platform.db.queries.scan import scan
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.history.adoption import run_from_call
from laneway.schemas.task import TaskState

ENDED, UNFINISHED, PARTS = 3000, 20, 10


def row_of(at: datetime) -> dict[str, Any]:
    """The columns of a task that was sent at this time, without an id."""
    sample = run_from_call("sample", "cleanup_old_data_task", {}, queue="maintenance", at=at, priority=1)
    row = {name: value for name, value in vars(sample).items() if not name.startswith("_")}
    return row | {"published_at": at, "progress": 0, "attempts": 1, "attempts_before": 0, "cancel_requested": False}


def analyse(database: Database) -> None:
    """Have the database learn what its tables contain."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


@pytest.fixture
def long_history(database: Database) -> Database:
    """A database with many ended tasks and a few unfinished ones, the newest of all."""
    at = clock.now() - timedelta(hours=1)
    row = row_of(at)
    ended = {"state": TaskState.COMPLETED, "finished_at": at}
    with database.transaction() as session:
        rows = [row | {"id": f"part-{number}", "batch_id": "b"} | ended for number in range(PARTS)]
        rows += [row | {"id": f"ended-{number}", "batch_id": None} | ended for number in range(ENDED)]
        rows += [
            row | {"id": f"waiting-{number}", "batch_id": None, "state": TaskState.PENDING, "finished_at": None}
            for number in range(UNFINISHED)
        ]
        session.execute(insert(TaskRun), rows)
    analyse(database)
    return database


def plan_of(database: Database, statement: str, parameters: Any) -> str:
    """How the database executes a statement."""
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    with database.engine.connect() as connection:
        return "\n".join(str(row) for row in connection.exec_driver_sql(explain + statement, parameters))


def read_and_explained(database: Database, read: Callable[[Session], Any]) -> tuple[Any, str]:
    """What a query returns, and how the database executes it."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.reading() as session:
        found = read(session)
    event.remove(database.engine, "before_cursor_execute", note)
    return found, plan_of(database, *executed[-1])


def test_the_page_of_unfinished_tasks_is_read_from_their_index(long_history: Database) -> None:
    def page(session: Session) -> Any:
        return task_runs.unfinished_before(session, clock.now(), after_seq=0, limit=500)

    found, plan = read_and_explained(long_history, page)

    assert [run.id for run in found] == [f"waiting-{number}" for number in range(UNFINISHED)]
    assert "ix_task_runs_unfinished" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_a_search_of_the_newest_tasks_reads_no_index_of_what_most_tasks_have(long_history: Database) -> None:
    def newest(session: Session) -> Any:
        return scan(session, Filter(states=(TaskState.COMPLETED,)), before=None, limit=5)

    found, plan = read_and_explained(long_history, newest)

    assert [run.id for run in found.rows] == [f"ended-{ENDED - number}" for number in range(1, 6)]
    assert ("INTEGER PRIMARY KEY" if long_history.is_sqlite else "task_runs_pkey") in plan


def test_held_tasks_that_are_due_are_found_without_a_look_at_those_that_the_broker_has(database: Database) -> None:
    at = clock.now() - timedelta(hours=1)
    scheduled = row_of(at) | {"state": TaskState.SCHEDULED, "due_at": at}
    with database.transaction() as session:
        rows = [scheduled | {"id": f"sent-{number}"} for number in range(ENDED)]
        session.execute(insert(TaskRun), [*rows, scheduled | {"id": "held", "published_at": None}])

    for analysed in (False, True):
        if analysed:
            analyse(database)
        found, plan = read_and_explained(database, lambda session: held.any_due(session, clock.now()))
        assert found
        assert "ix_task_runs_held" in plan


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda session: batches.has_unfinished(session, "b"), False),
        (lambda session: batches.has_uncompleted(session, "b"), False),
        (lambda session: batches.counts(session, ["b"]), {"b": {TaskState.COMPLETED: PARTS}}),
    ],
    ids=("has_unfinished", "has_uncompleted", "counts"),
)
def test_the_tasks_of_a_batch_are_counted_in_an_index(
    long_history: Database, read: Callable[[Session], Any], found: object
) -> None:
    result, plan = read_and_explained(long_history, read)

    assert result == found
    assert "ix_task_runs_batch_state" in plan


def test_the_tasks_of_a_batch_are_listed_from_an_index(long_history: Database) -> None:
    which = Filter(batch="other")
    _, plan = read_and_explained(long_history, lambda session: search.page(session, which, limit=5))

    assert "ix_task_runs_batch" in plan


def test_batches_with_checks_are_found_without_the_tasks(long_history: Database) -> None:
    found, plan = read_and_explained(long_history, lambda session: batches.with_checks(session, after="", limit=5))

    assert list(found) == []
    assert "task_runs" not in plan
