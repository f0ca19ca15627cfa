"""A search by state finds the tasks that are shown in that state."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, product

import pytest

from laneway.platform import clock
from laneway.platform.db.queries import search
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.history.adoption import run_from_call
from laneway.platform.history.task_views import display_state
from laneway.schemas.task import TaskState

HOUR = timedelta(hours=1)


@pytest.fixture
def shown(database: Database) -> dict[str, TaskState]:
    """One task of each kind: its id, and the state in which it is shown."""
    now, found = clock.now(), {}
    with database.transaction() as session:
        for state, sent, due in product(TaskState, (None, now - HOUR), (None, now - HOUR, now + HOUR)):
            run = run_from_call(f"t-{len(found)}", "sample_task", {}, queue="maintenance", at=now, priority=1)
            run.state, run.published_at, run.due_at = state, sent, due
            session.add(run)
            found[run.id] = display_state(run)
    return found


def test_a_task_is_found_by_the_state_that_it_is_shown_in(database: Database, shown: dict[str, TaskState]) -> None:
    open_states = (TaskState.ACCEPTED, TaskState.PENDING, TaskState.SCHEDULED, TaskState.PROCESSING)
    wanted = [(state,) for state in TaskState] + [pair for n in (2, 3, 4) for pair in combinations(open_states, n)]
    with database.reading() as session:
        for states in wanted:
            found = {run.id for run in search.page(session, Filter(states=states), limit=100)}
            assert found == {id for id, state in shown.items() if state in states}, states
