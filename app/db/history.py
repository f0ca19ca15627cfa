"""The migrations of the application's tables."""

from __future__ import annotations

from pathlib import Path

from app.db.models import Base
from laneway.platform.db.migration_history import MigrationHistory

APPLICATION_HISTORY = MigrationHistory(Path(__file__).parent / "migrations", "app_version", Base.metadata)
