"""Settings from the environment and `.env`, in groups, frozen, and checked before anything starts.

An application adds groups of its own: it subclasses `Settings` and reads them with `load_settings`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.settings.access import AccessSettings, Authentication, is_loopback
from laneway.platform.settings.alerts import AlertSettings
from laneway.platform.settings.base import Group, Port, absolute, project
from laneway.platform.settings.children import ChildSettings
from laneway.platform.settings.connections import ConnectionSettings
from laneway.platform.settings.destinations import DestinationSettings
from laneway.platform.settings.groups import (
    ApiSettings,
    OperationSettings,
    OutboundSettings,
    RedisSettings,
    StorageSettings,
    TaskSettings,
)
from laneway.platform.settings.keys import KeySettings
from laneway.platform.settings.people import PeopleSettings
from laneway.platform.settings.probes import ProbeSettings
from laneway.platform.settings.quotas import QuotaSettings
from laneway.platform.settings.safety import SafetySettings, open_files, unsafe_settings
from laneway.platform.settings.spelling import env_lines, origin, settings_warnings
from laneway.platform.settings.task_retention import TaskRetentionSettings
from laneway.platform.settings.tracing import TracingSettings

__all__ = [
    "AccessSettings",
    "AlertSettings",
    "ApiSettings",
    "ChildSettings",
    "ConnectionSettings",
    "DestinationSettings",
    "Group",
    "KeySettings",
    "OperationSettings",
    "OutboundSettings",
    "PeopleSettings",
    "Port",
    "ProbeSettings",
    "QuotaSettings",
    "RedisSettings",
    "SafetySettings",
    "Settings",
    "StorageSettings",
    "TaskRetentionSettings",
    "TaskSettings",
    "TracingSettings",
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
    connections: ConnectionSettings
    outbound: OutboundSettings
    destinations: DestinationSettings
    operation: OperationSettings
    alerts: AlertSettings
    task_retention: TaskRetentionSettings
    access: AccessSettings
    people: PeopleSettings
    quotas: QuotaSettings
    safety: SafetySettings
    keys: KeySettings
    children: ChildSettings
    tracing: TracingSettings
    probes: ProbeSettings

    @property
    def is_authenticating(self) -> bool:
        """Whether the API needs to know who asks."""
        asked = self.access.authentication
        wanted = self.operation.is_production or self.people.asks_people
        return asked is Authentication.ON or (asked is Authentication.AUTO and wanted)

    def contradictions(self) -> list[str]:
        """Return one sentence per contradiction between settings of different groups. An application may add more."""
        problems: list[str] = []
        if self.tasks.encryption == "all" and self.keys.ring_file is None:
            problems.append("TASK_ENCRYPTION=all needs KEY_RING_FILE, the file of the keys")
        if self.operation.is_production and self.access.authentication is Authentication.OFF:
            problems.append("AUTHENTICATION must not be off while ENVIRONMENT is production")
        if self.people.asks_people and not self.is_authenticating:
            problems.append("AUTHENTICATION must not be off while OIDC_ISSUER or PROXY_USER_HEADER says who people are")
        if not self.is_authenticating and not is_loopback(self.api.host):
            problems.append(
                f"API_HOST is {self.api.host}, which others reach: set AUTHENTICATION=on, or API_HOST=127.0.0.1"
            )
        return problems


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
    if settings is not None:
        allowed = settings.safety.names
        problems += unsafe_settings(groups.values(), allowed)
        problems += open_files(project.env_file, settings.storage.folder, allowed)
        problems += settings.contradictions()
    if settings is None or problems:
        raise ConfigError("The settings are not valid:\n" + "\n".join(f"  - {problem}" for problem in problems))
    settings.redis.keep_password_in(settings.storage.folder)
    settings.tasks.seal_with(settings.keys.ring_path)
    settings.tasks.store_payloads()
    return settings


def _problem(item: Any) -> str:
    location = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{location}: {message}{origin(location)}" if location else message
