"""A process that is forked while other threads of the parent write to the database or log can do both."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from laneway.platform.db.fork_gate import ForkGate, fork_gate
from laneway.platform.db.session import Database
from tests.fixtures.waiting import wait_until

# Python itself warns about forks with several threads, which is the subject of these tests.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
CHILD_SECONDS = 12
"""How long a child may take; shorter than a SQLite writer waits for another one."""
SECONDS = 10.0
"""How long any other step may take."""


def succeeds_in_a_child(work: Callable[[], object]) -> bool:
    """Fork and do the work in the child. False: it raised, or took longer than CHILD_SECONDS."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills a child that hangs; a Python handler would never run
        signal.alarm(CHILD_SECONDS)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@contextmanager
def repeated_in_threads(work: Callable[[], object], *, threads: int) -> Generator[None]:
    """Do the work again and again in other threads while the block runs."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            work()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            yield
        finally:
            stop.set()
        for each in running:
            each.result(SECONDS)


class OtherThread:
    """Another thread that stays inside a block of the gate until it is released."""

    def __init__(self, gate: ForkGate, inside: Callable[[], object] = lambda: None) -> None:
        self._gate, self._inside = gate, inside
        self._entered, self._released = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._run)
        assert self._entered.wait(SECONDS)

    def release_after(self, seconds: float) -> None:
        threading.Timer(seconds, self._released.set).start()

    def wait(self) -> None:
        """Release the thread, and wait until it has left the block."""
        self._released.set()
        self._done.result(SECONDS)
        self._pool.shutdown()

    def _run(self) -> None:
        with self._gate.block_forks():
            self._entered.set()
            assert self._released.wait(SECONDS)
            self._inside()


def in_another_thread(work: Callable[[], None]) -> Future[None]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'forked.db'}")
    with database.transaction() as session:
        session.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY)"))
    yield database
    database.close()


def write(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("INSERT INTO notes DEFAULT VALUES"))
        threading.Event().wait(0.002)


def count(database: Database) -> int:
    with database.reading() as session:
        return session.execute(text("SELECT count(*) FROM notes")).scalar_one()


def test_every_child_can_write_although_it_was_forked_while_others_wrote(database: Database) -> None:
    url = database.url.render_as_string()
    with repeated_in_threads(lambda: write(database), threads=2):
        wait_until(lambda: count(database) > 10, seconds=20)
        assert all(succeeds_in_a_child(lambda: write(Database(url))) for _ in range(5))


def test_no_database_file_is_open_while_a_process_is_forked(database: Database, tmp_path: Path) -> None:
    write(database)
    assert open_files(tmp_path), "the pool keeps its connection"

    assert succeeds_in_a_child(lambda: os._exit(len(open_files(tmp_path))))
    assert count(database) == 1


def open_files(folder: Path) -> list[str]:
    descriptors = Path("/proc/self/fd")
    links = [str(descriptor.readlink()) for descriptor in descriptors.iterdir() if descriptor.is_symlink()]
    return [link for link in links if link.startswith(str(folder))]


def test_a_child_can_log_although_it_was_forked_while_a_line_was_written() -> None:
    long_line = "x" * 200_000  # more than a pipe takes, so that writing it waits for the reader
    read_end, write_end = os.pipe()
    logger = logging.getLogger()
    with ThreadPoolExecutor(2) as pool:
        with os.fdopen(write_end, "w") as stream:
            handler = logging.StreamHandler(stream)
            logger.addHandler(handler)
            try:
                writing = pool.submit(logger.error, long_line)
                reading = pool.submit(read_after, 0.5, read_end)
                assert succeeds_in_a_child(lambda: logger.error("from the child"))
                writing.result(SECONDS)
            finally:
                logger.removeHandler(handler)
        assert reading.result(SECONDS).split() == [long_line, "from", "the", "child"]


def read_after(seconds: float, descriptor: int) -> str:
    """Wait, and then read until every writer has closed the pipe."""
    time.sleep(seconds)
    with os.fdopen(descriptor) as stream:
        return stream.read()


def test_a_fork_waits_for_the_block_of_another_thread_and_keeps_new_ones_out() -> None:
    gate, steps = ForkGate(), list[str]()

    def nested_block() -> None:
        with gate.block_forks():
            steps.append("nested block")

    def second_block() -> None:
        with gate.block_forks():
            steps.append("second block")

    other = OtherThread(gate, nested_block)
    other.release_after(0.2)
    gate.before_fork()
    second = in_another_thread(second_block)
    other.wait()
    assert not second.done()
    steps.append("fork")
    gate.after_fork_in_parent()
    second.result(SECONDS)

    assert steps == ["nested block", "fork", "second block"]


def test_a_fork_waits_for_another_thread_no_longer_than_its_timeout(caplog: pytest.LogCaptureFixture) -> None:
    gate = ForkGate(timeout=0.1)
    other = OtherThread(gate)
    started = time.monotonic()
    gate.before_fork()
    waited = time.monotonic() - started
    gate.after_fork_in_parent()
    other.wait()

    assert 0.1 <= waited < SECONDS
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "forking while another thread uses the database" in caplog.text


def test_a_fork_does_not_wait_for_a_block_of_its_own_thread(caplog: pytest.LogCaptureFixture) -> None:
    gate = ForkGate(timeout=SECONDS)
    started = time.monotonic()
    with gate.block_forks():
        gate.before_fork()
        gate.after_fork_in_parent()

    assert time.monotonic() - started < SECONDS / 2
    assert caplog.records == []


def test_the_gate_of_this_process_is_open_again_after_a_fork(database: Database) -> None:
    assert succeeds_in_a_child(lambda: None)

    def write_in_a_block() -> None:
        with fork_gate.block_forks():
            write(database)

    in_another_thread(write_in_a_block).result(SECONDS)
    assert count(database) == 1
