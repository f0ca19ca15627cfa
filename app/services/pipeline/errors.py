"""What can be wrong with the pipeline's work."""

from __future__ import annotations

from laneway.platform.errors import PermanentError, PlatformError


class UnknownCommand(PermanentError):
    """The configuration allows no command of this name for this step."""

    title = "Command not allowed"

    def __init__(self, step: str, command: str, allowed: list[str]) -> None:
        super().__init__(step, command, allowed)
        self.step, self.command, self.allowed = step, command, allowed

    def __str__(self) -> str:
        known = ", ".join(self.allowed) or "none"
        return f"The command {self.command!r} is not allowed for {self.step}; PIPELINE_COMMANDS allows: {known}."


class BadFolder(PermanentError):
    """The working folder is not one."""

    title = "No working folder"

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return f"The working folder {self.folder!r} below PIPELINE_ROOT cannot be used: {self.reason}."


class CommandFailed(PlatformError):
    """A command of dev, fix or deploy failed; it is tried again only where the configuration says so."""

    status, title = 422, "The command failed"

    def __init__(self, command: str, how: str, *, tail: str = "", again: bool = False) -> None:
        super().__init__(command, how, tail, again)
        self.command, self.how, self.tail = command, how, tail
        self.retryable = again

    def __reduce__(self) -> tuple[object, ...]:
        return _command_failed, self.args

    def __str__(self) -> str:
        return f"The command {self.command!r} {self.how}." + (f" It said last:\n{self.tail}" if self.tail else "")


def _command_failed(command: str, how: str, tail: str, again: bool) -> CommandFailed:
    return CommandFailed(command, how, tail=tail, again=again)
