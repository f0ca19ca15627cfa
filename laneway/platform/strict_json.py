"""JSON that every database and every response accepts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

MAX_NESTING: Final = 100
"""Most levels of objects and lists in a JSON value. Pydantic cannot return a value with more than 255 levels."""


def strict_json(data: dict[str, Any]) -> str:
    """Return JSON that every database and every response accepts.

    Raises TypeError for values that are no JSON, and ValueError for NaN, half of a surrogate pair, and deep nesting.
    """
    level: list[Any] = [data]
    for _ in range(MAX_NESTING):
        level = [part for value in level for part in _parts(value)]
    if level:
        raise ValueError(f"it is nested more than {MAX_NESTING} times")
    text = json.dumps(data, sort_keys=True, allow_nan=False, ensure_ascii=False)
    text.encode()
    return text


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value).values()
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()
