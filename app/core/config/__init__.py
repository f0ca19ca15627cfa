"""Settings from the environment and `.env`, in groups, frozen, and checked before anything starts."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.core.config.base import ROOT, Group
from app.core.config.crm import CrmSettings, MailSettings
from app.core.config.documents import DocumentSettings
from app.core.config.groups import (
    ApiSettings,
    OperationSettings,
    RedisSettings,
    ResponderSettings,
    StorageSettings,
    TaskSettings,
    WebhookSettings,
)
from app.core.config.pipeline import PipelineSettings
from app.core.errors import ConfigError

__all__ = [
    "ROOT",
    "ApiSettings",
    "CrmSettings",
    "DocumentSettings",
    "MailSettings",
    "OperationSettings",
    "PipelineSettings",
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
    documents: DocumentSettings
    pipeline: PipelineSettings

    @property
    def extraction_seconds(self) -> float:
        """CPU time for reading a document, which may last three times as long and be over within the task's limit."""
        return min(self.documents.cpu_seconds, self.tasks.soft_time_limit / 4)

    @property
    def pipeline_seconds(self) -> float:
        """How long a command of the pipeline may run: it has to be over within the task's limit."""
        return min(self.pipeline.timeout, max(0.1, self.tasks.soft_time_limit - self.pipeline.grace))


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
    made = None if problems else Settings(**groups)  # pyright: ignore[reportArgumentType]
    if made is None or (problems := _contradictions(made)):
        raise ConfigError("The settings are not valid:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return made


def _contradictions(made: Settings) -> list[str]:
    """Settings of different groups that cannot both be meant."""
    problems: list[str] = []
    given = "cpu_seconds" in made.documents.model_fields_set
    if given and made.documents.cpu_seconds > made.extraction_seconds:
        problems.append(
            "DOCUMENT_CPU_SECONDS must be at most a quarter of TASK_SOFT_TIME_LIMIT: reading may last thrice as long"
        )
    if "timeout" in made.pipeline.model_fields_set and made.pipeline.timeout > made.pipeline_seconds:
        problems.append(
            "PIPELINE_TIMEOUT_SECONDS and PIPELINE_GRACE_SECONDS together must be at most TASK_SOFT_TIME_LIMIT"
        )
    return problems


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def _problem(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
