"""Routes of conversations and their tasks."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Response

from app.api.deps import ConversationId, ServicesDep
from app.api.scopes import CONVERSATIONS
from app.schemas.conversation import (
    ConversationMessage,
    ConversationView,
    Interaction,
    InteractionRequest,
    MessageAccepted,
    MessageRequest,
)
from app.services.container import Services
from app.services.task_manager import derived_task_id, reported_state
from laneway.api.access import requires
from laneway.api.deps import TaskId
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute, read_in_thread, write_in_thread
from laneway.platform.access.scopes import Scope
from laneway.platform.errors import DatabaseUnavailable, Overloaded
from laneway.platform.queues import Priority
from laneway.schemas.task import (
    FINISHED,
    ActiveTasksResponse,
    CancelResponse,
    QueuesResponse,
    TaskHandle,
    TaskState,
    TaskStatus,
)

router = APIRouter(prefix="/conversations", tags=["conversations"], route_class=ThreadedRoute)

QUEUED = "Message received and being processed."
INTERACTION_QUEUED = "Interaction received and being processed."
NOT_ANSWERED = {
    TaskState.CANCELLED: "The message was cancelled before it was answered.",
    TaskState.EXPIRED: "The message expired before it was answered.",
}
WITH_REPLY: dict[str, Any] = {"model": MessageAccepted, "description": "With the reply"}
FIRST_POLL, LONGEST_POLL = 0.02, 0.25
"""Seconds between two polls of a task that a caller waits for: the first pause, and the longest one."""


@router.post(
    "/message",
    status_code=202,
    response_description="Accepted: a task answers it",
    responses={200: WITH_REPLY, **problems(409, 410, 429)},
    dependencies=[requires(CONVERSATIONS)],
)
async def post_message(body: MessageRequest, services: ServicesDep, response: Response) -> MessageAccepted:
    """Accept a customer's message; a task writes the reply.

    With `async_processing: false` the request waits for the reply, up to REPLY_TIMEOUT_SECONDS. After that it is
    answered as if it were asynchronous.
    """
    handle = await write_in_thread(_submit_message, services, body)
    task = None if body.async_processing else await _wait_for_task(services, handle)
    if task is None:
        return _accepted(body.conversation_id, handle, QUEUED)
    response.status_code = 200
    return _replied(body.conversation_id, task)


@router.post(
    "/webhook-interaction",
    status_code=202,
    response_description="Accepted: a task works on it",
    responses={200: WITH_REPLY, **problems(409, 410, 429)},
    dependencies=[requires(CONVERSATIONS)],
)
async def post_interaction(body: InteractionRequest, services: ServicesDep, response: Response) -> MessageAccepted:
    """Accept a platform interaction (an ad click, a lead form, a page message) from one of your own systems.

    With `async_processing: false` the request waits for the outbound message, as `POST /conversations/message` does.
    """
    handle = await write_in_thread(_submit_interaction, services, body)
    task = None if body.async_processing else await _wait_for_task(services, handle)
    if task is None:
        return _accepted(body.conversation_id, handle, INTERACTION_QUEUED)
    response.status_code = 200
    return _replied(body.conversation_id, task)


@router.get("/tasks/queues/status", responses=problems(), dependencies=[requires(Scope.READ)])
def show_queues(services: ServicesDep) -> QueuesResponse:
    """The active, pending, scheduled and dead tasks of each queue."""
    return services.tasks.queue_statistics()


@router.get("/tasks/active", responses=problems(), dependencies=[requires(Scope.READ)])
def list_active_tasks(services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> ActiveTasksResponse:
    """The tasks that run now, newest first."""
    return services.tasks.active_tasks(limit)


@router.get("/tasks/{task_id}/status", responses=problems(404, 410), dependencies=[requires(Scope.READ)])
def show_conversation_task(task_id: TaskId, services: ServicesDep) -> TaskStatus:
    """One task: state, progress, result or error, attempts, queue, times, and what it waits for."""
    return services.tasks.status(task_id)


@router.post("/tasks/{task_id}/cancel", responses=problems(404, 409), dependencies=[requires(Scope.OPERATE)])
def cancel_conversation_task(task_id: TaskId, services: ServicesDep) -> CancelResponse:
    """Cancel a task: a waiting task never runs, a running one is interrupted within seconds."""
    return services.tasks.cancel(task_id)


@router.get("/{conversation_id}", responses=problems(404), dependencies=[requires(CONVERSATIONS)])
def show_conversation(
    conversation_id: ConversationId,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only turns with a smaller id")] = None,
) -> ConversationView:
    """The history of a conversation: its newest turns, oldest first."""
    return services.conversations.view(conversation_id, limit=limit, before=before)


def _submit_message(services: Services, body: MessageRequest) -> TaskHandle:
    payload = ConversationMessage(
        conversation_id=body.conversation_id, message=body.message, message_id=body.message_id, customer=body.customer
    )
    id = derived_task_id("message", body.conversation_id, body.message_id) if body.message_id else None
    return services.tasks.submit("process_conversation_message_task", payload, id=id, priority=Priority[body.priority])


def _submit_interaction(services: Services, body: InteractionRequest) -> TaskHandle:
    payload = Interaction.model_validate(body.model_dump(exclude={"async_processing"}))
    id = derived_task_id("interaction", body.channel, body.event_id)
    return services.tasks.submit("process_manipulator_interaction_task", payload, id=id)


def _accepted(conversation_id: str, handle: TaskHandle, sentence: str) -> MessageAccepted:
    status = reported_state(handle.state)
    return MessageAccepted(conversation_id=conversation_id, response=sentence, status=status, task_id=handle.task_id)


def _replied(conversation_id: str, task: TaskStatus) -> MessageAccepted:
    result = task.result or {}
    return MessageAccepted(
        conversation_id=conversation_id,
        response=result.get("ai_response") or _without_reply(task),
        status=task.status,
        task_id=task.task_id,
        sources=result.get("sources"),
        error=task.error,
    )


def _without_reply(task: TaskStatus) -> str:
    if skipped := (task.result or {}).get("skipped"):
        return f"Nothing was answered: {skipped}."
    return NOT_ANSWERED.get(task.status, "The message could not be answered.")


async def _wait_for_task(services: Services, handle: TaskHandle) -> TaskStatus | None:
    """Wait until the task has ended, at most REPLY_TIMEOUT_SECONDS; None if it has not.

    If the database fails meanwhile, no thread is free or the API stops, only the wait ends: the task stays accepted.
    """
    if handle.state is TaskState.ACCEPTED:
        return None
    task, pause = None, FIRST_POLL
    with anyio.move_on_after(services.settings.responder.reply_timeout), suppress(DatabaseUnavailable, Overloaded):
        while (task is None or task.status not in FINISHED) and not services.event_stream.stopped:
            await anyio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL)
            task = await read_in_thread(services.tasks.status, handle.task_id)
    return task if task is not None and task.status in FINISHED else None
