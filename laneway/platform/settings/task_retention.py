"""How long finished tasks are kept: by state, by queue and by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group
from laneway.schemas.task import FINISHED, TaskState

LONGEST_DAYS: Final = 36_500


def _parsed(value: Any) -> Any:
    """`failed=90, expired=1` as a dict. Raises ValueError with an example."""
    if isinstance(value, Mapping):
        return cast("Mapping[Any, Any]", value)
    days: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in str(value).split(","))):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if not name or not number.isascii() or not number.isdecimal() or not 1 <= int(number[:9]) <= LONGEST_DAYS:
            raise ValueError(f"{part!r} is not name=days, with 1 to {LONGEST_DAYS} days, such as failed=90")
        if name in days:
            raise ValueError(f"{name!r} is there twice")
        days[name] = int(number)
    return days


Days = Annotated[dict[str, int], NoDecode, BeforeValidator(_parsed)]


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many days a task is kept, and the setting that says so: `RETENTION_DAYS_BY_QUEUE: emails/failed=60`."""

    days: int
    setting: str


class TaskRetentionSettings(Group):
    """How long finished tasks are kept where `RETENTION_DAYS_TASKS` does not fit. The most exact value counts: name and
    state, then name, then queue and state, then queue, then state."""

    by_state: Days = Field(default_factory=dict, alias="RETENTION_DAYS_BY_STATE")
    """Days for which tasks that ended in a state are kept: `failed=90, dead_letter=365`."""
    by_queue: Days = Field(default_factory=dict, alias="RETENTION_DAYS_BY_QUEUE")
    """Days for which finished tasks of a queue are kept, or those that ended in one state: `emails=7,
    emails/failed=60`."""
    by_name: Days = Field(default_factory=dict, alias="RETENTION_DAYS_BY_NAME")
    """Days for which finished tasks of a name are kept, or those that ended in one state: `send_email=7,
    send_email/failed=60`."""

    @field_validator("by_state", mode="after")
    @classmethod
    def _known_states(cls, value: dict[str, int]) -> dict[str, int]:
        return _checked(value, list(value))

    @field_validator("by_queue", "by_name", mode="after")
    @classmethod
    def _known_states_of_parts(cls, value: dict[str, int]) -> dict[str, int]:
        return _checked(value, [name.partition("/")[2] for name in value if "/" in name])

    @property
    def queues(self) -> list[str]:
        """The queues with days of their own."""
        return _parts(self.by_queue)

    @property
    def names(self) -> list[str]:
        """The names of tasks with days of their own."""
        return _parts(self.by_name)

    def kept(self, state: TaskState, *, default: int, queue: str | None = None, name: str | None = None) -> Kept:
        """For how long a task is kept. `queue`, `name`: None for one without days of its own."""
        for own, setting, part in (
            (self.by_name, "RETENTION_DAYS_BY_NAME", name),
            (self.by_queue, "RETENTION_DAYS_BY_QUEUE", queue),
        ):
            for found in (f"{part}/{state}", part) if part is not None else ():
                if found in own:
                    return Kept(own[found], f"{setting}: {found}={own[found]}")
        if state in self.by_state:
            return Kept(self.by_state[state], f"RETENTION_DAYS_BY_STATE: {state}={self.by_state[state]}")
        return Kept(default, f"RETENTION_DAYS_TASKS={default}")

    def names_state(self, part: str, state: TaskState, *, of: Mapping[str, int]) -> bool:
        """Whether `by_queue` or `by_name` (`of`) has days for this queue or name, and for this state."""
        return part in of or f"{part}/{state}" in of


def _parts(days: Mapping[str, int]) -> list[str]:
    return sorted({name.partition("/")[0] for name in days})


def _checked(value: dict[str, int], states: list[str]) -> dict[str, int]:
    known = sorted(str(state) for state in FINISHED)
    for state in states:
        if state not in known:
            raise ValueError(f"{state!r} is no state in which tasks end; these are {', '.join(known)}")
    return value
