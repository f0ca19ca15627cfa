"""The pipeline's steps, what they are asked to do, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from laneway.platform.payload import Payload
from laneway.platform.schemas.task import Response

CommandName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Of a command: small letters, digits, ``_`` and ``-``, at most 40."""
Folder = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,9}$")
]
"""A working folder below PIPELINE_ROOT: parts of letters, digits and ``._-``, each beginning with a letter or digit."""
LONGEST_REPORT = 200_000
"""Characters."""


class Step(StrEnum):
    """What a pipeline does; each is a type of task, with a queue of its own."""

    DEV = "dev"
    QA = "qa"
    FIX = "fix"
    DEPLOY = "deploy"


class StepOutcome(StrEnum):
    """What came of a step; `failed`: qa found something."""

    OK = "ok"
    FAILED = "failed"


class PipelineCommand(Payload):
    """Payload of the tasks `dev`, `qa`, `fix` and `deploy`: one command in one folder."""

    folder: Folder
    command: CommandName
    report: str | None = Field(None, max_length=LONGEST_REPORT, description="For `fix`: what qa found")


class PipelineInput(BaseModel):
    """What the workflow `delivery_pipeline` is started with: a folder, and the name of each step's command."""

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
    """What a command did."""

    step: Step
    command: str
    outcome: StepOutcome
    exit_code: int
    seconds: float
    output: str = Field(description="What it wrote: the head and the tail of it, if it was too much")
    output_bytes: int = Field(description="How much it wrote")
    truncated: bool
