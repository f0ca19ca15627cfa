"""Bring the database's schema up to date."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from app.db.session import Database

ADVISORY_LOCK = 5_263_926
"""PostgreSQL's lock that keeps two migrations from running at once; SQLite's write lock does the same."""


def upgrade(url: str) -> None:
    """Run the missing migrations in one transaction; of several callers at once, one does it and the others wait."""
    database = Database(url)
    try:
        with database.transaction() as session:
            if not database.is_sqlite:
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
            config = alembic_config()
            config.attributes["connection"] = session.connection()
            command.upgrade(config, "head")
    finally:
        database.close()


def alembic_config() -> Config:
    """Alembic's configuration, without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
