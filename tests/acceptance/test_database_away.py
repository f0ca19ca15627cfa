"""The database is down while workers run: tasks that do not need it go on, and the history catches up afterwards."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from laneway.platform.db.models import TaskRun
from laneway.platform.errors import DatabaseUnavailable
from laneway.schemas.task import TaskState
from tests.fixtures.databases import StoppablePostgres, stoppable_postgres
from tests.fixtures.site import Site, running_site
from tests.fixtures.tasks_for_tests import FAILING, GATED
from tests.fixtures.waiting import wait_until

Report = Callable[[str, object], None]

TASKS = 40


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the write lock of a SQLite file while the block lasts."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def prepared(site: Site) -> tuple[list[str], Callable[[], None]]:
    """Submit tasks, two of which are running; returns their ids and a function that lets them continue."""
    gate = site.gate()
    first = [site.submit(GATED, {"gate": str(gate)}) for _ in range(2)]
    ids = [*first, *(site.submit(FAILING, {"times": number % 2}) for number in range(TASKS))]
    for id in first:
        site.until_event("began", id)
    return ids, gate.open


def until_all_ended(site: Site, ids: list[str]) -> None:
    """Wait by the tasks' own journal, without the database."""
    wait_until(lambda: {id for event, id, *_ in site.events() if event == "ended"} >= set(ids), seconds=60)


def unread(site: Site) -> int:
    """The number of unread events in the engine's journals."""
    return sum(site.services.recorder.unread().values())


def check_that_the_history_caught_up(site: Site, ids: list[str]) -> None:
    """Check that the history has each task once, with all its attempts."""
    runs = site.until_all_over(ids, seconds=30)
    assert {run.state for run in runs} == {TaskState.COMPLETED}
    noted = {(id, number) for event, id, number, _ in site.events() if event == "began" and id in ids}
    attempts = {(id, one.number) for id in ids for one in site.services.event_stream.attempts(id)}
    assert attempts == noted
    assert [run.attempts for run in runs] == [1, 1, *(number % 2 + 1 for number in range(TASKS))]
    wait_until(lambda: unread(site) == 0, seconds=20)
    count = site.services.audit.run()
    assert count.balanced, count


def states_as_stored(site: Site, ids: list[str]) -> set[str]:
    """The states in the database, without reading the journals."""
    with site.services.database.reading() as session:
        return set(session.scalars(select(TaskRun.state).where(TaskRun.id.in_(ids))))


@pytest.fixture(scope="module")
def postgres() -> Generator[StoppablePostgres]:
    """A server for this module alone, which may be stopped."""
    with stoppable_postgres() as server:
        yield server


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_go_on_while_postgresql_is_stopped_and_the_history_catches_up(
    pool: str, postgres: StoppablePostgres, tmp_path: Path, figure: Report
) -> None:
    postgres.start()
    with running_site(tmp_path, database_url=postgres.new_database(pool)) as site:
        worker = site.worker(pool, pool=pool)
        ids, go_on = prepared(site)

        postgres.stop()
        go_on()
        until_all_ended(site, ids)
        with pytest.raises(DatabaseUnavailable):
            site.submit(FAILING, {"times": 0})
        past = str(site.app.send_task(FAILING.name, kwargs={"times": 0}, queue="conversations"))
        until_all_ended(site, [*ids, past])
        waiting = unread(site)
        assert waiting >= 2 * len(ids)

        postgres.start()
        back = time.monotonic()
        wait_until(lambda: site.rows([past]), seconds=30)
        check_that_the_history_caught_up(site, ids)
        figure(
            f"PostgreSQL stopped under {pool}: {waiting} events recorded after",
            f"{time.monotonic() - back:.1f} s of its return",
        )
        assert site.until(past).state == TaskState.COMPLETED
        assert site.until(site.message("after-stop")).state == TaskState.COMPLETED
        assert not worker.ended
        worker.kill()
    postgres.stop()


def test_tasks_go_on_while_another_writer_holds_sqlite_and_the_history_catches_up(site: Site) -> None:
    worker = site.worker()
    ids, go_on = prepared(site)
    needing = site.message("while-locked", delay=1)

    with locked(site.folder / "data" / "laneway.db"):
        go_on()
        until_all_ended(site, ids)
        wait_until(lambda: unread(site) >= 2 * len(ids), seconds=10)
        assert TaskState.COMPLETED not in states_as_stored(site, ids)

    assert site.until(needing, seconds=60).state == TaskState.COMPLETED
    check_that_the_history_caught_up(site, ids)
    assert site.until(site.message("after-lock")).state == TaskState.COMPLETED
    assert [turn.role for turn in site.turns("while-locked")] == ["customer", "assistant"]
    assert not worker.ended


def test_a_task_that_needs_the_database_runs_when_it_is_back(postgres: StoppablePostgres, tmp_path: Path) -> None:
    postgres.start()
    with running_site(tmp_path, database_url=postgres.new_database("needed")) as site:
        waiting = site.message("needs-the-database")
        worker = site.worker(TASK_MAX_RETRIES="0")
        assert site.until(waiting).state == TaskState.COMPLETED
        id = site.message("needs-the-database", "And now?", delay=1)

        postgres.stop()
        wait_until(lambda: "DatabaseUnavailable" in worker.output(), seconds=30)
        postgres.start()

        assert site.until(id, seconds=90).state == TaskState.COMPLETED
        assert [turn.role for turn in site.turns("needs-the-database")] == ["customer", "assistant"] * 2
        assert not worker.ended
        worker.kill()
    postgres.stop()
