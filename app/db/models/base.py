"""What the application's tables share."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy.orm import DeclarativeBase

from laneway.platform.db.models.base import COLUMN_TYPES, Id, UtcDateTime

__all__ = ["Base", "Id", "UtcDateTime"]


class Base(DeclarativeBase):
    """The base of every table of the application; the platform's tables have a base of their own."""

    type_annotation_map: ClassVar = COLUMN_TYPES
