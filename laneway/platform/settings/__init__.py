"""Settings from the environment and `.env`, in groups, frozen, and checked before anything starts.

An application adds groups of its own: it subclasses `Settings` and reads them with `load_settings`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.settings.base import Group, Port, absolute, project
from laneway.platform.settings.groups import (
    ApiSettings,
    OperationSettings,
    OutboundSettings,
    RedisSettings,
    StorageSettings,
    TaskSettings,
)

__all__ = [
    "ApiSettings",
    "Group",
    "OperationSettings",
    "OutboundSettings",
    "Port",
    "RedisSettings",
    "Settings",
    "StorageSettings",
    "TaskSettings",
    "absolute",
    "load_settings",
    "project",
]

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """All groups of the platform. Build it with `load_settings`, which turns every problem into one readable error."""

    model_config = ConfigDict(frozen=True)

    redis: RedisSettings
    tasks: TaskSettings
    storage: StorageSettings
    api: ApiSettings
    outbound: OutboundSettings
    operation: OperationSettings

    def contradictions(self) -> list[str]:
        """Sentences about settings of different groups that cannot both be meant; an application may add its own."""
        return []


def load_settings(kind: type[S]) -> S:
    """Read and check every group of `kind`. Raises ConfigError with one line per problem, naming the variables."""
    groups: dict[str, Group] = {}
    problems: list[str] = []
    for name, field in kind.model_fields.items():
        group: type[Group] = field.annotation  # pyright: ignore[reportAssignmentType]
        try:
            groups[name] = group()
        except ValidationError as error:
            problems += [_problem(item) for item in error.errors(include_input=False, include_url=False)]
    made = None if problems else kind(**groups)  # pyright: ignore[reportArgumentType]
    if made is None or (problems := made.contradictions()):
        raise ConfigError("The settings are not valid:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return made


def _problem(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
