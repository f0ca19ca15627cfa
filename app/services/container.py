"""The services of one process, each made when it is first asked for, all from the same settings."""

from __future__ import annotations

from functools import cache, cached_property

from celery import Celery, current_app

from app.core.config import Settings, settings
from app.db.session import Database
from app.services.alert_mail import AlertMail
from app.services.alerts import Alerts
from app.services.analytics import Analytics
from app.services.audit import Audit
from app.services.broker import Broker
from app.services.callback_log import CallbackLog
from app.services.callbacks import Callbacks
from app.services.conversations import Conversations
from app.services.crm import CrmSync, LeadNotices, make_crm
from app.services.dead_letters import DeadLetters
from app.services.document_views import DocumentViews
from app.services.documents import Documents
from app.services.executions import EngineExecutions, Executions
from app.services.heart import Heart
from app.services.history import History
from app.services.knowledge import Knowledge
from app.services.leads import Leads
from app.services.mail import Mail
from app.services.pipeline.commands import Pipeline
from app.services.queue_limits import QueueLimits, kept_throttles
from app.services.responders import Responder, make_responder
from app.services.results import Results
from app.services.retention import Retention
from app.services.statistics import Statistics
from app.services.steps import Steps
from app.services.stock_executions import StockExecutions
from app.services.stories import Stories
from app.services.task_manager import TaskManager
from app.services.webhooks import Webhooks
from app.services.workflows.reports import WorkflowReports
from app.services.workflows.runs import Workflows
from app.services.workflows.stepping import StepRunner
from app.services.workflows.views import WorkflowViews


class Services:
    """What the API, the tasks and the command line work with."""

    def __init__(self, config: Settings, app: Celery) -> None:
        self.settings, self._app = config, app

    @cached_property
    def database(self) -> Database:
        return Database(self.settings.storage.url)

    @cached_property
    def broker(self) -> Broker:
        limits = self.settings.tasks
        return Broker(self._app, max_queue_size=limits.max_queue_size, max_unread=limits.max_unread_events,
                      throttles=lambda: kept_throttles(self.database))  # fmt: skip

    @cached_property
    def queue_limits(self) -> QueueLimits:
        return QueueLimits(self.database, self.broker)

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.settings.pipeline, seconds=self.settings.pipeline_seconds)

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics(self.database, self.history)

    @cached_property
    def tasks(self) -> TaskManager:
        return TaskManager(self.database, self.broker, self.history, self.settings.tasks)

    @cached_property
    def history(self) -> History:
        return History(self.database, self.broker, self.settings.tasks)

    @cached_property
    def executions(self) -> Executions:
        engine = self.broker.engine
        if engine is not None:
            return EngineExecutions(engine, self.settings.tasks)
        return StockExecutions(self.database, self.tasks, self.settings.tasks)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.database, self.history)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.database, self.broker, self.history, self.tasks)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.database, self.broker, self.history, self.tasks, self.results)

    @cached_property
    def results(self) -> Results:
        return Results(self._app)

    @cached_property
    def stories(self) -> Stories:
        return Stories(self.database, self.history, self.tasks)

    @cached_property
    def heart(self) -> Heart:
        limits = self.settings.tasks
        return Heart(self.executions, every=min(limits.lease_seconds / 5, 1.0), grace=limits.cancel_grace)

    @cached_property
    def knowledge(self) -> Knowledge:
        return Knowledge(self.database)

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.tasks, self.knowledge, self.settings)

    @cached_property
    def document_views(self) -> DocumentViews:
        return DocumentViews(self.database, self.tasks, max_queue_size=self.settings.tasks.max_queue_size)

    @cached_property
    def responder(self) -> Responder:
        return make_responder(self.settings.responder)

    @cached_property
    def conversations(self) -> Conversations:
        return Conversations(self.database, self.knowledge, self.responder, self.tasks, self.settings,
                             leads=self.leads)  # fmt: skip

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
        return Webhooks(self.database, self.tasks, self.settings.webhooks)

    @cached_property
    def callbacks(self) -> Callbacks:
        return Callbacks(self.database, self.settings.webhooks, slots=self.settings.operation.worker_concurrency)

    @cached_property
    def callback_log(self) -> CallbackLog:
        return CallbackLog(self.database, self.tasks, self.history)

    @cached_property
    def analytics(self) -> Analytics:
        return Analytics(self.database)

    @cached_property
    def workflows(self) -> Workflows:
        return Workflows(self.database, self.tasks)

    @cached_property
    def workflow_steps(self) -> StepRunner:
        return StepRunner(self)

    @cached_property
    def workflow_views(self) -> WorkflowViews:
        return WorkflowViews(self.database, self.tasks)

    @cached_property
    def workflow_reports(self) -> WorkflowReports:
        return WorkflowReports(self.database)

    @cached_property
    def retention(self) -> Retention:
        return Retention(self.database, self.settings.storage, self.settings.tasks)

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.database, self.tasks, self.settings.operation, by_mail=bool(self.settings.mail.alerts_to))

    @cached_property
    def alert_mail(self) -> AlertMail:
        return AlertMail(self.database, self.mail, self.settings.mail)

    def close(self) -> None:
        """Give back the connections of this process."""
        if "responder" in self.__dict__:
            self.responder.close()
        if "broker" in self.__dict__:
            self.broker.close()
        if "results" in self.__dict__:
            self.results.close()
        if "database" in self.__dict__:
            self.database.close()


@cache
def services() -> Services:
    """The services of this process, on its settings and the current Celery app."""
    return Services(settings(), current_app._get_current_object())
