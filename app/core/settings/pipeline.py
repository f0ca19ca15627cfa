"""Settings of the pipeline: which commands may run, where, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, Json, StringConstraints
from pydantic_settings import NoDecode

from app.schemas.pipeline import CommandName, Step
from laneway.platform.settings.base import Group, project

Argument = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
CommandLine = Annotated[list[Argument], Field(min_length=1, max_length=200)]
"""A program and its arguments."""


class PipelineSettings(Group):
    """The allowed commands, the root of their folders, and their limits. Times are in seconds."""

    root: Path | None = Field(None, alias="PIPELINE_ROOT")
    """The folder that contains the working folders. Without it no command is run."""
    commands: Annotated[Json[dict[Step, dict[CommandName, CommandLine]]], NoDecode] = Field(
        {}, alias="PIPELINE_COMMANDS", validate_default=False
    )
    """What each step may run, as JSON: `{"dev": {"build": ["make", "build"]}}`. No shell is involved."""
    timeout: float = Field(240, alias="PIPELINE_TIMEOUT_SECONDS", gt=0, le=86_400)
    """Seconds that a command may run. With the grace it is at most `TASK_SOFT_TIME_LIMIT`."""
    grace: float = Field(5, alias="PIPELINE_GRACE_SECONDS", ge=0, le=60)
    """Seconds from SIGTERM to SIGKILL."""
    output_bytes: int = Field(65_536, alias="PIPELINE_OUTPUT_BYTES", ge=1024, le=150_000)
    """Bytes of a command's output that are kept: half from its beginning, half from its end."""
    retry_failed: bool = Field(False, alias="PIPELINE_RETRY_FAILED")
    """Whether a failed command of dev, fix and deploy is retried like other errors."""

    @property
    def folder(self) -> Path | None:
        """`PIPELINE_ROOT` as an absolute path."""
        return None if self.root is None else project.path / self.root.expanduser()
