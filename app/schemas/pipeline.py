"""The pipeline: its steps, payloads of their tasks, and results."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from laneway.schemas.payload import Payload
from laneway.schemas.task import Response

CommandName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Lower-case letters, digits, ``_`` and ``-``, at most 40 characters."""
Folder = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,9}$")
]
"""A working folder below PIPELINE_ROOT: parts of letters, digits and ``._-``, each starts with a letter or digit."""
MAX_REPORT_LENGTH = 200_000
"""Characters of qa's report that `fix` gets."""


class Step(StrEnum):
    """A step of a pipeline; each is a task name with its own queue."""

    DEV = "dev"
    QA = "qa"
    FIX = "fix"
    DEPLOY = "deploy"


class StepOutcome(StrEnum):
    """The outcome of a step; `failed`: qa found defects."""

    OK = "ok"
    FAILED = "failed"


class PipelineCommand(Payload):
    """Payload of the tasks `dev`, `qa`, `fix` and `deploy`: one command in one folder."""

    folder: Folder
    command: CommandName
    report: str | None = Field(None, max_length=MAX_REPORT_LENGTH, description="For `fix`: qa's report")


class PipelineInput(BaseModel):
    """Input of the workflow `delivery_pipeline`: a folder, and the name of each step's command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Folder
    dev: CommandName
    qa: CommandName
    fix: CommandName
    deploy: CommandName

    def command(self, step: Step) -> CommandName:
        """The name of a step's command."""
        return str(getattr(self, step.value))


class CommandResult(Response):
    """Result of a command."""

    step: Step
    command: str
    outcome: StepOutcome
    exit_code: int
    seconds: float
    output: str = Field(description="What it wrote; only head and tail if it was too much")
    output_bytes: int = Field(description="Bytes that it wrote")
    truncated: bool
