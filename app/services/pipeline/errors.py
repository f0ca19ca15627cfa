"""What can be wrong with the pipeline's work."""

from __future__ import annotations

from laneway.platform.errors import PermanentError, PlatformError


class UnknownCommand(PermanentError):
    """The configuration allows no command of this name for this step."""

    title = "Command not allowed"

    step: str
    command: str
    allowed: list[str]

    def __str__(self) -> str:
        known = ", ".join(self.allowed) or "none"
        return f"The command {self.command!r} is not allowed for {self.step}; PIPELINE_COMMANDS allows: {known}."


class BadFolder(PermanentError):
    """The working folder is not one."""

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
        return f"The command {self.command!r} {self.how}." + (f" It said last:\n{self.tail}" if self.tail else "")


class CommandFailedForNow(CommandFailed):
    """The same where the configuration says that failed commands are tried again."""

    retryable = True
