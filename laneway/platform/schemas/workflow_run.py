"""Runs of workflows: the payloads of their tasks, requests, and how they are answered."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from laneway.platform.payload import Payload
from laneway.platform.schemas.history import Text
from laneway.platform.schemas.task import Response, TaskState
from laneway.platform.schemas.workflow import Name, StepKind

WorkflowId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,95}$")]
"""An id chosen by a caller: letters, digits and ``._:@+=-``, at most 96, starting with a letter or digit."""


class RunState(StrEnum):
    """Where a run is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUN_OVER = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class StepState(StrEnum):
    """What is known of a visit of a step; while it is open, its task says more."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class WorkflowStepRef(Payload):
    """Payload of `run_workflow_step_task`: one visit of one step of one run."""

    run_id: str = Field(min_length=1, max_length=96)
    step: Name
    visit: int = Field(ge=1)

    @property
    def task_id(self) -> str:
        """The id of its task: the same for the same visit."""
        return f"{self.run_id}:{self.step}:{self.visit}"


class WorkflowRef(Payload):
    """Payload of the tasks that are about a whole run."""

    run_id: str = Field(min_length=1, max_length=96)


class CleanupPeriod(Payload):
    """Payload of `cleanup_old_workflows`."""

    days: int = Field(30, strict=True, ge=1, le=36_500)


class WorkflowBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WorkflowIdentity(WorkflowBody):
    id: WorkflowId | None = Field(None, description="The same id again, with the same input, is the same workflow")
    idempotency_key: Text | None = Field(None, description="Instead of an id")

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.id is not None and self.idempotency_key is not None:
            raise ValueError("id and idempotency_key exclude each other")
        return self


class WorkflowRequest(WorkflowIdentity):
    """Start any definition."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "workflow_type": "savings_assessment",
                    "input": {
                        "tasks_per_week": 20,
                        "time_per_task_minutes": 5,
                        "hourly_wage": 25,
                        "automation_percent": 80,
                    },
                }
            ]
        },
    )

    workflow_type: Name
    input: dict[str, Any] = Field(default_factory=dict)


class SignalRequest(WorkflowBody):
    """A signal for a workflow. With ids of their own several of one name are kept, one for each visit of its step."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"data": {"approved_by": "Ada"}}]})

    data: dict[str, Any] = Field(default_factory=dict)
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@+=-]{1,64}$")] | None = None


class RetryFrom(StrEnum):
    """Where a run goes on."""

    FAILED = "failed"
    START = "start"


class RetryRequest(WorkflowBody):
    """`failed`: what is done stays done. `start`: a new run of the same definition with the same input."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"from": "failed"}, {"from": "start"}]})

    start_from: RetryFrom = Field(RetryFrom.FAILED, alias="from")
    id: WorkflowId | None = Field(None, description="Of the new run, for `start`")

    @model_validator(mode="after")
    def _only_for_a_new_one(self) -> Self:
        if self.id is not None and self.start_from is not RetryFrom.START:
            raise ValueError("id is for `from: start`, which makes a new workflow")
        return self


class WorkflowAccepted(Response):
    """The receipt of a run."""

    workflow_id: str
    task_id: str = Field(description="The task of its first step")
    status: TaskState = Field(description="Of that task; `accepted`: the broker is away and gets it later")
    created: bool = Field(description="False: this id had been started before, and nothing new was")


class SignalResponse(Response):
    """What became of a signal."""

    workflow_id: str
    signal: str
    created: bool = Field(description="False: it had been sent before")
    delivered: bool = Field(description="False: it is kept until its step waits for it")


class StepView(Response):
    """One visit of a step, or a step that was not reached yet."""

    step: str
    kind: StepKind
    visit: int = Field(description="How often it had been started by then; 0: not reached yet")
    state: str = Field(description="ok, failed, skipped, cancelled; of its task while it is not over; or to_come")
    superseded: bool = Field(description="A loop led back: a later visit counts")
    task_id: str | None
    attempts: int | None
    output: dict[str, Any] | None
    error: str | None
    error_type: str | None
    waiting_for: str | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None


class WorkflowHead(Response):
    """A run without its steps. An application may add figures of its own (`WorkflowViews`)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    workflow_id: str
    workflow_type: str
    version: int
    state: RunState
    agent_id: str | None
    retry_of: str | None
    error: str | None
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None = Field(description="From acceptance to the end")


class WorkflowView(WorkflowHead):
    """A run with everything that is known of it."""

    input: dict[str, Any]
    output: dict[str, Any] | None = Field(description="Step → output, of the last steps")
    metrics: dict[str, int]
    waiting_for: list[str] = Field(description="Why it does not go on, a line for each step that waits")
    steps: list[StepView]


class WorkflowPage(Response):
    """Some runs, newest first."""

    workflows: list[WorkflowHead]
    next: int | None = Field(description="`before` of the next page; none on the last")


class DefinitionView(Response):
    """One definition."""

    workflow_type: str
    version: int
    description: str
    input: dict[str, Any] | None = Field(description="JSON schema of its input, if it has a type")
    signals: list[str]
    steps: list[dict[str, Any]]


class DefinitionList(Response):
    """All definitions."""

    definitions: list[DefinitionView]


class WorkflowCancelled(Response):
    """What a cancel did."""

    workflow_id: str
    state: RunState
    stopping: list[str] = Field(description="Steps that were running, and have been asked to stop")
