"""Every task of the platform in one table: its name, queue, payload, retries and ordering key.

The API and the services submit by this table, without importing task code; the task modules
register under the same entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.core.queues import Priority
from app.schemas.conversation import Continuation, ConversationMessage, Interaction
from app.schemas.document import DocumentIngestion
from app.schemas.job import (
    AlertsOpened,
    BatchAnalysis,
    Nothing,
    OutboundWebhook,
    ReportPeriod,
    StoredDelivery,
    WeekPeriod,
)
from app.schemas.lead import CrmNotify, CrmUpdate
from app.schemas.pipeline import PipelineCommand
from app.schemas.task import EndedTask, Payload
from app.schemas.workflow_run import CleanupPeriod, WorkflowRef, WorkflowStepRef


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """How one kind of task is called and queued."""

    name: str
    queue: str
    payload: type[Payload]
    key: str | None = None
    """The payload field by which tasks are ordered: one at a time per value, in the order of submission."""
    priority: Priority = Priority.NORMAL
    max_retries: int | None = None
    """None: TASK_MAX_RETRIES."""
    on_failure: str | None = None
    """The task that is submitted, with `EndedTask`, whenever one of this kind ends in another way than completed."""


PROCESS_MESSAGE: Final = TaskSpec(
    "process_conversation_message_task", "conversations", ConversationMessage, key="conversation_id"
)
PROCESS_INTERACTION: Final = TaskSpec(
    "process_manipulator_interaction_task", "conversations", Interaction, key="conversation_id"
)
CONTINUE_CONVERSATION: Final = TaskSpec(
    "continue_conversation_async_task", "conversations", Continuation, key="conversation_id"
)
BATCH_ANALYSIS: Final = TaskSpec("batch_conversation_analysis_task", "analytics", BatchAnalysis)
FACEBOOK_WEBHOOK: Final = TaskSpec("process_facebook_webhook_task", "webhooks", StoredDelivery)
GOOGLE_WEBHOOK: Final = TaskSpec("process_google_webhook_task", "webhooks", StoredDelivery)
GENERIC_WEBHOOK: Final = TaskSpec("process_generic_webhook_task", "webhooks", StoredDelivery)
SEND_WEBHOOK: Final = TaskSpec("send_webhook_response_task", "webhooks", OutboundWebhook, max_retries=7)
ANALYTICS_REPORT: Final = TaskSpec("generate_conversation_analytics_task", "analytics", ReportPeriod)
PERFORMANCE_REPORT: Final = TaskSpec("generate_performance_report_task", "analytics", ReportPeriod)
CRM_UPDATE: Final = TaskSpec("crm_update", "crm", CrmUpdate, key="lead_id", on_failure="crm_update_ended")
CRM_UPDATE_ENDED: Final = TaskSpec("crm_update_ended", "crm", EndedTask)
CRM_NOTIFY: Final = TaskSpec("crm_notify", "crm", CrmNotify)
WORKFLOW_STEP: Final = TaskSpec(
    "run_workflow_step_task", "workflows", WorkflowStepRef, on_failure="settle_workflow_step_task"
)
WORKFLOW_STEP_ENDED: Final = TaskSpec("settle_workflow_step_task", "workflows", EndedTask, max_retries=20)
WORKFLOW_STOP: Final = TaskSpec("stop_workflow_task", "workflows", WorkflowRef, max_retries=20)
PROCESS_DOCUMENT: Final = TaskSpec(
    "process_document_task", "documents", DocumentIngestion, key="document_id", on_failure="document_failed_task"
)
DOCUMENT_FAILED: Final = TaskSpec("document_failed_task", "documents", EndedTask, max_retries=20)
WORKFLOW_CLEANUP: Final = TaskSpec("cleanup_old_workflows", "maintenance", CleanupPeriod)
WEEKLY_REPORT: Final = TaskSpec("generate_weekly_report", "analytics", WeekPeriod)
CLEANUP: Final = TaskSpec("cleanup_old_data_task", "maintenance", Nothing)
HEALTH_SWEEP: Final = TaskSpec("health_sweep_task", "maintenance", Nothing, max_retries=0)
ALERT_MAIL: Final = TaskSpec("send_alert_mail_task", "maintenance", AlertsOpened, priority=Priority.HIGH)
FOLLOW_UPS: Final = TaskSpec("queue_follow_ups_task", "maintenance", Nothing)
DEV: Final = TaskSpec("dev", "dev", PipelineCommand)
QA: Final = TaskSpec("qa", "qa", PipelineCommand)
FIX: Final = TaskSpec("fix", "fix", PipelineCommand)
DEPLOY: Final = TaskSpec("deploy", "deploy", PipelineCommand)

CATALOG: Final[dict[str, TaskSpec]] = {
    spec.name: spec
    for spec in (
        PROCESS_MESSAGE, PROCESS_INTERACTION, CONTINUE_CONVERSATION, BATCH_ANALYSIS, FACEBOOK_WEBHOOK,
        GOOGLE_WEBHOOK, GENERIC_WEBHOOK, SEND_WEBHOOK, ANALYTICS_REPORT, PERFORMANCE_REPORT, CLEANUP,
        HEALTH_SWEEP, ALERT_MAIL, FOLLOW_UPS, CRM_UPDATE, CRM_UPDATE_ENDED, CRM_NOTIFY, WORKFLOW_STEP,
        WORKFLOW_STEP_ENDED, WORKFLOW_STOP, WORKFLOW_CLEANUP, WEEKLY_REPORT, PROCESS_DOCUMENT, DOCUMENT_FAILED,
        DEV, QA, FIX, DEPLOY,
    )
}  # fmt: skip
