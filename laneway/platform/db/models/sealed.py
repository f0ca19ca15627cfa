"""Columns that are encrypted with TASK_ENCRYPTION=all: written encrypted, and read as they were given.

A payload or result of a task is no such column: it stays encrypted outside of the database, too.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import JSON, Dialect, Text
from sqlalchemy.types import TypeDecorator

from laneway.platform.sealing import SEALED, opened, sealed_for_all

_START = f'{{"{SEALED}"'


class SealedJson(TypeDecorator[Any]):
    """JSON. Raises SealedUnreadable when it is read without its key."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return value if value is None else sealed_for_all(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return opened(value)


class SealedText(TypeDecorator[str]):
    """A text. Raises SealedUnreadable when it is read without its key."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        sealed = value if value is None else sealed_for_all(value)
        return json.dumps(sealed) if isinstance(sealed, dict) else sealed

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return opened(json.loads(value)) if value is not None and value.startswith(_START) else value
