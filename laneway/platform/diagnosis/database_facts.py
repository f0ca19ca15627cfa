"""The facts about the platform's database. Each question has a session of its own: a refused one stops no other."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from laneway._masking import without_login
from laneway.doctor.database_rules import DatabaseFacts, DeadRows, Tables
from laneway.platform import clock
from laneway.platform.db.migration_history import MigrationHistory
from laneway.platform.db.schema_versions import current_revision
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import PlatformError
from laneway.platform.operations.installation import Installation
from laneway.platform.settings.plaintext import is_loopback

WRITE_SECONDS: Final = 5.0
API_CONNECTIONS: Final = 45
"""What one process of the API uses at most: the pool of `Database`."""
WORKER_CONNECTIONS: Final = 6
"""What the main process of a worker uses: its maintenance has a thread for each of its jobs."""
_SETTINGS: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"
_NAMES: Final = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum", "default_transaction_read_only")
_OLDEST: Final = """SELECT COALESCE(MAX(EXTRACT(EPOCH FROM clock_timestamp() - xact_start)), 0)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
_DEAD: Final = "SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables ORDER BY n_dead_tup DESC LIMIT 20"
_SLOTS: Final = "SELECT slot_name FROM pg_replication_slots WHERE NOT active"
_XID: Final = "SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()"
_WAL: Final = "SELECT COALESCE(SUM(size), 0) FROM pg_ls_waldir()"


class NoFile(PlatformError):
    """The SQLite file is not there yet."""

    template = "There is no file {path} yet: `laneway prepare` or `laneway up` makes it."
    path: str


def collect_database(
    database: Database,
    histories: Sequence[MigrationHistory],
    *,
    installation: Installation,
    worker_slots: Sequence[int],
) -> DatabaseFacts:
    """Ask the database. `worker_slots`: the concurrency of each worker. Raises PlatformError if it is away."""
    file = existing_file(database)
    tables = _tables(database, histories)
    write_ms, write_error = _write(installation) if all(each.found for each in tables) else (None, None)
    common: dict[str, Any] = {
        "address": without_login(database.url.render_as_string(hide_password=True)),
        "is_sqlite": database.is_sqlite,
        "tables": tables,
        "write_ms": write_ms,
        "write_error": write_error,
    }
    if file is not None:
        return DatabaseFacts(**common, **_sqlite(database, file))
    return DatabaseFacts(**common, **_postgresql(database, worker_slots))


def existing_file(database: Database) -> Path | None:
    """The SQLite file; None for another database. Raises NoFile: to look at a missing file would make it."""
    if not database.is_sqlite:
        return None
    file = Path(database.url.database or "")
    if not file.exists():
        raise NoFile(str(file))
    return file


def _tables(database: Database, histories: Sequence[MigrationHistory]) -> list[Tables]:
    found: list[Tables] = []
    with database.reading() as session:
        for history in histories:
            revision = current_revision(session, history)
            is_newer = revision is not None and revision not in history.revisions
            found.append(
                Tables(version_table=history.version_table, found=revision, needed=history.head, is_newer=is_newer)
            )
    return found


def _write(installation: Installation) -> tuple[float | None, str | None]:
    """The milliseconds of one write, or why it failed."""
    try:
        with limit_waits(WRITE_SECONDS):
            _ = installation.id
            began = time.perf_counter()
            installation.check_writes()
    except PlatformError as error:
        return None, str(error)
    return 1000 * (time.perf_counter() - began), None


def _sqlite(database: Database, file: Path) -> dict[str, Any]:
    wal = file.with_name(f"{file.name}-wal")
    return {
        "version": sqlite3.sqlite_version,
        "size": file.stat().st_size,
        "wal": wal.stat().st_size if wal.exists() else 0,
        "free": shutil.disk_usage(file.parent).free,
        "file_system": file_system_of(file),
        "journal_mode": _scalar(database, "PRAGMA journal_mode"),
    }


def _postgresql(database: Database, worker_slots: Sequence[int]) -> dict[str, Any]:
    before = clock.now()
    now = _scalar(database, "SELECT clock_timestamp()")
    middle = before + (clock.now() - before) / 2
    rows = _rows(database, _SETTINGS, names=list(_NAMES))
    dead = _rows(database, _DEAD)
    slots = _rows(database, _SLOTS)
    oldest, used = _scalar(database, _OLDEST), _scalar(database, "SELECT COUNT(*) FROM pg_stat_activity")
    most = _scalar(database, "SELECT current_setting('max_connections')::int")
    return {
        "version": _scalar(database, "SHOW server_version"),
        "clock_offset": None if now is None else (now - middle).total_seconds(),
        "size": _scalar(database, "SELECT pg_database_size(current_database())"),
        "wal": _whole(_scalar(database, _WAL)),
        "free": _free_of_server(database),
        "max_connections": most,
        "used_connections": used,
        "wanted_connections": sum(slots + WORKER_CONNECTIONS for slots in worker_slots) + API_CONNECTIONS,
        "settings": None if rows is None else {str(name): str(value) for name, value in rows},
        "is_standby": _scalar(database, "SELECT pg_is_in_recovery()"),
        "oldest_transaction": None if oldest is None else float(oldest),
        "dead_rows": None if dead is None else [DeadRows(table=row[0], dead=row[1], live=row[2]) for row in dead],
        "idle_slots": None if slots is None else [str(row[0]) for row in slots],
        "xid_age": _scalar(database, _XID),
    }


def _free_of_server(database: Database) -> int | None:
    """The free bytes of the server's disk, if it is this machine's and its folder is known."""
    folder = (
        _scalar(database, "SELECT current_setting('data_directory')") if is_loopback(database.url.host or "") else None
    )
    try:
        return None if folder is None else shutil.disk_usage(folder).free
    except OSError:
        return None


def _rows(database: Database, statement: str, **values: object) -> Sequence[Any] | None:
    """The rows; None if this login may not see them."""
    try:
        with database.reading() as session:
            return session.execute(text(statement), values).all()
    except (SQLAlchemyError, PlatformError):
        return None


def _scalar(database: Database, statement: str) -> Any:
    rows = _rows(database, statement)
    return rows[0][0] if rows else None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def file_system_of(path: Path, mounts: str = "/proc/self/mountinfo") -> str | None:
    """The type of the file system on which a path is; None where the kernel does not say it."""
    try:
        lines = Path(mounts).read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    found: tuple[int, str] = (-1, "")
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) > 4 and right:
            place = Path(fields[4].replace("\\040", " "))
            if path.resolve().is_relative_to(place):
                found = max(found, (len(str(place)), right.split()[0]), key=lambda each: each[0])
    return found[1] or None
