"""Conversations and their tasks."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Response

from app.api.deps import ConversationId, ServicesDep
from app.schemas.conversation import (
    ConversationMessage,
    ConversationView,
    Interaction,
    InteractionAccepted,
    InteractionRequest,
    MessageAccepted,
    MessageRequest,
)
from app.services.container import Services
from laneway.api.deps import TaskId
from laneway.api.errors import problems
from laneway.platform import clock
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.queues import Priority
from laneway.platform.schemas.task import (
    FINISHED,
    ActiveTasksResponse,
    CancelResponse,
    QueuesResponse,
    TaskHandle,
    TaskState,
    TaskStatus,
)

router = APIRouter(prefix="/conversations", tags=["conversations"])

ANSWERED: dict[str, Any] = {"model": MessageAccepted, "description": "The reply is there already"}
FIRST_LOOK, LONGEST_LOOK = 0.02, 0.25
"""Seconds between looks at a task that a caller waits for."""


@router.post(
    "/message",
    status_code=202,
    response_description="Accepted: a task answers it",
    responses={200: ANSWERED, **problems(409, 410, 429)},
)
async def post_message(body: MessageRequest, services: ServicesDep, response: Response) -> MessageAccepted:
    """Accept a customer's message; it is answered by a task.

    With `async_processing: false` the answer waits for the reply, up to REPLY_TIMEOUT_SECONDS, and is then as if async.
    """
    handle = await run_sync(_submit_message, services, body)
    task = None
    if not body.async_processing and handle.state is not TaskState.ACCEPTED:
        task = await _wait(services, handle.task_id)
    if task is None or task.status not in FINISHED:
        return MessageAccepted(conversation_id=body.conversation_id, task_id=handle.task_id, status=_told(handle))
    response.status_code = 200
    result = task.result or {}
    return MessageAccepted(
        conversation_id=body.conversation_id,
        task_id=handle.task_id,
        status=task.status,
        reply=result.get("reply"),
        sources=result.get("sources"),
        error=task.error,
    )


@router.post(
    "/webhook-interaction",
    status_code=202,
    response_description="Accepted: a task works on it",
    responses=problems(409, 429),
)
def post_interaction(body: InteractionRequest, services: ServicesDep) -> InteractionAccepted:
    """Accept a platform interaction (an ad click, a lead form, a page message) from a system of your own."""
    payload = Interaction.model_validate(body.model_dump())
    handle = services.tasks.submit(
        "process_manipulator_interaction_task", payload, id=_derived("interaction", body.channel, body.event_id)
    )
    return InteractionAccepted(conversation_id=body.conversation_id, task_id=handle.task_id, status=_told(handle))


@router.get("/tasks/queues/status", responses=problems())
def queues_status(services: ServicesDep) -> QueuesResponse:
    """What waits, runs and is dead, per queue."""
    return QueuesResponse(queues=services.tasks.queues(), timestamp=clock.now())


@router.get("/tasks/active", responses=problems())
def active_tasks(services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> ActiveTasksResponse:
    """What is being worked on now, newest first."""
    tasks = services.tasks.active(limit)
    return ActiveTasksResponse(tasks=tasks, count=len(tasks), timestamp=clock.now())


@router.get("/tasks/{task_id}/status", responses=problems(404, 410))
def task_status(task_id: TaskId, services: ServicesDep) -> TaskStatus:
    """One task: state, progress, result or error, attempts, queue, times, and why it waits."""
    return services.tasks.status(task_id)


@router.post("/tasks/{task_id}/cancel", responses=problems(404, 409))
def cancel_task(task_id: TaskId, services: ServicesDep) -> CancelResponse:
    """Stop a task: a waiting one never runs, a running one is interrupted within seconds."""
    return services.tasks.cancel(task_id)


@router.get("/{conversation_id}", responses=problems(404))
def conversation(
    conversation_id: ConversationId,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only turns with a smaller id")] = None,
) -> ConversationView:
    """A conversation's history: its newest turns, oldest first."""
    return services.conversations.view(conversation_id, limit=limit, before=before)


def _submit_message(services: Services, body: MessageRequest) -> TaskHandle:
    payload = ConversationMessage(
        conversation_id=body.conversation_id, text=body.text, message_id=body.message_id, customer=body.customer
    )
    id = _derived("message", body.conversation_id, body.message_id) if body.message_id else None
    return services.tasks.submit("process_conversation_message_task", payload, id=id, priority=Priority[body.priority])


async def _wait(services: Services, task_id: str) -> TaskStatus | None:
    """The task once it is over, or as it is when the time is up, or nobody can say: it is accepted all the same."""
    task, pause = None, FIRST_LOOK
    with anyio.move_on_after(services.settings.responder.reply_timeout), suppress(DatabaseUnavailable):
        while task is None or task.status not in FINISHED:
            await anyio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOOK)
            task = await run_sync(services.tasks.status, task_id)
    return task


def _told(handle: TaskHandle) -> TaskState:
    """A task that is with the broker is called in processing; one that the broker gets later, accepted."""
    return TaskState.ACCEPTED if handle.state is TaskState.ACCEPTED else TaskState.PROCESSING


def _derived(kind: str, *parts: str) -> str:
    """A task id that is the same for the same ids from outside, whatever their length."""
    return f"{kind}:{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:40]}"
