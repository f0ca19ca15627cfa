"""Every task of the platform in one table: its name, queue, payload, retries and ordering key.

The API and the services submit by this table, without importing task code; the task modules
register under the same entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.core.queues import Priority
from app.schemas.conversation import Continuation, ConversationMessage, Interaction
from app.schemas.job import BatchAnalysis, Nothing, OutboundWebhook, ReportPeriod, StoredDelivery
from app.schemas.task import Payload


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
CLEANUP: Final = TaskSpec("cleanup_old_data_task", "maintenance", Nothing)
HEALTH_SWEEP: Final = TaskSpec("health_sweep_task", "maintenance", Nothing, max_retries=0)
FOLLOW_UPS: Final = TaskSpec("queue_follow_ups_task", "maintenance", Nothing)

CATALOG: Final[dict[str, TaskSpec]] = {
    spec.name: spec
    for spec in (
        PROCESS_MESSAGE, PROCESS_INTERACTION, CONTINUE_CONVERSATION, BATCH_ANALYSIS, FACEBOOK_WEBHOOK,
        GOOGLE_WEBHOOK, GENERIC_WEBHOOK, SEND_WEBHOOK, ANALYTICS_REPORT, PERFORMANCE_REPORT, CLEANUP,
        HEALTH_SWEEP, FOLLOW_UPS,
    )
}  # fmt: skip
