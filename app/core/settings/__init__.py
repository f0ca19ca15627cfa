"""The application's settings: the platform's groups and its own, from the environment and `.env`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from app.core.settings.conversations import ResponderSettings
from app.core.settings.documents import DocumentSettings
from app.core.settings.leads import CrmSettings
from app.core.settings.mail import MailSettings
from app.core.settings.pipeline import PipelineSettings
from app.core.settings.retention import RetentionSettings
from app.core.settings.webhooks import WebhookSettings
from laneway.platform import settings as library
from laneway.platform.settings import project

__all__ = [
    "ROOT",
    "CrmSettings",
    "DocumentSettings",
    "MailSettings",
    "PipelineSettings",
    "ResponderSettings",
    "RetentionSettings",
    "Settings",
    "WebhookSettings",
    "load_settings",
    "settings",
]

ROOT = Path(__file__).resolve().parents[3]
"""The project's folder."""

project.use(ROOT)


class Settings(library.Settings):
    """All groups of settings."""

    webhooks: WebhookSettings
    responder: ResponderSettings
    crm: CrmSettings
    mail: MailSettings
    documents: DocumentSettings
    pipeline: PipelineSettings
    retention: RetentionSettings

    @property
    def extraction_seconds(self) -> float:
        """The most CPU seconds for reading a document.

        Reading may last three times as long on the clock. So at most a quarter of the task's soft limit is used, which
        leaves time to store the document.
        """
        return min(self.documents.cpu_seconds, self.tasks.soft_time_limit / 4)

    @property
    def pipeline_seconds(self) -> float:
        """The most seconds that a command of the pipeline may run: it must end within the task's soft limit."""
        return min(self.pipeline.timeout, max(0.1, self.tasks.soft_time_limit - self.pipeline.grace))

    def contradictions(self) -> list[str]:
        """Combinations of settings across groups that cannot work, one sentence each."""
        problems = super().contradictions()
        cpu_seconds_set = "cpu_seconds" in self.documents.model_fields_set
        if cpu_seconds_set and self.documents.cpu_seconds > self.extraction_seconds:
            problems.append(
                "DOCUMENT_CPU_SECONDS must be at most a quarter of TASK_SOFT_TIME_LIMIT: "
                "reading may last three times as long on the clock"
            )
        if "timeout" in self.pipeline.model_fields_set and self.pipeline.timeout > self.pipeline_seconds:
            problems.append(
                "PIPELINE_TIMEOUT_SECONDS and PIPELINE_GRACE_SECONDS together must be at most TASK_SOFT_TIME_LIMIT"
            )
        return [*problems, *self._open_data_folder()]

    def _open_data_folder(self) -> list[str]:
        data = self.storage.folder.resolve()
        return [
            f"PIPELINE_{name} must not contain DATA_DIR: commands could read the platform's data in {path}"
            for name, paths in (("READABLE", self.pipeline.readable), ("WRITABLE", self.pipeline.writable))
            for path in paths or ()
            if data.is_relative_to(path.resolve())
        ]


def load_settings() -> Settings:
    """Read and check every group. Raises ConfigError with one line per problem, naming the variables."""
    return library.load_settings(Settings)


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
