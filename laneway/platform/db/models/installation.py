"""The table of the installation: the identity of everything that works on one database."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base


class Installation(Base):
    """The one row that names the installation. A copy of the database has the same name."""

    __tablename__ = "installation"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
    written_at: Mapped[datetime]
    """When a process last tried whether the database takes a write."""
    room: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Filled for a moment, to see whether the file of the database can grow."""
