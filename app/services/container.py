"""The services of one process: the platform's, and the application's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import BaseModel

from app.core.celery_app import celery_app
from app.core.settings import Settings, settings
from app.db.history import APPLICATION_HISTORY
from app.schemas.pipeline import PipelineInput
from app.schemas.savings import CalculatorInputs, FollowUpInputs
from app.services.analytics.analytics import Analytics
from app.services.chat import savings
from app.services.chat.follow_up import FollowUps
from app.services.chat.workflow_reports import WorkflowReports
from app.services.conversations.conversations import Conversations
from app.services.conversations.responders import Responder, make_responder
from app.services.documents.documents import Documents
from app.services.documents.passage_store import PassageStore
from app.services.documents.views import DocumentViews
from app.services.erasure import PersonalData
from app.services.integrations.mail import Mail
from app.services.leads.crm import CrmSync, make_crm
from app.services.leads.leads import Leads
from app.services.leads.notices import LeadNotices
from app.services.pipeline import steps
from app.services.pipeline.commands import Pipeline
from app.services.retention import retention_rules
from app.services.task_manager import TaskManager
from app.services.webhooks.events import WebhookEvents
from app.services.webhooks.mapping.current import CurrentMapping
from app.services.webhooks.webhooks import Webhooks
from laneway.platform.alerts.rules import AlertRule
from laneway.platform.celery_app import load_tasks
from laneway.platform.current import current_platform, use_platform
from laneway.platform.db.migration_history import PLATFORM_HISTORY, MigrationHistory
from laneway.platform.erasure.erasers import Eraser
from laneway.platform.operations.retention import Retention
from laneway.platform.platform import Platform
from laneway.platform.workflows.handlers import Handler


class Services(Platform):
    """The services that the application's routes, tasks and commands use."""

    migrations: ClassVar[tuple[MigrationHistory, ...]] = (PLATFORM_HISTORY, APPLICATION_HISTORY)
    workflow_folder: ClassVar[Path | None] = Path(__file__).resolve().parents[1] / "workflows"

    @property
    def settings(self) -> Settings:
        """The application's settings."""
        return cast("Settings", self._settings)

    @cached_property
    def tasks(self) -> TaskManager:
        return TaskManager(self.database, self.broker, self.recorder, self.settings.tasks, quotas=self.quotas)

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.settings.pipeline, self.settings.children, seconds=self.settings.pipeline_seconds)

    @cached_property
    def passage_store(self) -> PassageStore:
        return PassageStore(self.database)

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.tasks, self.passage_store, self.destinations, self.settings)

    @cached_property
    def document_views(self) -> DocumentViews:
        return DocumentViews(self.database, self.tasks, max_queue_size=self.settings.tasks.max_queue_size)

    @cached_property
    def responder(self) -> Responder:
        return make_responder(self.settings.responder)

    @cached_property
    def conversations(self) -> Conversations:
        return Conversations(
            self.database, self.passage_store, self.responder, self.tasks, self.settings, leads=self.leads
        )

    @cached_property
    def follow_ups(self) -> FollowUps:
        return FollowUps(
            self.conversations, self.leads, self.tasks, delay_hours=self.settings.responder.follow_up_hours
        )

    @cached_property
    def leads(self) -> Leads:
        return Leads(self.database, self.tasks, self.settings.mail)

    @cached_property
    def crm(self) -> CrmSync:
        return CrmSync(self.database, make_crm(self.settings.crm, self.database))

    @cached_property
    def mail(self) -> Mail:
        return Mail(self.settings.mail)

    @cached_property
    def lead_notices(self) -> LeadNotices:
        return LeadNotices(self.database, self.mail, self.settings.mail)

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.tasks, self.settings.webhooks)

    @cached_property
    def webhook_events(self) -> WebhookEvents:
        mapping = CurrentMapping(self.database, self.settings.webhooks.mapping_file)
        return WebhookEvents(self.database, self.tasks, mapping)

    @cached_property
    def analytics(self) -> Analytics:
        return Analytics(self.database)

    @cached_property
    def workflow_reports(self) -> WorkflowReports:
        return WorkflowReports(self.database)

    @cached_property
    def retention(self) -> Retention:
        return Retention(
            self.database,
            self.settings.storage,
            self.settings.tasks,
            task_retention=self.settings.task_retention,
            more=retention_rules(self.settings),
        )

    @property
    def erasers(self) -> Sequence[Eraser]:
        return (*super().erasers, PersonalData())

    @property
    def alert_rules(self) -> Sequence[AlertRule]:
        return (*super().alert_rules, *self.webhook_events.alert_rules)

    @cached_property
    def workflow_handlers(self) -> dict[str, Handler]:
        own = (
            *savings.step_handlers(self.database),
            *self.follow_ups.step_handlers(),
            *steps.step_handlers(self.pipeline),
        )
        return super().workflow_handlers | {handler.name: handler for handler in own}

    @cached_property
    def workflow_inputs(self) -> dict[str, type[BaseModel]]:
        return super().workflow_inputs | {
            "calculator_inputs": CalculatorInputs,
            "follow_up": FollowUpInputs,
            "pipeline": PipelineInput,
        }

    def workflow_figures(self, metrics: dict[str, int]) -> dict[str, Any]:
        """The savings that a run has computed."""
        return {"estimated_savings": savings.estimated_savings(metrics)}

    def close(self) -> None:
        """Close the connections of this process."""
        if "responder" in self.__dict__:
            self.responder.close()
        super().close()


def services() -> Services:
    """The services of this process, with its settings and its Celery app."""
    return cast("Services", current_platform())


def _make() -> Services:
    load_tasks(celery_app)  # tasks are submitted by name
    return Services(settings(), celery_app)


use_platform(_make)
