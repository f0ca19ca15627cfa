"""Rules of the mapping: which events a rule is for, and the task and payload that follow."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.services.webhooks.mapping.errors import Misfit
from app.services.webhooks.mapping.paths import path_problem, value_at

Scalar = str | int | float | bool


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _known_path(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(problem)
    return path


Patterns = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=200)]],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=100),
]
"""One name or several; `*` and `?` stand for any characters."""
FieldPath = Annotated[str, AfterValidator(_known_path)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Requirement(_Part):
    """What a field must satisfy. A value, or a list of values, is short for `one_of`."""

    one_of: list[Scalar] | None = Field(None, max_length=1000)
    none_of: list[Scalar] | None = Field(None, max_length=1000)
    like: Patterns | None = None
    exists: bool | None = Field(None, strict=True)
    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)

    def holds(self, value: Any, *, path: str) -> bool:
        """True if the field's value (None: there is none) satisfies every part. Raises Misfit."""
        if self.exists is not None and self.exists is (value is None):
            return False
        if self.none_of is not None and value in self.none_of:
            return False
        if self.one_of is not None and not (value is not None and value in self.one_of):
            return False
        if self.like is not None and not (isinstance(value, str) and _matches(value, self.like)):
            return False
        return self._in_range(value, path)

    def _in_range(self, value: Any, path: str) -> bool:
        if self.min is None and self.max is None:
            return True
        if value is None:
            return False
        number = _number(value, path)
        return (self.min is None or number >= self.min) and (self.max is None or number <= self.max)


def _requirement(value: object) -> object:
    if isinstance(value, dict):
        return cast("object", value)
    return {"one_of": cast("list[object]", value) if isinstance(value, list) else [value]}


class Rule(_Part):
    """Events of these sources and names that satisfy `when` lead to `task` with `payload`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    source: Patterns = Field(default=["*"])
    event: Patterns = Field(default=["*"])
    when: dict[FieldPath, Annotated[Requirement, BeforeValidator(_requirement)]] = Field(default={}, max_length=50)
    task: Annotated[str, StringConstraints(min_length=1, max_length=155)]
    payload: dict[str, Any] | str

    def matches(self, scope: dict[str, Any]) -> bool:
        """True if the rule is for this event. Raises Misfit if a field that it compares is not comparable."""
        event = scope["event"]
        if not (_matches(event["source"], self.source) and _matches(event["name"], self.event)):
            return False
        return all(required.holds(value_at(scope, path), path=path) for path, required in self.when.items())


class Mapping(_Part):
    """All rules. The first one that is for an event decides."""

    rules: list[Rule] = Field(max_length=500)


def _matches(value: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _number(value: Any, path: str) -> Decimal:
    try:
        number = Decimal("nan") if isinstance(value, bool) else Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise Misfit(f"{path} is not a number")
    return number
