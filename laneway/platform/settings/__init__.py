"""Settings from the environment and `.env`, in groups, frozen, and checked before anything starts.

An application adds groups of its own: it subclasses `Settings` and reads them with `load_settings`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.settings.base import Group, Port, absolute, project
from laneway.platform.settings.children import ChildSettings
from laneway.platform.settings.groups import (
    ApiSettings,
    OperationSettings,
    OutboundSettings,
    RedisSettings,
    StorageSettings,
    TaskSettings,
)
from laneway.platform.settings.spelling import env_lines, origin, settings_warnings

__all__ = [
    "ApiSettings",
    "ChildSettings",
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
    "settings_warnings",
]

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """All groups of settings. `load_settings` reads them and reports all problems in one error."""

    model_config = ConfigDict(frozen=True)

    redis: RedisSettings
    tasks: TaskSettings
    storage: StorageSettings
    api: ApiSettings
    outbound: OutboundSettings
    operation: OperationSettings
    children: ChildSettings

    def contradictions(self) -> list[str]:
        """Return one sentence per contradiction between settings of different groups. An application may add more."""
        return []


def load_settings(kind: type[S]) -> S:
    """Read and check every group of `kind`. Raises ConfigError with one line per problem, naming the variables."""
    env_lines(project.env_file)  # raises for a file that cannot be read
    groups: dict[str, Group] = {}
    problems: list[str] = []
    for name, field in kind.model_fields.items():
        group: type[Group] = field.annotation  # pyright: ignore[reportAssignmentType]
        try:
            groups[name] = group()
        except ValidationError as error:
            problems += [_problem(item) for item in error.errors(include_input=False, include_url=False)]
    settings = None if problems else kind(**groups)  # pyright: ignore[reportArgumentType]
    if settings is None or (problems := settings.contradictions()):
        raise ConfigError("The settings are not valid:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings


def _problem(item: Any) -> str:
    location = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{location}: {message}{origin(location)}" if location else message
