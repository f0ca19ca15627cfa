"""Turns errors of the database's drivers into errors of the platform, which say what is wrong and what to do."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError

from laneway.platform.errors import DatabaseUnavailable

PRIMARY_CODE: Final = 0xFF
"""Mask of the primary code in an extended error code of SQLite, which is its lowest byte."""
NO_ROOM: Final = 1_048_576
"""A disk with fewer free bytes is full: SQLite needs some pages for its write-ahead log and its index."""
POSTGRESQL_REFUSALS: Final = {
    "25006": "it is read-only. Name the primary server in DATABASE_URL",
    "42501": "the user in DATABASE_URL may not do this. Grant it the rights on the tables",
}
"""SQLSTATE → what is wrong, and what to do."""
MISSING_TABLES: Final = "it has no tables, or old ones ({error}): run `laneway prepare`, which makes them"


class DatabaseFull(DatabaseUnavailable):
    """The database answers, and has no room to store anything: its disk is full, or its file has reached a limit."""

    title = "Storage full"

    template = "Nothing can be stored: {reason}"

    @property
    def retry_after(self) -> float:
        return 30.0


class DatabaseUnusable(DatabaseUnavailable):
    """The database is there and cannot be used: it is damaged, read-only, or lacks its tables."""

    title = "Database unusable"
    template = "The database cannot be used: {reason}"


def platform_error(error: DBAPIError, url: URL) -> DatabaseUnavailable | None:
    """Return what an error of the driver means; None for an error of a statement, such as a violated constraint."""
    driver_error = error.orig
    if isinstance(driver_error, sqlite3.Error):
        return _sqlite_problem(driver_error, Path(url.database or ""), is_operational=_is_operational(error))
    state = str(getattr(driver_error, "sqlstate", None) or "")
    if state == "53100":
        return DatabaseFull("the disk of the PostgreSQL server is full. Free space on it; what was accepted is kept")
    if state == "42P01":
        return DatabaseUnusable(MISSING_TABLES.format(error=_first_line(driver_error)))
    if state in POSTGRESQL_REFUSALS:
        return DatabaseUnusable(f"{POSTGRESQL_REFUSALS[state]} ({_first_line(driver_error)})")
    return DatabaseUnavailable(_first_line(driver_error)) if _is_operational(error) else None


def is_full(folder: Path) -> bool:
    """Whether the disk of this folder has no room for the database."""
    try:
        return shutil.disk_usage(folder).free < NO_ROOM
    except OSError:
        return False


def _sqlite_problem(error: sqlite3.Error, file: Path, *, is_operational: bool) -> DatabaseUnavailable | None:
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
    if code == sqlite3.SQLITE_FULL or (
        code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and is_full(file.parent)
    ):
        return DatabaseFull(_what_is_full(file))
    if code == sqlite3.SQLITE_READONLY:
        return DatabaseUnusable(f"{file} cannot be written: check the owner and the permissions of it and its folder")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseUnusable(f"{file} is damaged, or no SQLite database ({error}): restore it from a backup")
    if code == sqlite3.SQLITE_IOERR:
        return DatabaseUnusable(
            f"writing or reading {file} failed ({error}): a limit of its size is reached (a quota, `ulimit -f`), or "
            "the disk fails; see the log of the kernel"
        )
    if str(error).startswith(("no such table", "no such column")):
        return DatabaseUnusable(MISSING_TABLES.format(error=error))
    if code == sqlite3.SQLITE_CANTOPEN:
        return DatabaseUnavailable(f"{file}: {error}")
    return DatabaseUnavailable(str(error)) if is_operational else None


def _what_is_full(file: Path) -> str:
    if is_full(file.parent):
        return (
            f"the disk of {file.parent} is full. Free space on it, or move the data to another disk (DATA_DIR); "
            "what was accepted is kept"
        )
    return (
        f"{file} has reached the limit of its size (SQLite's max_page_count, or a quota), while its disk has room. "
        "Raise the limit, or delete old data with `laneway cleanup`; what was accepted is kept"
    )


def _is_operational(error: DBAPIError) -> bool:
    return isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
