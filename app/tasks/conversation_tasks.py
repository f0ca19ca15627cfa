"""Tasks of conversations."""

from __future__ import annotations

from typing import Any

from app.schemas.analytics import BatchAnalysis
from app.schemas.conversation import Continuation, ConversationMessage, Interaction
from app.services.container import services
from laneway import Context, task


@task(queue="conversations", key="conversation_id")
def process_conversation_message_task(ctx: Context, payload: ConversationMessage) -> dict[str, Any]:
    """Store a customer's message and reply to it from the documents."""
    return services().conversations.process_message(payload, task_id=ctx.id, progress=ctx.progress)


@task(queue="conversations", key="conversation_id")
def process_manipulator_interaction_task(ctx: Context, payload: Interaction) -> dict[str, Any]:
    """Open or continue a conversation after a platform interaction, and write the outbound message."""
    return services().conversations.process_interaction(payload, task_id=ctx.id, progress=ctx.progress)


@task(queue="conversations", key="conversation_id")
def continue_conversation_async_task(ctx: Context, payload: Continuation) -> dict[str, Any]:
    """Write the next turn of a conversation: a reminder for a silent customer, or an operator's message."""
    return services().conversations.continue_conversation(payload, task_id=ctx.id, progress=ctx.progress)


@task(queue="analytics")
def batch_conversation_analysis_task(ctx: Context, payload: BatchAnalysis) -> dict[str, Any]:
    """Analyse many conversations in chunks: sentiment, key phrases, response times, resolution."""

    def progress(done: int, total: int) -> None:
        ctx.progress(100 * done / max(total, 1), f"{done} of {total} conversations")

    summary = services().analytics.analyse(
        payload.conversation_ids, report_id=ctx.id, chunk=payload.chunk, progress=progress
    )
    return summary.model_dump(mode="json")
