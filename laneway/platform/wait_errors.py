"""Errors of tasks that wait."""

from __future__ import annotations

from laneway.platform.errors import PermanentError


class WaitTimedOut(PermanentError):
    """What a task waited for did not come in time. The task may catch this and go on."""

    title = "Timed out"

    template = "The task waited {seconds:g} s for {what}, and it did not come."
    what: str
    seconds: float


class AwaitedTaskFailed(PermanentError):
    """The task or the workflow that a task waited for ended without being completed."""

    title = "An awaited task failed"

    id: str
    state: str
    error: str | None = None

    def __str__(self) -> str:
        return f"{self.id!r}, for which the task waited, is {self.state}" + (f": {self.error}" if self.error else ".")


class InvalidTaskSignal(PermanentError):
    """The data of a signal cannot be stored."""

    title = "Invalid signal"

    template = "The signal {name!r} cannot be kept: {problem}."
    name: str
    problem: str
