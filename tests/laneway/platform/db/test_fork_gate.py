"""Processes that are forked while other threads of the parent write to the database, or log, can do both."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from laneway.platform.db.fork_gate import ForkGate, gate
from laneway.platform.db.session import Database
from tests.fixtures.waiting import wait_until

# Python's own warning about the matter of these tests.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
CHILD_SECONDS = 12
"""Less than a SQLite writer waits for another."""


def succeeds_in_a_child(work: Callable[[], object]) -> bool:
    """Fork, and do the work there; it is given up after a while."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler in Python would never be called
        signal.alarm(CHILD_SECONDS)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@contextmanager
def all_the_while(work: Callable[[], object], *, threads: int) -> Generator[None]:
    """Do this again and again in other threads."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            work()

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'forked.db'}")
    with made.transaction() as session:
        session.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY)"))
    yield made
    made.close()


def write(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("INSERT INTO notes DEFAULT VALUES"))
        threading.Event().wait(0.002)


def count(database: Database) -> int:
    with database.reading() as session:
        return session.execute(text("SELECT count(*) FROM notes")).scalar_one()


def test_every_child_can_write_although_it_was_forked_while_others_wrote(database: Database) -> None:
    url = database.url.render_as_string()
    with all_the_while(lambda: write(database), threads=2):
        wait_until(lambda: count(database) > 10, seconds=20)
        assert all(succeeds_in_a_child(lambda: write(Database(url))) for _ in range(5))


def test_no_database_file_is_open_while_a_process_is_forked(database: Database, tmp_path: Path) -> None:
    write(database)
    assert open_files(tmp_path), "the pool keeps its connection"

    assert succeeds_in_a_child(lambda: os._exit(len(open_files(tmp_path))))
    assert count(database) == 1


def open_files(folder: Path) -> list[str]:
    descriptors = Path("/proc/self/fd")
    links = [str(one.readlink()) for one in descriptors.iterdir() if one.is_symlink()]
    return [link for link in links if link.startswith(str(folder))]


def test_a_child_can_log_although_it_was_forked_while_a_line_was_written() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        handler = logging.StreamHandler(stream)
        logger = logging.getLogger()
        logger.addHandler(handler)
        try:
            long = threading.Thread(target=logger.error, args=("x" * 200_000,))  # more than the pipe takes
            long.start()
            reader = threading.Timer(0.5, drain, (read,))
            reader.start()
            assert succeeds_in_a_child(lambda: logger.error("from the child"))
            long.join()
        finally:
            logger.removeHandler(handler)
    reader.join()


def drain(descriptor: int) -> None:
    """Read until nobody can write any more."""
    with os.fdopen(descriptor, "rb") as stream:
        stream.read()


def test_a_fork_waits_for_the_block_of_another_thread_and_keeps_new_ones_out() -> None:
    own = ForkGate()
    steps: list[str] = []
    entered, may_leave = threading.Event(), threading.Event()

    def inside() -> None:
        with own.held_off():
            entered.set()
            may_leave.wait()
            with own.held_off():
                steps.append("nested")
        own_second_block()

    def own_second_block() -> None:
        with own.held_off():
            steps.append("second block")

    thread = threading.Thread(target=inside)
    thread.start()
    entered.wait()
    threading.Timer(0.2, may_leave.set).start()
    own.close()
    steps.append("forked")
    own.open()
    thread.join()

    assert steps == ["nested", "forked", "second block"]


def test_a_fork_does_not_wait_for_ever_nor_for_its_own_thread() -> None:
    own = ForkGate(patience=0.1)
    entered, may_leave = threading.Event(), threading.Event()

    def inside() -> None:
        with own.held_off():
            entered.set()
            may_leave.wait()

    thread = threading.Thread(target=inside)
    thread.start()
    entered.wait()
    with own.held_off():
        own.close()
        own.open()
    may_leave.set()
    thread.join()


def test_the_gate_of_this_process_is_open_again_after_a_fork(database: Database) -> None:
    assert succeeds_in_a_child(lambda: None)

    with gate.held_off():
        write(database)
    assert count(database) == 1
