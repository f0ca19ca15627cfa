"""Settings from the environment and `.env`, in groups, frozen, and checked before anything starts."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.core.config.base import ROOT, Group
from app.core.config.crm import CrmSettings, MailSettings
from app.core.config.groups import (
    ApiSettings,
    OperationSettings,
    RedisSettings,
    ResponderSettings,
    StorageSettings,
    TaskSettings,
    WebhookSettings,
)
from app.core.errors import ConfigError

__all__ = [
    "ROOT",
    "ApiSettings",
    "CrmSettings",
    "MailSettings",
    "OperationSettings",
    "RedisSettings",
    "ResponderSettings",
    "Settings",
    "StorageSettings",
    "TaskSettings",
    "WebhookSettings",
    "load_settings",
    "settings",
]


class Settings(BaseModel):
    """All groups. Build it with `load_settings`, which turns every problem into one readable error."""

    model_config = ConfigDict(frozen=True)

    redis: RedisSettings
    tasks: TaskSettings
    storage: StorageSettings
    api: ApiSettings
    webhooks: WebhookSettings
    responder: ResponderSettings
    operation: OperationSettings
    crm: CrmSettings
    mail: MailSettings


def load_settings() -> Settings:
    """Read and check every group. Raises ConfigError with one line per problem, naming the variables."""
    groups: dict[str, Group] = {}
    problems: list[str] = []
    for name, field in Settings.model_fields.items():
        kind: type[Group] = field.annotation  # pyright: ignore[reportAssignmentType]
        try:
            groups[name] = kind()
        except ValidationError as error:
            problems += [_problem(item) for item in error.errors(include_input=False, include_url=False)]
    if problems:
        raise ConfigError("The settings are not valid:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return Settings(**groups)  # pyright: ignore[reportArgumentType]


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def _problem(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
