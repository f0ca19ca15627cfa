"""Paths into an event, such as `body.customer.email` or `body.lines.0.sku`, and templates that are filled from them.

    event          id, source, name, kind, occurred_at, is_test
    body           the event as received
    interaction    the event as an interaction with a customer, if it says whose it is

`${path}` in a template stands for a value, `${path?}` for one that may be missing. A text that is one placeholder
becomes the value itself, of any type; a placeholder inside a text becomes text. `$${` is a plain `${`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from app.services.webhooks.mapping.errors import Misfit

ROOTS: Final = ("event", "body", "interaction")
EVENT_FIELDS: Final = ("id", "source", "name", "kind", "occurred_at", "is_test")
_PLACEHOLDER: Final = re.compile(r"\$(\$?)\{([^{}]*)\}")
_PATH: Final = re.compile(rf"({'|'.join(ROOTS)})(\.[^\s.?{{}}]+)*")
_OMIT: Final = object()
"""Stands for an optional value that is missing: its field or item is left out."""


def path_problem(path: str) -> str | None:
    """What is wrong with a path; None if nothing is."""
    if not _PATH.fullmatch(path):
        return f"{path!r} is not a path: write {', '.join(ROOTS)}, and names of fields after dots"
    root, *rest = path.split(".")
    if root == "event" and (len(rest) != 1 or rest[0] not in EVENT_FIELDS):
        return f"{path!r} does not exist: the fields of event are {', '.join(EVENT_FIELDS)}"
    return None


def value_at(scope: dict[str, Any], path: str) -> Any:
    """The value at a path; None if there is none."""
    value: Any = scope
    for name in path.split("."):
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[int(name)]
        else:
            return None
    return value


def placeholders(template: Any) -> Iterator[str]:
    """The content of each placeholder in a template."""
    if isinstance(template, str):
        yield from (found.group(2) for found in _PLACEHOLDER.finditer(template) if not found.group(1))
    elif isinstance(template, dict):
        for value in cast("dict[str, Any]", template).values():
            yield from placeholders(value)
    elif isinstance(template, list):
        for item in cast("list[Any]", template):
            yield from placeholders(item)


def is_placeholder(template: Any) -> bool:
    """True for a text that is one placeholder and nothing else."""
    found = _PLACEHOLDER.fullmatch(template) if isinstance(template, str) else None
    return found is not None and not found.group(1)


def filled(template: Any, scope: dict[str, Any]) -> Any:
    """The template with its placeholders replaced. Raises Misfit."""
    value = _filled(template, scope)
    return None if value is _OMIT else value


def _filled(template: Any, scope: dict[str, Any]) -> Any:
    if isinstance(template, dict):
        pairs = ((name, _filled(value, scope)) for name, value in cast("dict[str, Any]", template).items())
        return {name: value for name, value in pairs if value is not _OMIT}
    if isinstance(template, list):
        values = (_filled(item, scope) for item in cast("list[Any]", template))
        return [value for value in values if value is not _OMIT]
    if not isinstance(template, str):
        return template
    if is_placeholder(template):
        return _value(template[2:-1], scope)
    return _PLACEHOLDER.sub(lambda found: _text(found, scope), template)


def _value(path: str, scope: dict[str, Any]) -> Any:
    optional = path.endswith("?")
    value = value_at(scope, path.removesuffix("?"))
    if value is None and not optional:
        raise Misfit(f"the event has no {path}")
    return _OMIT if value is None else value


def _text(found: re.Match[str], scope: dict[str, Any]) -> str:
    escaped, path = found.groups()
    if escaped:
        return found.group(0)[1:]
    value = _value(path, scope)
    if value is _OMIT:
        return ""
    if isinstance(value, dict | list):
        raise Misfit(f"{path} is not a text or a number")
    return str(value).lower() if isinstance(value, bool) else str(value)
