"""The search that goes back in the history within a limit of time finds what an ordinary search finds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.backwards import Found
from laneway.platform.db.queries.scan import scan
from laneway.platform.db.queries.search import Filter, page
from laneway.platform.db.session import Database
from laneway.platform.history.adoption import run_from_call
from laneway.schemas.task import TaskState

ROWS = 9_000


@pytest.fixture
def history(database: Database) -> Database:
    """Completed tasks; every 1,000th has another payload, every 3,000th failed."""
    at = clock.now() - timedelta(hours=1)
    sample = run_from_call("sample", "cleanup_old_data_task", {}, queue="maintenance", at=at, priority=1)
    row = {name: value for name, value in vars(sample).items() if not name.startswith("_")}
    row |= {"progress": 0, "attempts": 1, "attempts_before": 0, "cancel_requested": False, "finished_at": at}
    rows: list[dict[str, Any]] = []
    for number in range(1, ROWS + 1):
        state = TaskState.FAILED if number % 3000 == 0 else TaskState.COMPLETED
        payload = {"word": "needle"} if number % 1000 == 0 else {"word": "hay"}
        rows.append(row | {"id": f"t-{number}", "state": state, "payload": payload})
    with database.transaction() as session:
        session.execute(insert(TaskRun), rows)
    return database


def look(history: Database, which: Filter, *, before: int | None = None, seconds: float = 10.0) -> Found[TaskRun]:
    with history.reading() as session:
        return scan(session, which, before=before, limit=4, seconds=seconds)


@pytest.mark.parametrize(
    "which",
    [
        Filter(),
        Filter(text="needle"),
        Filter(states=(TaskState.FAILED,)),
        Filter(states=(TaskState.COMPLETED,), text="needle"),
        Filter(name="cleanup_old_data_task", queue="crm"),
    ],
    ids=["all", "text", "rare state", "common state and text", "none"],
)
def test_its_pages_are_those_of_an_ordinary_search(history: Database, which: Filter) -> None:
    found, before = list[str](), None
    for _ in range(4):
        part = look(history, which, before=before)
        found += [run.id for run in part.rows]
        before = part.next
        if before is None:
            break

    with history.reading() as session:
        expected = [run.id for run in page(session, which, limit=16)]
    assert found == expected[: len(found)]
    assert len(found) == min(len(expected), 16)


def test_a_search_that_takes_too_long_says_where_to_go_on(history: Database) -> None:
    which, found, before, calls = Filter(text="needle"), list[str](), None, 0
    while True:
        part = look(history, which, before=before, seconds=0.0)
        found += [run.id for run in part.rows]
        before, calls = part.next, calls + 1
        if before is None:
            break

    assert found == [f"t-{number}" for number in range(9000, 0, -1000)]
    assert calls > 3
