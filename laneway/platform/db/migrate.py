"""Brings the database's schema up to date.

The platform and the application each have a history of migrations, with a version table of its own. One transaction
brings all of them up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from laneway.platform.db.migration_history import PLATFORM_HISTORY, MigrationHistory
from laneway.platform.db.models import UtcDateTime
from laneway.platform.db.schema_versions import current_revision, report_newer
from laneway.platform.db.session import Database

if TYPE_CHECKING:  # Alembic is imported only when something is missing: that is a tenth of a second for each command
    from alembic.config import Config

ADVISORY_LOCK = 5_263_926
"""The PostgreSQL lock that keeps two migrations from running at once. On SQLite the write lock does that."""


def upgrade(url: str, histories: Sequence[MigrationHistory] = (PLATFORM_HISTORY,)) -> None:
    """Run the missing migrations in one transaction. Of several callers at once, one runs them and the others wait.

    It does not write when nothing is missing, so that a process can start while another program holds the database.
    Tables that a newer program has migrated stay as they are.
    """
    database = Database(url)
    try:
        behind = _behind(database, histories)
        if not behind:
            return
        with database.transaction() as session:
            from alembic import command

            if not database.is_sqlite:
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
            for history in behind:
                config = alembic_configuration(history)
                config.attributes["connection"] = session.connection()
                command.upgrade(config, "head")
    finally:
        database.close()


def _behind(database: Database, histories: Sequence[MigrationHistory]) -> list[MigrationHistory]:
    """The histories of which migrations are missing. Logs which tables are newer than this program."""
    behind: list[MigrationHistory] = []
    with database.reading() as session:
        for history in histories:
            found = current_revision(session, history)
            if found not in (None, *history.revisions):
                report_newer(history, found)
            elif found != history.head:
                behind.append(history)
    return behind


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
