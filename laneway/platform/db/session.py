"""One database, SQLite or PostgreSQL, with two kinds of session: one that reads, and one that writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.orm import Session

from laneway.platform.db.database_errors import PRIMARY_CODE, platform_error
from laneway.platform.db.fork_gate import fork_gate
from laneway.platform.errors import DatabaseUnavailable

BUSY_SECONDS = 30
"""Seconds that a SQLite writer waits for another one to finish."""
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
        self._write_lock = Lock() if self.is_sqlite else nullcontext()
        """Lets one writer of this process in at a time. SQLite's own waiting has longer and longer pauses, and would
        stop every greenlet of the thread, including the one that writes. No thread holds this lock while the process
        forks."""
        if self.is_sqlite:
            fork_gate.close_before_fork(self.close)

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """A session that writes. It is committed at the end of the block, and rolled back on an error.

        On SQLite it takes the write lock at the start, so that another writer cannot make it fail later.
        Raises DatabaseUnavailable.
        """
        with self._session(writes=True) as session:
            yield session

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session that only reads. It never waits for a writer. Raises DatabaseUnavailable."""
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
                self._write_lock if writes else nullcontext(),
                self.engine.connect().execution_options(laneway_writes=writes) as connection,
                connection.begin(),
                Session(bind=connection, expire_on_commit=False) as session,
            ):
                yield session
                session.flush()
        except DBAPIError as error:
            problem = platform_error(error, self.url)
            if problem is None:
                raise
            raise problem from error
        except NoFreeConnection as error:
            raise DatabaseUnavailable("no free connection") from error


def _postgresql(url: str) -> Engine:
    return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=40, connect_args={"connect_timeout": 5})


def _sqlite(url: str) -> Engine:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=5, max_overflow=40)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions itself
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(_SET_BUSY_TIMEOUT)


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
    deadline = monotonic() + BUSY_SECONDS
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
