"""Which command a step runs, in which folder, and what came of it.

A task names a step's command; the words that are run are in the configuration and nowhere else.
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
from app.services.pipeline.errors import CommandFailed, CommandFailedForNow, UnknownCommand
from app.services.pipeline.folders import opened
from app.services.pipeline.process import Bounds, End, Ran, run
from laneway.platform.errors import NotConfigured, PlatformError
from laneway.platform.logging import logger

log = logger(__name__)

LINES_TOLD: Final = 150
"""Lines of a command's output that go into the task's story; the result has the rest."""
SHOW_EVERY: Final = 2.0
"""Seconds between two reports of the last line."""
TAIL: Final = 1500
"""Characters of output in an error."""
REPORT: Final = "qa-report.txt"
_TERMINAL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""Colours, titles and moves of the cursor (ECMA-48), and other control characters."""
DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class Running(Protocol):
    """The task that runs a command; `PlatformTask` is one."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    def progress(self, percent: float, message: str | None = None, **counters: float) -> None:
        """Say what it does; raises TaskCancelled when it was asked to stop."""
        ...

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled when it was asked to stop."""
        ...


class Pipeline:
    """Runs the commands of pipeline steps."""

    def __init__(self, settings: PipelineSettings, *, seconds: float) -> None:
        """`seconds`: how long a command may run (`Settings.pipeline_seconds`)."""
        self._settings, self._seconds = settings, seconds

    def run(self, step: Step, wanted: PipelineCommand, task: Running) -> CommandResult:
        """Run a step's command. An exit code other than 0 of qa is what it found; of other steps it is a failure.

        Raises NotConfigured, UnknownCommand, BadFolder, CommandFailed, GuardLost; TaskSnoozed while the folder is used.
        """
        root, words = self._root(), self._words(step, wanted.command)
        lines = _Lines(task)
        with opened(root, wanted.folder) as folder:
            environment = _environment(folder.path, step=step, task_id=task.id)
            if wanted.report is not None:
                environment["PIPELINE_QA_REPORT"] = str(folder.put(REPORT, wanted.report))
            log.info("command started", step=step.value, command=wanted.command, folder=wanted.folder)
            ran = run(words, folder, environment=environment, bounds=self._bounds, tell=lines.tell, look=lines.look)
        return self._result(step, wanted.command, ran)

    def check(self, wanted: PipelineInput) -> None:
        """Raise NotConfigured or UnknownCommand if a step of this pipeline could not run."""
        self._root()
        for step in Step:
            self._words(step, wanted.command(step))

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self._seconds, self._settings.grace, self._settings.output_bytes)

    def _root(self) -> Path:
        if self._settings.folder is None:
            raise NotConfigured("The pipeline", "PIPELINE_ROOT")
        return self._settings.folder

    def _words(self, step: Step, command: str) -> list[str]:
        allowed = self._settings.commands.get(step, {})
        if command not in allowed:
            raise UnknownCommand(step.value, command, sorted(allowed))
        return allowed[command]

    def _result(self, step: Step, command: str, ran: Ran) -> CommandResult:
        log.info(
            "command ended",
            step=step.value,
            command=command,
            how=ran.how.value,
            exit_code=ran.code,
            output_bytes=ran.output.size,
        )
        if ran.detail:
            log.warning("not all of a command could be ended", detail=ran.detail)
        if ran.how is not End.EXITED or ran.code is None or (ran.code and step is not Step.QA):
            tail = ran.output.last(TAIL)
            kind = CommandFailedForNow if self._settings.retry_failed else CommandFailed
            raise kind(command, self._how(ran), tail)
        return CommandResult(
            step=step,
            command=command,
            outcome=StepOutcome.FAILED if ran.code else StepOutcome.OK,
            exit_code=ran.code,
            seconds=round(ran.seconds, 3),
            output=ran.output.text(),
            output_bytes=ran.output.size,
            truncated=ran.output.truncated,
        )

    def _how(self, ran: Ran) -> str:
        left = f" ({ran.detail})" if ran.detail else ""
        if ran.how is End.NOT_STARTED:
            return f"could not be started: {ran.detail}"
        if ran.how is End.TIMEOUT:
            return f"ran longer than it may (PIPELINE_TIMEOUT_SECONDS, {self._seconds:g} s) and was ended{left}"
        if ran.how is not End.EXITED:
            return f"was ended: its worker stood still{left}"
        if ran.code is None:
            return f"was killed by {signal.Signals(ran.signal or 0).name}{left}"
        return f"ended with exit code {ran.code}{left}"


class _Lines:
    """Tells the task's story what a command writes, and asks whether it is to stop."""

    def __init__(self, task: Running) -> None:
        self._task, self._told, self._last = task, 0, ""
        self._shown, self._shown_at = "", -SHOW_EVERY

    def tell(self, line: str) -> None:
        """One more line, without what it does to a terminal."""
        line = _TERMINAL.sub("", line.rstrip("\r").rpartition("\r")[2]).strip()
        if not line:
            return
        self._last, self._told = line[:200], self._told + 1
        if self._told <= LINES_TOLD:
            log.info(line, source="command")
        elif self._told == LINES_TOLD + 1:
            log.info("further output is not told line by line")

    def look(self) -> None:
        """Show the last line, now and then; raises TaskCancelled when the task is to stop."""
        try:
            if self._last == self._shown or monotonic() < self._shown_at + SHOW_EVERY:
                self._task.raise_if_cancelled()
                return
            self._shown, self._shown_at = self._last, monotonic()
            self._task.progress(0, self._last)
        except PlatformError as error:  # the broker is away for a moment; that is no reason to end a command
            log.warning("not known whether the task is to stop", error=str(error))


def _environment(folder: Path, *, step: Step, task_id: str) -> dict[str, str]:
    """What a command sees: nothing of the worker's own environment but where programs are."""
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PWD": str(folder),
        "PIPELINE_STEP": step.value,
        "PIPELINE_TASK_ID": task_id,
    }
