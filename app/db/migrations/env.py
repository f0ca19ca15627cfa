"""Alembic runs this module to migrate the application's tables."""

from laneway.platform.db.migrate import run_migrations

run_migrations()
