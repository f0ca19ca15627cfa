"""Runs of workflows: payloads of their tasks, requests and responses."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from laneway.schemas.choices import RunState
from laneway.schemas.model import Model
from laneway.schemas.number import Whole
from laneway.schemas.payload import Payload
from laneway.schemas.task import Response, TaskState
from laneway.schemas.text import Text
from laneway.schemas.workflow import MOST_ITEMS, Name, StepKind

WorkflowId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,95}$")]
"""An id chosen by the caller: at most 96 letters, digits and ``._:@+=-``; the first is a letter or digit."""


RUN_OVER = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class StepState(StrEnum):
    """The state of one visit of a step, that is, one run of it. While it is open, the state of its task says more."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class WorkflowStepRef(Payload):
    """Payload of `run_workflow_step_task`: one visit of one step in one run."""

    run_id: str = Field(min_length=1, max_length=96)
    step: Name
    visit: int = Field(ge=1)

    @property
    def task_id(self) -> str:
        """The id of the task; each visit has one id."""
        return f"{self.run_id}:{self.step}:{self.visit}"


class WorkflowItemRef(WorkflowStepRef):
    """Payload of `run_workflow_item_task`: one item of a visit whose step runs for each item of a list."""

    index: int = Field(ge=0, lt=MOST_ITEMS)


class WorkflowRef(Payload):
    """Payload of tasks about a whole run."""

    run_id: str = Field(min_length=1, max_length=96)


class CleanupPeriod(Payload):
    """Payload of `cleanup_old_workflows`."""

    days: Whole = Field(30, ge=1, le=36_500)


class WorkflowBody(Model):
    model_config = ConfigDict(extra="forbid")


class WorkflowIdentity(WorkflowBody):
    id: WorkflowId | None = Field(None, description="The same id with the same input is the same workflow")
    idempotency_key: Text | None = Field(None, description="Instead of `id`")

    @model_validator(mode="after")
    def _allow_one_identity(self) -> Self:
        if self.id is not None and self.idempotency_key is not None:
            raise ValueError("id and idempotency_key exclude each other")
        return self


class WorkflowRequest(WorkflowIdentity):
    """Start a workflow."""

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
    """Send a signal to a workflow. If its step waits several times (in a loop), give each signal an id of its own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"data": {"approved_by": "Ada"}}]})

    data: dict[str, Any] = Field(default_factory=dict)
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@+=-]{1,64}$")] | None = None


class RetryFrom(StrEnum):
    """Where a run continues."""

    FAILED = "failed"
    START = "start"


class RetryDefinition(StrEnum):
    """With which definition a run continues."""

    STARTED = "started"
    NEWEST = "newest"


class RetryRequest(WorkflowBody):
    """Retry a run. `failed`: completed steps stay completed. `start`: start a new run with the same input.

    `definition`: the one that the run was `started` with, or the `newest` one of its workflow.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"from": "failed"}, {"from": "start"}]})

    start_from: RetryFrom = Field(RetryFrom.FAILED, alias="from")
    definition: RetryDefinition = RetryDefinition.STARTED
    id: WorkflowId | None = Field(None, description="For `start`: id of the new run")

    @model_validator(mode="after")
    def _allow_id_only_for_a_new_run(self) -> Self:
        if self.id is not None and self.start_from is not RetryFrom.START:
            raise ValueError("id is for `from: start`, which makes a new workflow")
        return self


class WorkflowHandle(Response):
    """The receipt of a started workflow."""

    workflow_id: str
    task_id: str = Field(description="Id of the first step's task")
    status: TaskState = Field(
        description="State of that task; `accepted`: the broker cannot be reached, and the task is sent later"
    )
    created: bool = Field(description="False: a workflow with this id was started before, and nothing new was started")


class SignalResponse(Response):
    """The outcome of a signal."""

    workflow_id: str
    signal: str
    created: bool = Field(description="False: the signal was sent before")
    delivered: bool = Field(description="False: the signal is kept until its step waits for it")


class StepView(Response):
    """One visit of a step, or a step that was not reached yet."""

    step: str
    kind: StepKind
    visit: int = Field(description="Number of this visit (run of the step), from 1; 0: the step was not reached yet")
    state: str = Field(description="ok, failed, skipped, cancelled; the task's state while it is open; or to_come")
    superseded: bool = Field(description="True: a loop led back, and this visit does not count any more")
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


class WorkflowSummaryView(Response):
    """A run without its steps. An application may add fields of its own (`WorkflowViews`)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    workflow_id: str
    workflow_type: str
    version: int
    state: RunState
    agent_id: str | None
    retry_of: str | None
    parent_id: str | None = Field(None, description="The workflow whose step started it")
    parent_step: str | None = None
    error: str | None
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    paused_at: datetime | None = Field(None, description="Since when no step starts; null: it is not paused")
    paused_by: str | None = Field(None, description="Who paused it")
    duration_seconds: float | None = Field(description="From acceptance to the end")


class WorkflowView(WorkflowSummaryView):
    """A run with its steps, input and output."""

    input: dict[str, Any]
    output: dict[str, Any] | None = Field(description="Step → output, for the last steps")
    metrics: dict[str, int]
    waiting_for: list[str] = Field(description="Why the run does not continue: one line for each waiting step")
    steps: list[StepView]


class WorkflowPage(Response):
    """A page of runs, newest first."""

    workflows: list[WorkflowSummaryView]
    next: int | None = Field(description="`before` of the next page; null on the last page")


class DefinitionView(Response):
    """One workflow definition."""

    workflow_type: str
    version: int
    description: str
    input: dict[str, Any] | None = Field(description="JSON schema of the input, if the input has a type")
    signals: list[str]
    steps: list[dict[str, Any]]


class BrokenDefinitionView(Response):
    """A file that is no valid definition. Its workflow cannot be started; the others can."""

    workflow_type: str = Field(description="The name of the workflow, as far as the file tells it")
    file: str
    problems: list[str] = Field(description="What is wrong, with the line of the file where it is known")


class DefinitionsResponse(Response):
    """All workflow definitions."""

    definitions: list[DefinitionView]
    broken: list[BrokenDefinitionView]


class WorkflowPauseResponse(Response):
    """The outcome of a pause or of a resume."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "workflow_id": "0b7c",
                    "state": "running",
                    "paused_at": "2026-11-30T09:00:00Z",
                    "paused_by": "ada@example.com",
                    "changed": True,
                }
            ]
        },
    )

    workflow_id: str
    state: RunState
    paused_at: datetime | None = Field(description="Null: it is not paused")
    paused_by: str | None
    changed: bool = Field(description="False: it was paused, or not paused, before")


class WorkflowCancelResponse(Response):
    """The outcome of a cancel."""

    workflow_id: str
    state: RunState
    stopping: list[str] = Field(description="Running steps that were asked to stop")
