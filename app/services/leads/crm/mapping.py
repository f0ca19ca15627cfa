"""Maps a lead's fields to a CRM's: dotted paths into the lead, and into the body of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

_PLACEHOLDER: Final = re.compile(r"\{([^{}\s]{1,200})\}")


def mapped(data: Mapping[str, Any], mapping: Mapping[str, str], *, include_unknown: bool) -> dict[str, Any]:
    """The body of a request: the fields that `mapping` names (ours -> theirs); all fields if it is empty.

    `include_unknown` sends unknown fields as null, so that a field removed from a lead is removed from the CRM too.
    """
    if not mapping:
        return {name: value for name, value in data.items() if include_unknown or value is not None}
    body: dict[str, Any] = {}
    for ours, theirs in mapping.items():
        value = value_at(data, ours)
        if include_unknown or value is not None:
            _set_value(body, theirs, value)
    return body


def filled(template: Any, data: Mapping[str, Any], *, encode: Callable[[str], str] = str) -> Any:
    """A template of JSON in whose texts `{path}` is replaced by the lead's value; `encode` is applied to each value.

    Raises LookupError with the path of a value that is unknown.
    """
    if isinstance(template, dict):
        entries = cast("dict[str, Any]", template).items()
        return {name: filled(value, data, encode=encode) for name, value in entries}
    if isinstance(template, list):
        return [filled(value, data, encode=encode) for value in cast("list[Any]", template)]
    if isinstance(template, str):
        return _PLACEHOLDER.sub(lambda found: encode(_known(data, found[1])), template)
    return template


def _known(data: Mapping[str, Any], path: str) -> str:
    value = value_at(data, path)
    if value is None or value == "" or isinstance(value, Mapping | list):
        raise LookupError(path)
    return str(value)


def value_at(data: Any, path: str) -> Any:
    """The value at a dotted path, None if there is none; a number is an index of a list."""
    for part in path.split("."):
        if isinstance(data, Mapping):
            data = cast("Mapping[str, Any]", data).get(part)
        elif isinstance(data, list):
            data = _item(cast("list[Any]", data), part)
        else:
            return None
    return data


def _item(items: list[Any], part: str) -> Any:
    index = int(part) if part.isascii() and part.isdecimal() and len(part) < 6 else -1
    return items[index] if 0 <= index < len(items) else None


def _set_value(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        body = body.setdefault(part, {})
    body[last] = value
