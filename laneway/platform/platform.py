"""The platform of one process: its services, made from the same settings, each at its first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Celery
from pydantic import BaseModel

from laneway._masking import without_login
from laneway.engine import Engine
from laneway.platform.access.quotas import Quotas
from laneway.platform.access.tokens import Tokens
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.broker import Broker
from laneway.platform.db.migration_history import PLATFORM_HISTORY, MigrationHistory
from laneway.platform.db.schema_versions import SchemaVersions
from laneway.platform.db.session import Database
from laneway.platform.erasure.erasers import Eraser, registered_erasers
from laneway.platform.execution.attempts import Attempts, EngineAttempts
from laneway.platform.execution.cancellation_watchdog import CancellationWatchdog
from laneway.platform.execution.ledger_attempts import LedgerAttempts
from laneway.platform.execution.steps import Steps
from laneway.platform.execution.waits import Waits
from laneway.platform.flow.queue_limits import QueueLimits, stored_rate_limits
from laneway.platform.history.event_stream import EventStream
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.history.statistics import Statistics
from laneway.platform.metrics.metrics import Metrics
from laneway.platform.operations.audit import Audit
from laneway.platform.operations.dead_letters import DeadLetters
from laneway.platform.operations.installation import Installation
from laneway.platform.operations.intake import Intake
from laneway.platform.operations.reconciliation import Reconciliation
from laneway.platform.operations.unknown_queues import UnknownQueues
from laneway.platform.settings import Settings
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows.definition_files import load_definitions
from laneway.platform.workflows.definitions import Definitions
from laneway.platform.workflows.handlers import Handler
from laneway.platform.workflows.registry import registered_handlers, registered_inputs
from laneway.platform.workflows.runs import Workflows
from laneway.platform.workflows.step_runner import StepRunner
from laneway.platform.workflows.views import WorkflowViews

if TYPE_CHECKING:  # what brings heavy packages is imported where it is made
    from laneway.platform.access.people import People
    from laneway.platform.alerts.alerts import Alerts
    from laneway.platform.alerts.receivers import Receivers
    from laneway.platform.alerts.rules import AlertRule
    from laneway.platform.batches.batches import Batches
    from laneway.platform.erasure.erasure import Erasure
    from laneway.platform.execution.celery_results import CeleryResults
    from laneway.platform.flow.named_limits import NamedLimits
    from laneway.platform.history.event_feed import EventFeed
    from laneway.platform.history.overview import Overviews
    from laneway.platform.history.queue_samples import QueueSamples
    from laneway.platform.operations.bulk_tasks import BulkTasks
    from laneway.platform.operations.bulk_undo import BulkUndo
    from laneway.platform.operations.readiness import Readiness
    from laneway.platform.operations.retention import Retention
    from laneway.platform.schedules.schedules import Schedules
    from laneway.platform.schedules.watch import ScheduleWatch
    from laneway.platform.webhooks.delivery_log import DeliveryLog
    from laneway.platform.webhooks.destinations import Destinations
    from laneway.platform.webhooks.event_webhooks import EventWebhooks
    from laneway.platform.webhooks.outbound_webhooks import OutboundWebhooks


class Platform:
    """The services that the API, tasks and the command line use. An application subclasses it to add its own."""

    migrations: ClassVar[tuple[MigrationHistory, ...]] = (PLATFORM_HISTORY,)
    """The migration histories that are upgraded together, in this order."""
    workflow_folder: ClassVar[Path | None] = None
    """The folder of workflow definitions. None: there are no workflows."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self._settings, self._app = settings, app

    @property
    def settings(self) -> Settings:
        """The settings; an application narrows the type to its own."""
        return self._settings

    @cached_property
    def database(self) -> Database:
        return Database(self._settings.storage.url)

    @cached_property
    def schema_versions(self) -> SchemaVersions:
        return SchemaVersions(self.database, self.migrations)

    @cached_property
    def broker(self) -> Broker:
        limits = self._settings.tasks
        return Broker(
            self._app,
            max_queue_size=limits.max_queue_size,
            max_unread=limits.max_unread_events,
            rate_limits=lambda: stored_rate_limits(self.database),
            enforce=self._enforce_named_limits,
        )

    @cached_property
    def people(self) -> People:
        from laneway.platform.access.people import People

        return People(self._settings, self.database)

    @cached_property
    def installation(self) -> Installation:
        return Installation(self.database, self.broker, broker_address=without_login(self._settings.redis.broker_url))

    @cached_property
    def readiness(self) -> Readiness:
        from laneway.platform.operations.readiness import Readiness

        return Readiness(
            self.database, self.broker, installation=self.installation, definitions=lambda: self.workflow_definitions
        )

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.database)

    @cached_property
    def queue_limits(self) -> QueueLimits:
        return QueueLimits(self.database, self.broker)

    @cached_property
    def named_limits(self) -> NamedLimits:
        from laneway.platform.flow.named_limits import NamedLimits

        return NamedLimits(self.database, self.broker)

    def block_limit(self, name: str, seconds: float, *, key: str) -> None:
        """Let nothing through a limit for a while. Without the engine, nothing happens. Raises BrokerUnavailable."""
        if self.broker.engine is not None:
            with self.broker.guarded():
                self.broker.engine.block_limit(name, seconds, key=key)

    def _enforce_named_limits(self, engine: Engine, queues: Mapping[str, Mapping[str, int]]) -> None:
        from laneway.platform.flow.named_limits import enforce, wanted_limits

        enforce(engine, wanted_limits(self.database), queues)

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics(self.database, self.recorder)

    @cached_property
    def overviews(self) -> Overviews:
        from laneway.platform.history.overview import Overviews

        return Overviews(self.database, self.broker, self.recorder)

    @cached_property
    def queue_samples(self) -> QueueSamples:
        from laneway.platform.history.queue_samples import QueueSamples

        return QueueSamples(self.database, self.overviews)

    @cached_property
    def metrics(self) -> Metrics:
        return Metrics(self.database, self.broker)

    @cached_property
    def tasks(self) -> TaskManager:
        return TaskManager(self.database, self.broker, self.recorder, self._settings.tasks, quotas=self.quotas)

    @cached_property
    def batches(self) -> Batches:
        from laneway.platform.batches.batches import Batches

        return Batches(self.database, self.recorder, self.tasks, self._settings.tasks)

    @cached_property
    def bulk_tasks(self) -> BulkTasks:
        from laneway.platform.operations.bulk_tasks import BulkTasks

        return BulkTasks(self.database, self.recorder, self.tasks, self.bulk_undo)

    @cached_property
    def bulk_undo(self) -> BulkUndo:
        from laneway.platform.operations.bulk_undo import BulkUndo

        return BulkUndo(self.database, self.recorder, self.tasks)

    @cached_property
    def quotas(self) -> Quotas:
        return Quotas(self._settings.quotas, self.broker)

    @cached_property
    def recorder(self) -> JournalRecorder:
        return JournalRecorder(self.database, self.broker, self._settings.tasks)

    @cached_property
    def attempts(self) -> Attempts:
        engine = self.broker.engine
        if engine is not None:
            return EngineAttempts(engine, self._settings.tasks)
        return LedgerAttempts(self.database, self.tasks, self._settings.tasks)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.database, self.recorder, self.settings.tasks.sealer)

    @cached_property
    def waits(self) -> Waits:
        return Waits(self.database, self.recorder, self.settings.tasks.sealer, self.tasks.waker)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.database, self.broker, self.recorder, self.tasks)

    @cached_property
    def audit_log(self) -> AuditLog:
        return AuditLog(self.database)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.database, self.broker, self.recorder, self.tasks, self.results)

    @cached_property
    def reconciliation(self) -> Reconciliation:
        return Reconciliation(self.database, self.broker, self.recorder, self.tasks, self.results)

    @cached_property
    def intake(self) -> Intake:
        return Intake(self.broker)

    @cached_property
    def unknown_queues(self) -> UnknownQueues:
        return UnknownQueues(self.broker)

    @cached_property
    def results(self) -> CeleryResults:
        from laneway.platform.execution.celery_results import CeleryResults

        return CeleryResults(self._app)

    @cached_property
    def event_stream(self) -> EventStream:
        return EventStream(self.database, self.recorder, self.tasks)

    @cached_property
    def event_feed(self) -> EventFeed:
        from laneway.platform.history.event_feed import EventFeed

        return EventFeed(self.database, self.recorder)

    @cached_property
    def cancellation_watchdog(self) -> CancellationWatchdog:
        limits = self._settings.tasks
        return CancellationWatchdog(self.attempts, every=min(limits.lease_seconds / 5, 1.0), grace=limits.cancel_grace)

    @cached_property
    def outbound_webhooks(self) -> OutboundWebhooks:
        from laneway.platform.webhooks.outbound_webhooks import OutboundWebhooks

        slots = self._settings.operation.worker_concurrency
        return OutboundWebhooks(self.database, self._settings.outbound, self.destinations, slots=slots)

    @cached_property
    def destinations(self) -> Destinations:
        from laneway.platform.webhooks.destinations import Destinations
        from laneway.platform.webhooks.secret_box import SecretBox

        settings = self._settings
        box = SecretBox(lambda: settings.destinations.keys(settings.storage.folder))
        return Destinations(self.database, settings.outbound, box)

    @cached_property
    def event_webhooks(self) -> EventWebhooks:
        from laneway.platform.webhooks.event_webhooks import EventWebhooks

        return EventWebhooks(self.database, self.tasks)

    @cached_property
    def delivery_log(self) -> DeliveryLog:
        from laneway.platform.webhooks.delivery_log import DeliveryLog

        return DeliveryLog(self.database, self.tasks, self.recorder)

    @cached_property
    def workflow_definitions(self) -> Definitions:
        return load_definitions(self.workflow_folder, handlers=self.workflow_handlers, inputs=self.workflow_inputs)

    @cached_property
    def workflow_handlers(self) -> dict[str, Handler]:
        return dict(registered_handlers)

    @cached_property
    def workflow_inputs(self) -> dict[str, type[BaseModel]]:
        return dict(registered_inputs)

    @cached_property
    def workflows(self) -> Workflows:
        return Workflows(self.database, self.tasks, self.workflow_definitions)

    @cached_property
    def workflow_steps(self) -> StepRunner:
        patience = self._settings.tasks.hand_on_seconds
        handlers, runs = self.workflow_handlers, lambda: self.workflows
        return StepRunner(self.database, self.tasks, handlers, hand_on_seconds=patience, runs=runs)

    @cached_property
    def workflow_views(self) -> WorkflowViews:
        return WorkflowViews(self.database, self.tasks, figures=self.workflow_figures)

    def workflow_figures(self, metrics: dict[str, int]) -> dict[str, Any]:
        """Return further fields of the view of a workflow run, computed from the metrics of its steps."""
        del metrics
        return {}

    @cached_property
    def retention(self) -> Retention:
        from laneway.platform.operations.retention import Retention

        settings = self._settings
        return Retention(self.database, settings.storage, settings.tasks, task_retention=settings.task_retention)

    @property
    def erasers(self) -> Sequence[Eraser]:
        """What an erasure removes beside the library's data; an application may return more."""
        return tuple(registered_erasers)

    @cached_property
    def erasure(self) -> Erasure:
        from laneway.platform.erasure.erasure import Erasure

        return Erasure(
            self.database,
            self.broker,
            recorder=self.recorder,
            tasks=self.tasks,
            workflows=self.workflows,
            results=self.results,
            payloads=self.settings.tasks.payload_store,
            erasers=self.erasers,
        )

    @property
    def alert_rules(self) -> Sequence[AlertRule]:
        """The rules of alerts; an application may return more."""
        from laneway.platform.alerts.rules import RULES

        return RULES

    @cached_property
    def alerts(self) -> Alerts:
        from laneway.platform.alerts.alerts import Alerts
        from laneway.platform.alerts.snapshot import Watched

        watched = Watched(
            database=self.database,
            broker=self.broker,
            tasks=self.tasks,
            recorder=self.recorder,
            intake=self.intake,
            settings=self._settings.alerts,
            unknown_queues=self.unknown_queues,
            schedules=self.schedule_watch,
        )
        return Alerts(watched, self.alert_rules)

    @cached_property
    def receivers(self) -> Receivers:
        from laneway.platform.alerts.receivers import Receivers

        return Receivers(self.database, self._settings.alerts, public_url=self._settings.people.public_url)

    @cached_property
    def schedules(self) -> Schedules:
        from laneway.platform.schedules.schedules import Schedules

        return Schedules(self._app, self.database, self.broker, self.tasks)

    @cached_property
    def schedule_watch(self) -> ScheduleWatch:
        from laneway.platform.schedules.watch import ScheduleWatch

        return ScheduleWatch(self._app, self.database)

    def close(self) -> None:
        """Close the connections of this process."""
        for name in ("broker", "results", "database"):
            if name in self.__dict__:
                getattr(self, name).close()
