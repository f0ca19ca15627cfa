"""Models of foreign JSON: an optional field that cannot be read costs only itself, and becomes a problem.

Platforms add fields, leave them out, or send null, an empty string, or a list where their documentation has an object.
A `TolerantModel` reads such a payload by one rule: a required field must be readable, because nothing can be done
without it. An optional field that cannot be read is left empty, and `read` returns a sentence about it. Null, an empty
string and an empty list are no problem: they say that there is no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

MAX_PROBLEMS: Final = 20
"""The most problems that are kept of one event or delivery; of further ones only the number."""
EARLIEST_YEAR, LATEST_YEAR = 1971, 2200
UNITS: Final = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3))
"""(smallest number, its unit as a part of a second): nanoseconds, microseconds, milliseconds since 1970.

Smaller numbers are seconds; 10**11 seconds would be the year 5138.
"""
TRUE: Final = frozenset({"true", "1", "yes", "y", "on"})
FALSE: Final = frozenset({"false", "0", "no", "n", "off"})
_NUMBER: Final = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?")
_ZONE: Final = re.compile(r"\s*(UTC|GMT|Z)$|\s+([+-]\d\d:?\d\d)$", re.IGNORECASE)


class Reading:
    """The problems of the fields that were read so far, and the path of the field that is read now."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._path: list[str] = []

    @contextmanager
    def inside(self, name: str | int) -> Generator[None]:
        """Read a field or item of this name in this block."""
        self._path.append(str(name))
        try:
            yield
        finally:
            self._path.pop()

    def note(self, problem: str) -> None:
        """Keep a problem of the field that is read now."""
        self.problems.append(f"{'.'.join(self._path)}: {problem}")


class TolerantModel(BaseModel):
    """A part of a foreign payload. Unknown fields are ignored; optional fields cost only themselves."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def read(cls, value: object) -> tuple[Self, list[str]]:
        """The model, and a sentence about each field that could not be read. Raises ValidationError."""
        reading = Reading()
        return cls.model_validate(value, context=reading), bounded(list(dict.fromkeys(reading.problems)))

    @field_validator("*", mode="wrap")
    @classmethod
    def _tolerate(cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        name = str(info.field_name)
        field, reading = cls.model_fields[name], _reading(info)
        with reading.inside(name):
            if field.is_required():
                return handler(value)
            if value is None or value == [] or (isinstance(value, str) and not value.strip()):
                return field.get_default(call_default_factory=True)
            try:
                return handler(value)
            except ValidationError as error:
                reading.note(sentences(error))
        return field.get_default(call_default_factory=True)


Model = TypeVar("Model", bound=TolerantModel)


def list_of(model: type[Model], *, limit: int) -> BeforeValidator:
    """Reads the items of a list, at most `limit`: an item that cannot be read costs only itself.

    An object where a list is expected is read as the only item.
    """

    def read_items(value: object, info: ValidationInfo) -> list[Model]:
        if not isinstance(value, list | dict):
            raise ValueError("is not a list")  # noqa: TRY004 - Pydantic reports only a ValueError as a problem
        items = cast("list[object]", value) if isinstance(value, list) else [cast("object", value)]
        reading, kept = _reading(info), list[Model]()
        for index, item in enumerate(items[:limit]):
            with reading.inside(index):
                try:
                    kept.append(model.model_validate(item, context=info.context))
                except ValidationError as error:
                    reading.note(sentences(error))
        if len(items) > limit:
            reading.note(f"has {len(items)} items; only the first {limit} are read")
        return kept

    return BeforeValidator(read_items)


def sentences(error: ValidationError) -> str:
    """The problems of a validation error in words, without the data."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    listed = [
        f"{'.'.join(str(part) for part in item['loc'])}: {_plain(item['msg'])}".removeprefix(": ")
        for item in problems[:3]
    ]
    return ", ".join(listed) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")


def bounded(problems: list[str]) -> list[str]:
    """The first problems, and the number of further ones."""
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], f"and {more} more problems"] if more > 0 else problems


def read_moment(value: object) -> datetime:
    """A time in any form that platforms are known to send. Raises ValueError.

    A number, or its digits as text: seconds, milliseconds, microseconds or nanoseconds since 1970, also with a
    fraction. Text: ISO 8601, also with a blank before the offset or "UTC" at its end, or RFC 2822. UTC unless it names
    an offset.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a time")  # noqa: TRY004 - Pydantic reports only a ValueError as a problem
    try:
        moment = _moment_of_text(value.strip()) if isinstance(value, str) else _moment_of_number(value)
    except (ValueError, TypeError, OverflowError, OSError):
        raise ValueError("is not a time") from None
    if not EARLIEST_YEAR <= moment.year < LATEST_YEAR:
        raise ValueError(f"must be between {EARLIEST_YEAR} and {LATEST_YEAR}")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_flag(value: object) -> bool:
    """True or false, also as a number or a word. Raises ValueError."""
    word = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("is neither true nor false")


def text_of_number(value: object) -> object:
    """Text as it is, and a number as text: some endpoints send ids as strings, others as 64-bit numbers."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def cut_to(limit: int) -> Callable[[object, ValidationInfo], object]:
    """Cuts text to its first `limit` characters, which is a problem of the field."""

    def cut(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str) or len(value.strip()) <= limit:
            return value
        _reading(info).note(f"has {len(value)} characters; only the first {limit} are read")
        return value.strip()[:limit]

    return cut


def _moment_of_number(number: float) -> datetime:
    unit = next((unit for smallest, unit in UNITS if number >= smallest), 1)
    return datetime.fromtimestamp(number / unit, UTC)


def _moment_of_text(text: str) -> datetime:
    if len(text) > 100:
        raise ValueError("is not a time")
    if _NUMBER.fullmatch(text):
        return _moment_of_number(float(text) if "." in text else int(text))
    try:
        return datetime.fromisoformat(_ZONE.sub(lambda found: found.group(2) or "+00:00", text))
    except ValueError:
        return parsedate_to_datetime(text)


def _reading(info: ValidationInfo) -> Reading:
    return info.context if isinstance(info.context, Reading) else Reading()


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
