"""Compares the version of the database's tables with the one that this program was written for.

During a roll-out the two differ. A migration only adds what earlier programs do not need, so a program works on newer
tables, and says once that they are newer. It cannot work on older tables, because it would miss columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import String, column, inspect, select, table
from sqlalchemy.orm import Session

from laneway.platform.db.migration_history import MigrationHistory
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError
from laneway.platform.logging import logger

log = logger(__name__)


class OldSchema(ConfigError):
    """The tables of the database are older than this program."""

    template = (
        "The tables of the database are older than this program: {version_table} is {found}, and it needs {needed}. "
        "Run `laneway prepare` with this version first; older workers go on meanwhile."
    )
    version_table: str
    found: str
    needed: str


class SchemaVersions:
    """The versions of the tables that a program knows, and that it has reported as newer."""

    def __init__(self, database: Database, histories: Sequence[MigrationHistory]) -> None:
        self._database, self._histories = database, histories
        self._reported: set[str] = set()

    def check(self) -> None:
        """Raise OldSchema for tables that are older than this program, and log once which ones are newer.

        Raises DatabaseUnavailable.
        """
        for history, found in self._found():
            revisions = history.revisions
            if found not in (None, *revisions):
                self._report(history, found)
            elif found != history.head:
                raise OldSchema(history.version_table, found or "missing", history.head)

    def report_newer(self) -> None:
        """Log once which tables are newer than this program. Raises DatabaseUnavailable."""
        for history, found in self._found():
            if found not in (None, *history.revisions):
                self._report(history, found)

    def _found(self) -> list[tuple[MigrationHistory, str | None]]:
        with self._database.reading() as session:
            return [(history, current_revision(session, history)) for history in self._histories]

    def _report(self, history: MigrationHistory, found: str | None) -> None:
        if history.version_table not in self._reported:
            self._reported.add(history.version_table)
            report_newer(history, found)


def report_newer(history: MigrationHistory, found: str | None) -> None:
    """Log that the tables are newer than this program."""
    log.warning(
        "the tables are newer than this program, which goes on: deploy the version that migrated them",
        version_table=history.version_table,
        found=found,
        known=history.head,
    )


def current_revision(session: Session, history: MigrationHistory) -> str | None:
    """The revision of the tables in the database; None without any."""
    if not inspect(session.connection()).has_table(history.version_table):
        return None
    version = column("version_num", String)
    return session.scalar(select(version).select_from(table(history.version_table, version)))
