"""Batches: groups of tasks with callbacks at their end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictBool, StringConstraints, model_validator

from laneway.schemas.choices import BatchEvent, BatchState
from laneway.schemas.history import MAX_BATCH, TaskRequest
from laneway.schemas.model import Model
from laneway.schemas.payload import Identifier
from laneway.schemas.task import Response, TaskHandle
from laneway.schemas.text import Text

Description = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]


class CallbackRequest(Model):
    """The task that is submitted at an event of a batch."""

    model_config = ConfigDict(extra="forbid")

    name: Text = Field(description="The registered name of the task")
    payload: dict[str, Any] = Field(
        default_factory=dict, description="A field `batch_id` that is not given gets the id of the batch"
    )


class BatchRequest(Model):
    """Make a batch, and submit its first tasks with it: all of it is accepted, or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": "invoices-2026-04",
                    "description": "Invoices of April",
                    "on_success": {"name": "send_report_task", "payload": {"month": 4}},
                    "tasks": [{"name": "send_invoice_task", "payload": {"invoice_id": "2026-17"}}],
                }
            ]
        },
    )

    id: Identifier | None = Field(None, description="The same id with the same contents is the same batch")
    idempotency_key: Text | None = Field(None, description="Instead of `id`")
    description: Description = ""
    on_success: CallbackRequest | None = Field(None, description="Submitted when all its tasks are completed")
    on_complete: CallbackRequest | None = Field(
        None, description="Submitted when all its tasks have ended for the first time, however they ended"
    )
    on_death: CallbackRequest | None = Field(
        None, description="Submitted when the first of its tasks fails, or becomes a dead letter"
    )
    tasks: list[TaskRequest] = Field(default_factory=list[TaskRequest], max_length=MAX_BATCH)
    keep_open: StrictBool = Field(
        False, description="More tasks will follow: the batch does not end before it is closed"
    )

    @model_validator(mode="after")
    def _allow_one_identity(self) -> Self:
        if self.id is not None and self.idempotency_key is not None:
            raise ValueError("id and idempotency_key exclude each other")
        return self

    @property
    def callbacks(self) -> dict[BatchEvent, CallbackRequest]:
        """Event → its callback."""
        given = (
            (BatchEvent.SUCCESS, self.on_success),
            (BatchEvent.COMPLETE, self.on_complete),
            (BatchEvent.DEATH, self.on_death),
        )
        return {event: callback for event, callback in given if callback is not None}


class BatchTasks(Model):
    """Add tasks to a batch: all of them are accepted, or none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"tasks": [{"name": "send_invoice_task", "payload": {"invoice_id": "2026-18"}}]}]
        },
    )

    tasks: list[TaskRequest] = Field(min_length=1, max_length=MAX_BATCH)


class BatchHandle(Response):
    """The receipt of a batch."""

    batch_id: str
    created: bool = Field(description="False: this id was used before, and nothing new was submitted")
    tasks: list[TaskHandle] = Field(description="The receipts of its first tasks, in their order; empty for a repeat")


class CallbackView(Response):
    """A callback of a batch."""

    event: BatchEvent
    name: str = Field(description="The name of its task")
    task_id: str = Field(description="The id that its task has, once it is submitted")
    submitted_at: datetime | None


class BatchView(Response):
    """A batch and its progress."""

    batch_id: str
    description: str
    state: BatchState = Field(
        description="open: it waits for more tasks. running: a task has not ended. completed: all are completed. "
        "failed: all have ended, and not all are completed. cancelled: it was cancelled, and all have ended"
    )
    total: int = Field(description="Number of its tasks; those that were deleted since count as they ended")
    waiting: int
    running: int
    completed: int
    failed: int = Field(description="Failed tasks and dead letters")
    cancelled: int = Field(description="Cancelled and expired tasks")
    percent: int = Field(ge=0, le=100, description="The part of its tasks that has ended; 100 only if all have")
    created_by: str
    created_at: datetime
    closed_at: datetime | None = Field(description="Since when it ends with its last task; null: it is open")
    cancelled_at: datetime | None
    died_at: datetime | None = Field(description="When its first task failed or became a dead letter")
    completed_at: datetime | None = Field(description="When all its tasks had ended for the first time")
    succeeded_at: datetime | None = Field(description="When all its tasks were completed")
    finished_at: datetime | None = Field(description="When its last task ended; null while one has not")
    callbacks: list[CallbackView]


class BatchPage(Response):
    """A page of batches, newest first."""

    batches: list[BatchView]
    next: int | None = Field(description="`before` of the next page; null on the last page")


class BatchCancelResponse(Response):
    """The outcome of a cancel."""

    batch_id: str
    cancelled: int = Field(description="Tasks that this call has stopped, or asked to stop")
    refused: dict[str, str] = Field(description="Id → why this task was not cancelled")
    left: int = Field(description="Tasks that are still to be stopped: repeat the call until there are none")
