"""How long finished tasks are kept, by state and by queue."""

from __future__ import annotations

from collections.abc import Mapping
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


class TaskRetentionSettings(Group):
    """How long finished tasks are kept where `RETENTION_DAYS_TASKS` does not fit. The most exact value counts: queue
    and state, then queue, then state."""

    by_state: Days = Field(default_factory=dict, alias="RETENTION_DAYS_BY_STATE")
    """Days for which tasks that ended in a state are kept: `failed=90, dead_letter=365`."""
    by_queue: Days = Field(default_factory=dict, alias="RETENTION_DAYS_BY_QUEUE")
    """Days for which finished tasks of a queue are kept, or those that ended in one state: `emails=7,
    emails/failed=60`."""

    @field_validator("by_state", mode="after")
    @classmethod
    def _known_states(cls, value: dict[str, int]) -> dict[str, int]:
        return _checked(value, list(value))

    @field_validator("by_queue", mode="after")
    @classmethod
    def _known_states_of_queues(cls, value: dict[str, int]) -> dict[str, int]:
        return _checked(value, [name.partition("/")[2] for name in value if "/" in name])

    @property
    def queues(self) -> list[str]:
        """The queues with days of their own."""
        return sorted({name.partition("/")[0] for name in self.by_queue})

    def days_of(self, queue: str | None, state: TaskState, *, default: int) -> int:
        """Days for which a task is kept; `queue`: None for a queue without days of its own."""
        own = self.by_queue.get(f"{queue}/{state}", self.by_queue.get(queue or ""))
        return own if own is not None else self.by_state.get(state, default)


def _checked(value: dict[str, int], states: list[str]) -> dict[str, int]:
    known = sorted(str(state) for state in FINISHED)
    for state in states:
        if state not in known:
            raise ValueError(f"{state!r} is no state in which tasks end; these are {', '.join(known)}")
    return value
