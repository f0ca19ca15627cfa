"""Brings the database's schema up to date.

The platform and the application each have a history of migrations, with a version table of its own. One transaction
brings all of them up to date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import String, column, select, table, text
from sqlalchemy.orm import Session

from laneway.platform.db.migration_history import PLATFORM_HISTORY, MigrationHistory
from laneway.platform.db.models import UtcDateTime
from laneway.platform.db.session import Database

if TYPE_CHECKING:  # Alembic is imported only when something is missing: that is a tenth of a second for each command
    from alembic.config import Config

NUMBERED: Final = re.compile(r"(\d{4})_\w+\.py")
"""The name of a migration's file: its number, which is its revision, and what it is about."""
ADVISORY_LOCK = 5_263_926
"""The PostgreSQL lock that keeps two migrations from running at once. On SQLite the write lock does that."""


def upgrade(url: str, histories: Sequence[MigrationHistory] = (PLATFORM_HISTORY,)) -> None:
    """Run the missing migrations in one transaction. Of several callers at once, one runs them and the others wait.

    It does not write when nothing is missing, so that a process can start while another program holds the database.
    """
    database = Database(url)
    try:
        if _is_current(database, histories):
            return
        with database.transaction() as session:
            from alembic import command

            if not database.is_sqlite:
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
            for history in histories:
                config = alembic_configuration(history)
                config.attributes["connection"] = session.connection()
                command.upgrade(config, "head")
    finally:
        database.close()


def _is_current(database: Database, histories: Sequence[MigrationHistory]) -> bool:
    with database.reading() as session:
        return all(_has_newest(session, history) for history in histories)


def _has_newest(session: Session, history: MigrationHistory) -> bool:
    """Whether the newest migration of a history has run; False also if its number cannot be told."""
    numbers = [NUMBERED.fullmatch(file.name) for file in (history.folder / "versions").glob("[!_]*.py")]
    connection = session.connection()
    if not numbers or not all(numbers) or not connection.dialect.has_table(connection, history.version_table):
        return False
    version = column("version_num", String())
    found = session.scalars(select(version).select_from(table(history.version_table))).all()
    return found == [max(number[1] for number in numbers if number)]


def run_migrations() -> None:
    """Run the migrations of the current Alembic command. The `env.py` of each history calls this."""
    from alembic import context

    history: MigrationHistory = context.config.attributes["history"]
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=history.metadata,
        version_table=history.version_table,
        render_item=_render_item,
    )
    context.run_migrations()


def alembic_configuration(history: MigrationHistory) -> Config:
    """Alembic's configuration, without a configuration file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    config.attributes["history"] = history
    return config


def _render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False
