"""Runs the command of a pipeline step in its folder, and returns the result.

A task only names a step's command; the program and its arguments come from the configuration alone.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from app.core.settings.pipeline import PipelineSettings
from app.schemas.pipeline import CommandResult, PipelineCommand, PipelineInput, Step, StepOutcome
from app.services.pipeline.errors import CommandFailed, RetryableCommandFailed, UnknownCommand
from app.services.pipeline.folders import WorkingFolder, open_folder
from app.services.pipeline.process import Bounds, CommandRun, End, run
from laneway.confinement.confine import PYTHON, Confinement
from laneway.platform.errors import NotConfigured, PlatformError
from laneway.platform.logging import logger
from laneway.platform.settings import ChildSettings

log = logger(__name__)

MAX_LOGGED_LINES: Final = 150
"""Lines of a command's output that are logged as events of the task; the result has the whole output."""
PROGRESS_INTERVAL: Final = 2.0
"""Seconds between two progress reports with the last line."""
ERROR_TAIL_LENGTH: Final = 1500
"""Characters of output in an error."""
REPORT_FILE: Final = "qa-report.txt"
_TERMINAL_CODES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""Colours, titles and cursor movements (ECMA-48), and other control characters."""
DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class RunningTask(Protocol):
    """The task that runs a command; `laneway.Context` is one."""

    @property
    def id(self) -> str:
        """The task's id."""
        ...

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:
        """Report progress. Raises TaskCancelled if the task must stop."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled if the task must stop."""
        ...


class Pipeline:
    """Runs the commands of pipeline steps."""

    def __init__(self, settings: PipelineSettings, children: ChildSettings, *, seconds: float) -> None:
        """`seconds` limits how long a command may run (`Settings.pipeline_seconds`)."""
        self._settings, self._children, self._seconds = settings, children, seconds

    def run(self, step: Step, payload: PipelineCommand, task: RunningTask) -> CommandResult:
        """Run a step's command. A non-zero exit code means defects for qa, and a failure for the other steps.

        Raises NotConfigured, UnknownCommand, BadFolder, CommandFailed, CommandRefused, GuardLost, and TaskSnoozed while
        another command uses the folder.
        """
        root, argv = self._root(), self._argv(step, payload.command)
        lines = _LineLogger(task)
        with open_folder(root, payload.folder) as folder:
            environment = _environment(folder.path, step=step, task_id=task.id)
            if payload.report is not None:
                environment["PIPELINE_QA_REPORT"] = str(folder.write_file(REPORT_FILE, payload.report))
            log.info("command started", step=step.value, command=payload.command, folder=payload.folder)
            ended = run(
                argv,
                folder,
                environment=environment,
                bounds=self._bounds,
                confinement=self._confinement(step, folder),
                on_line=lines.log,
                on_tick=lines.report,
            )
        return self._result(step, payload.command, ended)

    def check(self, pipeline: PipelineInput) -> None:
        """Raise NotConfigured or UnknownCommand if any step of this pipeline could not run."""
        self._root()
        for step in Step:
            self._argv(step, pipeline.command(step))

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self._seconds, self._settings.grace, self._settings.output_bytes)

    def _confinement(self, step: Step, folder: WorkingFolder) -> Confinement:
        """What the command may do. Started by root, it becomes the folder's owner, or CHILD_USER if that is root."""
        user, group = folder.owner(self._children.ids()) or (None, None)
        return Confinement(
            user=user,
            group=group,
            readable=(*PYTHON, *map(str, self._settings.readable or ())),
            writable=(".", *map(str, self._settings.writable or ())),
            network=step in (self._settings.network or ()),
            limits=self._settings.limits,
            required=self._children.required,
        )

    def _root(self) -> Path:
        if self._settings.folder is None:
            raise NotConfigured("The pipeline", "PIPELINE_ROOT")
        return self._settings.folder

    def _argv(self, step: Step, command: str) -> list[str]:
        allowed = self._settings.commands.get(step, {})
        if command not in allowed:
            raise UnknownCommand(step.value, command, sorted(allowed))
        return allowed[command]

    def _result(self, step: Step, command: str, ended: CommandRun) -> CommandResult:
        log.info(
            "command ended",
            step=step.value,
            command=command,
            how=ended.how.value,
            exit_code=ended.code,
            output_bytes=ended.output.size,
        )
        if ended.detail:
            log.warning("some processes of a command could not be ended", detail=ended.detail)
        if ended.how is not End.EXITED or ended.code is None or (ended.code and step is not Step.QA):
            tail = ended.output.tail(ERROR_TAIL_LENGTH)
            kind = RetryableCommandFailed if self._settings.retry_failed else CommandFailed
            raise kind(command, self._reason(ended), tail)
        return CommandResult(
            step=step,
            command=command,
            outcome=StepOutcome.FAILED if ended.code else StepOutcome.OK,
            exit_code=ended.code,
            seconds=round(ended.seconds, 3),
            output=ended.output.text(),
            output_bytes=ended.output.size,
            truncated=ended.output.truncated,
        )

    def _reason(self, ended: CommandRun) -> str:
        detail = f" ({ended.detail})" if ended.detail else ""
        if ended.how is End.NOT_STARTED:
            return f"could not be started: {ended.detail}"
        if ended.how is End.TIMEOUT:
            return f"ran longer than PIPELINE_TIMEOUT_SECONDS ({self._seconds:g} s) and was ended{detail}"
        if ended.how is not End.EXITED:
            return f"was ended because its worker stopped responding{detail}"
        if ended.code is None:
            return f"was killed by {signal.Signals(ended.signal or 0).name}{detail}"
        return f"ended with exit code {ended.code}{detail}"


class _LineLogger:
    """Logs the lines of a command, reports the last one as progress, and checks whether the task must stop."""

    def __init__(self, task: RunningTask) -> None:
        self._task, self._logged, self._last = task, 0, ""
        self._reported, self._reported_at = "", -PROGRESS_INTERVAL

    def log(self, line: str) -> None:
        """Log a line without its terminal codes."""
        line = _TERMINAL_CODES.sub("", line.rstrip("\r").rpartition("\r")[2]).strip()
        if not line:
            return
        self._last, self._logged = line[:200], self._logged + 1
        if self._logged <= MAX_LOGGED_LINES:
            log.info(line, source="command")
        elif self._logged == MAX_LOGGED_LINES + 1:
            log.info("further lines of the command are not logged")

    def report(self) -> None:
        """Report the last line as progress once per PROGRESS_INTERVAL. Raises TaskCancelled if the task must stop."""
        try:
            if self._last == self._reported or monotonic() < self._reported_at + PROGRESS_INTERVAL:
                self._task.raise_if_cancelled()
                return
            self._reported, self._reported_at = self._last, monotonic()
            self._task.progress(0, self._last)
        except PlatformError as error:  # The broker may be away for a moment; that must not end a command.
            log.warning("cannot check whether the task must stop", error=str(error))


def _environment(folder: Path, *, step: Step, task_id: str) -> dict[str, str]:
    """The environment of a command: of the worker's own variables it has only PATH."""
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PWD": str(folder),
        "PIPELINE_STEP": step.value,
        "PIPELINE_TASK_ID": task_id,
    }
