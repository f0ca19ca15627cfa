"""Alembic runs this file for each command."""

from laneway.platform.db.migrate import run_migrations

run_migrations()
