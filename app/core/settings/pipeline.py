"""Settings of the pipeline: which commands may run, where, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, Json, StringConstraints, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from app.schemas.pipeline import CommandName, Step
from laneway.platform.settings.base import Group, project

Argument = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
CommandLine = Annotated[list[Argument], Field(min_length=1, max_length=200)]
"""A program and its arguments."""
MB: Final = 1024 * 1024
MAX_OPEN_FILES: Final = 4096
"""Files that a process of a command may have open."""
Paths = Annotated[tuple[Path, ...] | None, NoDecode]
"""Absolute paths, separated by colons."""


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
    readable: Paths = Field(None, alias="PIPELINE_READABLE")
    """Folders that commands may read besides the system's, Python's and their own: absolute, separated by colons."""
    writable: Paths = Field(None, alias="PIPELINE_WRITABLE")
    """Folders that commands may write besides their own, such as a cache: absolute, separated by colons."""
    network: Annotated[tuple[Step, ...] | None, NoDecode] = Field(None, alias="PIPELINE_NETWORK")
    """The steps whose commands may use the network, separated by commas: `deploy`. Others reach only themselves."""
    memory_bytes: int = Field(4096 * MB, alias="PIPELINE_MEMORY_BYTES", ge=64 * MB)
    """The memory of each process of a command, in bytes."""
    cpu_seconds: int = Field(3600, alias="PIPELINE_CPU_SECONDS", ge=1)
    """Seconds of CPU of each process of a command."""
    file_bytes: int = Field(2048 * MB, alias="PIPELINE_FILE_BYTES", ge=MB)
    """The largest file that a command may write, in bytes."""
    processes: int = Field(512, alias="PIPELINE_PROCESSES", ge=1, le=100_000)
    """Processes and threads of a command, on top of those that its user has already."""

    @field_validator("readable", "writable", mode="before")
    @classmethod
    def _split_paths(cls, value: Any, info: ValidationInfo) -> Any:
        paths = value.split(":") if isinstance(value, str) else value
        for path in paths or ():
            if not Path(path).is_absolute() or Path(path) == Path("/") or ".." in Path(path).parts:
                name = f"PIPELINE_{str(info.field_name).upper()}"
                raise ValueError(f"{name} must be absolute folders below /, separated by colons: {str(path)!r}")
        return paths

    @field_validator("network", mode="before")
    @classmethod
    def _split_steps(cls, value: Any) -> Any:
        return [step.strip() for step in value.split(",")] if isinstance(value, str) else value

    @property
    def limits(self) -> dict[str, int]:
        """The hard limits of a command, as `laneway.confinement` names them."""
        return {
            "data": self.memory_bytes,
            "cpu": self.cpu_seconds,
            "file": self.file_bytes,
            "files": MAX_OPEN_FILES,
            "core": 0,
            "processes": self.processes,
        }

    @property
    def folder(self) -> Path | None:
        """`PIPELINE_ROOT` as an absolute path."""
        return None if self.root is None else project.path / self.root.expanduser()
