"""Alembic's entry."""

from laneway.platform.db.migrate import run_migrations

run_migrations()
