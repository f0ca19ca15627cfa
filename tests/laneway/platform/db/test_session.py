"""Several writers of one SQLite file, in one process and in several."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread, Timer
from time import monotonic

import pytest
from sqlalchemy import func, select, text, update

from app.core.settings import ROOT
from app.db.models import Report
from laneway.platform import clock
from laneway.platform.db import session as sessions
from laneway.platform.db.models import TaskRun
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits, seconds_left
from laneway.platform.errors import DatabaseBusy
from tests.fixtures.held_database import held_by_another_program
from tests.fixtures.waiting import wait_until

GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys
import gevent
from app.db.models import Report
from laneway.platform import clock
from laneway.platform.db.session import Database

database = Database(sys.argv[1])

def write(number):
    with database.transaction() as session:
        session.add(Report(id=str(number), kind="test", data={}, created_at=clock.now()))
        session.flush()
        gevent.sleep(0.05)  # as if it talked to another server
    return number

print(sorted(gevent.pool.Pool(5).map(write, range(5))))
"""


@pytest.fixture
def database(new_database: Database) -> Database:
    """Tests here change more than rows."""
    return new_database


def count(database: Database) -> int:
    """The number of reports."""
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Report)) or 0


def test_threads_write_one_after_another(sqlite_database: Database) -> None:
    def write(number: int) -> None:
        with sqlite_database.transaction() as session:
            session.add(Report(id=str(number), kind="test", data={}, created_at=clock.now()))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write, range(200)))

    assert count(sqlite_database) == 200


def test_the_next_writer_can_write_after_an_error(sqlite_database: Database) -> None:
    for _ in range(2):
        try:
            with sqlite_database.transaction():
                raise ValueError
        except ValueError:
            pass

    assert count(sqlite_database) == 0


def test_greenlets_that_switch_while_they_write_do_not_block_each_other(
    sqlite_database: Database, tmp_path: Path
) -> None:
    url = sqlite_database.url.render_as_string(hide_password=False)
    script = tmp_path / "greenlets.py"
    script.write_text(GREENLETS.replace("import gevent\n", "import gevent\nimport gevent.pool\n"))

    ran = subprocess.run(
        [sys.executable, script, url],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert ran.stdout.strip() == "[0, 1, 2, 3, 4]", ran.stderr[-2000:]
    assert count(sqlite_database) == 5


@contextmanager
def other_writer(database: Database) -> Generator[sqlite3.Connection]:
    """A connection that holds the write lock. To SQLite it is the same as another process."""
    connection = sqlite3.connect(str(database.url.database), isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        connection.close()


def test_a_writer_waits_for_another_process(sqlite_database: Database) -> None:
    started = Event()

    def write() -> None:
        started.set()
        with sqlite_database.transaction() as session:
            session.add(Report(id="1", kind="test", data={}, created_at=clock.now()))

    writer = Thread(target=write)
    with other_writer(sqlite_database) as other:
        writer.start()
        assert started.wait(10)
        writer.join(0.3)
        assert writer.is_alive()
        assert count(sqlite_database) == 0  # a reader waits for no writer
        other.execute("COMMIT")
        writer.join(10)

    assert count(sqlite_database) == 1


def test_waiting_too_long_for_another_process_is_database_busy(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "BUSY_SECONDS", 0.2)
    with (
        other_writer(sqlite_database),
        pytest.raises(DatabaseBusy, match="locked"),
        sqlite_database.transaction(),
    ):
        raise AssertionError

    with sqlite_database.transaction() as session:
        session.add(Report(id="1", kind="test", data={}, created_at=clock.now()))
    assert count(sqlite_database) == 1


def test_all_waits_share_one_limit_with_the_turn_among_the_threads(database: Database) -> None:
    with held_by_another_program(database), ThreadPoolExecutor(8) as pool:
        began = monotonic()
        list(pool.map(partial(write_until_busy, database), range(8)))
        assert 1 <= monotonic() - began < 4  # one after the other, they would take 8 seconds


def write_until_busy(database: Database, number: int) -> None:
    with limit_waits(1.0), pytest.raises(DatabaseBusy), database.transaction() as session:
        session.execute(update(TaskRun).values(priority=number))


def test_a_writer_that_got_on_may_wait_again(sqlite_database: Database) -> None:
    with limit_waits(0.2):
        for number in range(3):
            begun = monotonic()
            wait_until(lambda: monotonic() - begun > 0.15, seconds=10)  # noqa: B023 - called in this round only
            with sqlite_database.transaction() as session:
                session.add(Report(id=str(number), kind="test", data={}, created_at=clock.now()))
        assert seconds_left(9) > 0.1


def test_a_transaction_within_a_transaction_is_an_error_and_no_deadlock(sqlite_database: Database) -> None:
    with (
        sqlite_database.transaction(),
        pytest.raises(RuntimeError, match="writes to the database already"),
        sqlite_database.transaction(),
    ):
        raise AssertionError
    with sqlite_database.transaction():
        pass


def test_a_file_that_is_no_database_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    database = Database(f"sqlite:///{tmp_path / 'broken.db'}")
    with pytest.raises(Exception, match="not a database"), database.transaction():
        raise AssertionError
    database.close()


def test_a_new_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses at once to change the mode of such a file, as at the first start of several processes."""
    file = tmp_path / "new.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE first (id INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite:///{file}")
    end = Timer(0.3, other.execute, ["COMMIT"])
    end.start()

    with database.reading() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
    end.join()
    other.close()
    database.close()
