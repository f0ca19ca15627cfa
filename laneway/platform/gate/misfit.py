"""Says why a payload does not fit the payload type of its task here, without any value of the payload.

The texts of two payloads that fail for the same reason are equal, so that they are counted together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError

from laneway.platform.history.adoption import POSITIONAL

MOST_PROBLEMS: Final = 4
"""Fields that one text names."""
LONGEST_NAME: Final = 64
UNKNOWN: Final = "extra_forbidden"
OWN_CHECKS: Final = ("value_error", "assertion_error")
"""Errors of the application's own checks: their texts may hold values."""


def misfit(model: type[BaseModel], payload: Mapping[str, Any]) -> str | None:
    """Why a payload does not fit; None: it fits."""
    try:
        model.model_validate(dict(payload))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        texts = list(dict.fromkeys(_text(model, dict(item)) for item in found))
        more = len(texts) - MOST_PROBLEMS
        return "; ".join(texts[:MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
    return None


def _text(model: type[BaseModel], item: dict[str, Any]) -> str:
    location: tuple[Any, ...] = item["loc"]
    if item["type"] == UNKNOWN:
        if location == (POSITIONAL,):
            return "it has positional arguments that the fields cannot take"
        return f"the field {_place(model, location[:-1], last=location[-1])!r} is not known"
    message = "a check of the application refuses it" if item["type"] in OWN_CHECKS else item["msg"]
    return f"{_place(model, location) or 'the payload'}: {message}"


def _place(model: type[BaseModel], location: tuple[Any, ...], *, last: Any = None) -> str:
    """The names of the fields on the way. Keys of a mapping and numbers in a list are data, and are left out."""
    known = _field_names(model)
    parts = [str(part) if part in known else "…" for part in location]
    if last is not None:
        parts.append(str(last)[:LONGEST_NAME])
    return ".".join(parts)


@lru_cache(maxsize=512)
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """The names of all fields of a payload type, also within others."""
    return frozenset(_properties(model.model_json_schema(by_alias=True))) | frozenset(model.model_fields)


def _properties(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for each in cast("list[Any]", schema):
            yield from _properties(each)
    if not isinstance(schema, dict):
        return
    for name, value in cast("dict[str, Any]", schema).items():
        if name == "properties" and isinstance(value, dict):
            yield from cast("dict[str, Any]", value)
        yield from _properties(value)
