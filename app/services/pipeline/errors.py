"""Errors of the pipeline."""

from __future__ import annotations

from laneway.platform.errors import PermanentError, PlatformError


class UnknownCommand(PermanentError):
    """The configuration allows no command with this name for this step."""

    title = "Command not allowed"

    step: str
    command: str
    allowed: list[str]

    def __str__(self) -> str:
        known = ", ".join(self.allowed) or "none"
        return f"The command {self.command!r} is not allowed for {self.step}; PIPELINE_COMMANDS allows: {known}."


class BadFolder(PermanentError):
    """The working folder cannot be used."""

    title = "No working folder"

    template = "The working folder {folder!r} below PIPELINE_ROOT cannot be used: {reason}."
    folder: str
    reason: str


class CommandFailed(PlatformError):
    """A command of dev, fix or deploy failed."""

    status, title = 422, "The command failed"
    command: str
    how: str
    tail: str = ""

    def __str__(self) -> str:
        return f"The command {self.command!r} {self.how}." + (f" Its last output:\n{self.tail}" if self.tail else "")


class RetryableCommandFailed(CommandFailed):
    """A command failed, and PIPELINE_RETRY_FAILED says that failed commands are retried."""

    retryable = True
