"""What all tables share. Times are timezone-aware and in UTC; ids from outside are strings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

Id = BigInteger().with_variant(Integer, "sqlite")
"""The type of an auto-incremented key. SQLite increments INTEGER columns only."""


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware time. SQLite has no time zones and gets it in UTC. Raises ValueError for a naive time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


COLUMN_TYPES = {datetime: UtcDateTime, dict[str, Any]: JSON, list[Any]: JSON, str: Text}
"""The type of a column, by the type of its attribute."""


class Base(DeclarativeBase):
    """Base of every table of the platform."""

    type_annotation_map: ClassVar = COLUMN_TYPES
