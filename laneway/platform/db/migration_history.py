"""The histories of migrations: where the migrations of a set of tables are.

Without Alembic, so that a process that migrates nothing does not load it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from sqlalchemy import MetaData

from laneway.platform.db.models import Base


@dataclass(frozen=True)
class MigrationHistory:
    """The migrations of one set of tables. `folder` contains Alembic's `env.py` and `versions`."""

    folder: Path
    version_table: str
    metadata: MetaData

    @cached_property
    def revisions(self) -> dict[str, str | None]:
        """Revision → the one before it, as the files of the migrations say."""
        found: dict[str, str | None] = {}
        for file in sorted((self.folder / "versions").glob("*.py")):
            names = dict(_REVISION.findall(file.read_text("utf-8")))
            if "revision" in names:
                found[names["revision"]] = names.get("down_revision")
        return found

    @property
    def head(self) -> str:
        """The newest revision."""
        return next(iter(self.revisions.keys() - set(self.revisions.values())), "")


_REVISION: Final = re.compile(r"""^((?:down_)?revision)\b[^=\n]*=\s*["']([^"']+)["']""", re.MULTILINE)

PLATFORM_HISTORY = MigrationHistory(Path(__file__).parent / "migrations", "laneway_version", Base.metadata)
"""The platform's own tables."""
