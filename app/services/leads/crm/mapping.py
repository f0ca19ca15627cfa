"""Our fields as theirs: dotted paths out of a lead, and into the body of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def mapped(data: Mapping[str, Any], mapping: Mapping[str, str], *, blanks: bool) -> dict[str, Any]:
    """The body of a request: what `mapping` names (ours -> theirs), or everything under our names without one.

    `blanks`: what is not known is sent as null, so that what was taken from a lead goes from the CRM, too.
    """
    if not mapping:
        return {name: value for name, value in data.items() if blanks or value is not None}
    body: dict[str, Any] = {}
    for ours, theirs in mapping.items():
        value = found(data, ours)
        if blanks or value is not None:
            _put(body, theirs, value)
    return body


def found(data: Any, path: str) -> Any:
    """What is at a dotted path, None where nothing is; a number is a place in a list."""
    for part in path.split("."):
        if isinstance(data, Mapping):
            data = cast("Mapping[str, Any]", data).get(part)
        elif isinstance(data, list):
            data = _item(cast("list[Any]", data), part)
        else:
            return None
    return data


def _item(items: list[Any], place: str) -> Any:
    number = int(place) if place.isascii() and place.isdecimal() and len(place) < 6 else -1
    return items[number] if 0 <= number < len(items) else None


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        body = body.setdefault(part, {})
    body[last] = value
