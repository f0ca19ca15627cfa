"""One database, SQLite or PostgreSQL, with two kinds of session: one that reads, and one that writes.

Another program may hold the database: a backup, or somebody's open transaction. A session waits for it for a limited
time (`wait_limit`), which includes its turn among the writers of this process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import RLock, get_ident
from time import monotonic, sleep
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.orm import Session

from laneway.platform.db.database_errors import PRIMARY_CODE, platform_error
from laneway.platform.db.fork_gate import fork_gate
from laneway.platform.db.silent_server import SilenceWatch
from laneway.platform.db.wait_limit import restart_limit, seconds_left
from laneway.platform.errors import DatabaseBusy, DatabaseUnavailable

BUSY_SECONDS = 30
"""Seconds that a session waits for other writers, unless its caller has set a limit (`limit_waits`)."""
POOL_SECONDS = 5
"""Seconds that a session waits for a free connection of this process."""
LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL's code for a lock that another session held for longer than `lock_timeout`."""
WRITE_LOCK_POLL_SECONDS = 0.001
"""Seconds between two attempts to take the write lock."""
_SET_BUSY_TIMEOUT = f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}"


class Database:
    """The database connections of one process. A forked child makes its own.

    A SQLite file is never open while the process forks (`fork_gate`).
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(url) if self.is_sqlite else _postgresql(url)
        self._write_lock = RLock()
        """Lets one writer of this process in at a time. SQLite's own waiting has longer and longer pauses, and would
        stop every greenlet of the thread, including the one that writes. No thread holds this lock while the process
        forks."""
        self._writer: int | None = None
        if self.is_sqlite:
            fork_gate.close_before_fork(self.close)

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """A session that writes. It is committed at the end of the block, and rolled back on an error.

        On SQLite it takes the write lock at the start, so that another writer cannot make it fail later.
        Raises DatabaseBusy when the wait for other writers takes too long, and DatabaseUnavailable.
        """
        with self._session(writes=True) as session:
            yield session

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session that only reads. It waits for no writer, except for a lock on a whole table of PostgreSQL.

        Raises DatabaseUnavailable.
        """
        with self._session(writes=False) as session:
            yield session

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _session(self, *, writes: bool) -> Generator[Session]:
        try:
            with (
                fork_gate.block_forks() if self.is_sqlite else nullcontext(),
                self._turn() if writes and self.is_sqlite else nullcontext(),
                self.engine.connect().execution_options(laneway_writes=writes) as connection,
                connection.begin(),
                Session(bind=connection, expire_on_commit=False) as session,
            ):
                yield session
                session.flush()
            if writes:
                restart_limit()
        except DBAPIError as error:
            problem = DatabaseBusy(str(error.orig)) if _is_held(error.orig) else platform_error(error, self.url)
            if problem is None:
                raise
            raise problem from error
        except NoFreeConnection as error:
            raise DatabaseUnavailable("no free connection") from error

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Wait for the other writers of this process. Raises DatabaseBusy."""
        seconds, thread = seconds_left(BUSY_SECONDS), get_ident()
        if self._writer == thread:
            raise RuntimeError("This thread writes to the database already: use the session of that transaction.")
        try:
            if not self._write_lock.acquire(timeout=seconds):
                raise DatabaseBusy(f"another thread of this process has waited or written for {seconds:.1f} s")
            self._writer = thread
            yield
        finally:  # a task can be interrupted between any two instructions, so there is no "acquired" to trust
            if self._writer == thread:
                self._writer = None
            with suppress(RuntimeError):  # this thread does not hold it
                self._write_lock.release()


def _is_held(error: BaseException | None) -> bool:
    """Whether the error says that another program holds the database or a table."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE


def _postgresql(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=40,
        pool_timeout=POOL_SECONDS,
    )
    event.listen(engine, "do_connect", SilenceWatch().connect)
    event.listen(engine, "begin", _limit_lock_waits)
    return engine


def _limit_lock_waits(connection: Connection) -> None:
    """Let no statement of the transaction wait longer for a lock than its session may wait. (0 would mean no limit.)"""
    milliseconds = max(1, int(1000 * seconds_left(BUSY_SECONDS)))
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")


def _sqlite(url: str) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS}, pool_size=5, max_overflow=40, pool_timeout=POOL_SECONDS
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions itself
    _write_ahead(connection)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(_SET_BUSY_TIMEOUT)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Use a write-ahead log. Of a new file the mode is changed, which several processes may try at their start.

    SQLite does not always wait for the lock that the change needs, so this function asks again.
    """
    deadline = monotonic() + seconds_left(BUSY_SECONDS)
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not _is_held(error) or monotonic() >= deadline:
                raise
            sleep(WRITE_LOCK_POLL_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("laneway_writes", True):
        _take_write_lock(connection)
    else:
        connection.exec_driver_sql("BEGIN DEFERRED")


def _take_write_lock(connection: Connection) -> None:
    """Begin a write transaction as soon as no other process has one.

    SQLite's own waiting has growing pauses of up to 100 ms, and the lock is free during most of them. So this function
    sets SQLite's waiting to zero and polls instead.
    """
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    deadline = monotonic() + seconds_left(BUSY_SECONDS)
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY:
                    break
            else:
                return
            sleep(WRITE_LOCK_POLL_SECONDS)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises the error as SQLAlchemy's
    finally:
        driver.execute(_SET_BUSY_TIMEOUT)
