"""Parts of calls: adapters of answers, parts of paths, parameters."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import quote

from pydantic import TypeAdapter

T = TypeVar("T")


@cache
def adapter(model: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(model)


def part(value: str) -> str:
    """One part of a path."""
    if not value:
        raise ValueError("an id or a name is not empty")
    return quote(value, safe="")


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that are set, as the API reads them."""
    return {name: _text(value) for name, value in parameters.items() if value is not None and value != ()}


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return [str(item) for item in cast("tuple[object, ...]", value)] if isinstance(value, tuple) else value
