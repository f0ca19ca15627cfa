"""The base class and column types of the application's tables."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy.orm import DeclarativeBase

from laneway.platform.db.models.base import COLUMN_TYPES, Id, UtcDateTime

__all__ = ["Base", "Id", "UtcDateTime"]


class Base(DeclarativeBase):
    """The base class of the application's tables; the platform's tables have their own."""

    type_annotation_map: ClassVar = COLUMN_TYPES
