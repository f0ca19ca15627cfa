"""SQLite files with the schema, and without rows, for each test: one file a process, replaced by a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

from laneway.platform.db.session import Database


class EmptiedSqlite:
    """One SQLite file. The process prepares each statement once, because the `Database` stays the same."""

    def __init__(self, template: Path, path: Path) -> None:
        """`template`: a file with the schema that nobody has open."""
        self._template, self._path = template, path
        self.database = Database(f"sqlite:///{path}")

    def empty(self) -> Database:
        """Replace the file. Whoever still has the old one open keeps it, and cannot write into the new one."""
        self.database.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self._template, self._path)
        return self.database
