"""The histories of migrations: where the migrations of a set of tables are.

Without Alembic, so that a process that migrates nothing does not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import MetaData

from laneway.platform.db.models import Base


@dataclass(frozen=True)
class MigrationHistory:
    """The migrations of one set of tables. `folder` contains Alembic's `env.py` and `versions`."""

    folder: Path
    version_table: str
    metadata: MetaData


PLATFORM_HISTORY = MigrationHistory(Path(__file__).parent / "migrations", "laneway_version", Base.metadata)
"""The platform's own tables."""
