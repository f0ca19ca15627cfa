"""Untrusted JSON: parses it within bounds, and makes it storable."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, NoReturn, TypeAlias, cast

from pydantic import TypeAdapter, ValidationError

from laneway.platform.errors import InvalidPayload
from laneway.schemas.payload import Identifier

MAX_DEPTH = 32
MAX_VALUES = 100_000
MAX_NUMBER_BITS = 256
MAX_KEPT_FIELDS = 40
MAX_KEPT_TEXT = 500

Body: TypeAlias = dict[str, Any] | list[Any]
"""What a request holds: one object, or an array of them."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Null characters and lone surrogates: JSON allows them, databases and UTF-8 do not."""
_identifier: TypeAdapter[str] = TypeAdapter(Identifier)


def decode_body(raw: bytes, *, source: str) -> Body:
    """The JSON object or array in a request's body, as `storable` leaves it. Raises InvalidPayload."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise invalid(source, "the body is not JSON") from None
    return storable(value, source=source)


def storable(body: object, *, source: str) -> Body:
    """A copy of a JSON object or array that every database can store.

    Characters that cannot be stored become U+FFFD, numbers null. Raises InvalidPayload if the body is neither a JSON
    object nor an array, or exceeds the bounds of depth and size.
    """
    if not isinstance(body, dict | list):
        raise invalid(source, "the body is neither a JSON object nor an array")
    return cast("Body", _Copier(source).copy(cast("object", body), 1))


class _Copier:
    """Copies one body and counts its values."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._values = 0

    def copy(self, value: object, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise invalid(self._source, f"it holds more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise invalid(self._source, f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str):
            return _UNSTORABLE.sub("�", value)
        if isinstance(value, dict):
            items = cast("dict[object, object]", value).items()
            return {self._name(name): self.copy(item, depth + 1) for name, item in items}
        if isinstance(value, list):
            return [self.copy(item, depth + 1) for item in cast("list[object]", value)]
        return self._scalar(value)

    def _name(self, name: object) -> str:
        if not isinstance(name, str):
            raise invalid(self._source, "a field's name is not text")
        return _UNSTORABLE.sub("�", name)

    def _scalar(self, value: object) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= MAX_NUMBER_BITS else None
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        raise invalid(self._source, f"it holds a {type(value).__name__}, which is not JSON")


def invalid(source: str, *problems: str) -> InvalidPayload:
    """The error for a body that cannot be parsed at all."""
    return InvalidPayload(f"the {source} webhook", list(problems))


def conversation_id(source: str, *parts: str) -> str:
    """The id of an event's conversation: the same for the same parts, and never that of another source.

    The id is readable (`facebook:<page>:<sender>`) if that is valid and unambiguous; otherwise it has a digest.
    """
    joined = ":".join((source, *parts))
    unambiguous = all(part and ":" not in part for part in (source, *parts[:-1]))
    try:
        if unambiguous:
            return _identifier.validate_python(joined)
    except ValidationError:
        pass
    origin = source if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", source) else "webhook"
    return f"{origin}:sha256-{digest([source, *parts])}"


def digest(value: object) -> str:
    """40 hex digits (160 bits) of a JSON value, independent of the order of its fields."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:40]


def scalars(value: dict[str, Any]) -> dict[str, Any]:
    """The scalar fields of an object, bounded in number and length."""
    kept: dict[str, Any] = {}
    for name, item in value.items():
        if len(kept) == MAX_KEPT_FIELDS:
            break
        if isinstance(item, str):
            kept[name[:MAX_KEPT_TEXT]] = item[:MAX_KEPT_TEXT]
        elif isinstance(item, bool | int | float):
            kept[name[:MAX_KEPT_TEXT]] = item
    return kept


def present(**fields: object) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
