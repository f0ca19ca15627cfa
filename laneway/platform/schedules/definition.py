"""What a schedule submits, and when, as it is checked and stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import ValidationError, field_validator, model_validator

from laneway.platform.errors import PermanentError
from laneway.platform.schedules.timing import ALL_DAYS, Timing, check_cron, zone
from laneway.schemas.schedule import ScheduleDefinition


class BadDefinition(PermanentError):
    """The times of a schedule cannot be kept."""

    title = "Bad schedule"

    template = "The schedule cannot be kept: {problems}."
    problems: str
    fields: tuple[tuple[str, str], ...] = ()
    """Each field that is wrong, and its problem."""


class Definition(ScheduleDefinition):
    """What a schedule submits, and when: a definition whose times can be kept."""

    @field_validator("cron")
    @classmethod
    def _cron(cls, expression: str | None) -> str | None:
        if expression is not None:
            check_cron(expression)
        return expression

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, name: str) -> str:
        zone(name)
        return name

    @model_validator(mode="after")
    def _one_timing(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("give either cron or every")
        if self.every is not None and self.jitter > self.every:
            raise ValueError("jitter must not be longer than every")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError("end lies before start")
        return self

    def timing(self, key: str) -> Timing:
        """Return the due times."""
        return Timing(
            key,
            cron=self.cron,
            every=None if self.every is None else timedelta(seconds=self.every),
            weekdays=ALL_DAYS if self.weekdays is None else frozenset(self.weekdays),
            timezone=self.timezone,
            start=self.start,
            end=self.end,
            jitter=timedelta(seconds=self.jitter),
        )

    def as_json(self) -> dict[str, Any]:
        """Return what differs from the defaults, as it is stored."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def when(self) -> str:
        """The times, in few words for people."""
        if self.every is not None:
            return f"every {timedelta(seconds=self.every)}"
        return f"{self.cron} {self.timezone}"


def checked(definition: ScheduleDefinition) -> Definition:
    """Return a definition whose times can be kept. Raises BadDefinition."""
    try:
        return Definition.model_validate(definition.model_dump(include=set(Definition.model_fields)))
    except ValidationError as error:
        raise BadDefinition(problems_of(error), tuple(_problems(error))) from None


def problems_of(error: ValidationError) -> str:
    """What is wrong with a definition, in one text without the values."""
    return "; ".join(f"{field}: {problem}" for field, problem in _problems(error))


def _problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    for item in error.errors(include_input=False):
        yield ".".join(map(str, item["loc"])) or "times", item["msg"].removeprefix("Value error, ")


def firing_id(key: str, due: datetime) -> str:
    """Return the id of the task of a firing."""
    moment = due.astimezone(UTC)
    precision = "microseconds" if moment.microsecond else "seconds"
    return f"schedule:{key}:{moment.replace(tzinfo=None).isoformat(timespec=precision)}Z"
