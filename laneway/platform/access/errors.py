"""Errors of access: who asks is unknown, or may not do what it asks for."""

from __future__ import annotations

from laneway._suggestion import suggest
from laneway.platform.errors import PermanentError, PlatformError


class NotAuthenticated(PlatformError):
    """The request has no credential, or one that is not valid."""

    status, title = 401, "Not authenticated"

    template = "This needs a valid token: send `Authorization: Bearer TOKEN` ({reason})."
    reason: str


class NotAllowed(PlatformError):
    """The caller is known, and may not do this."""

    status, title = 403, "Not allowed"

    template = "{caller} may not do this: {reason}."
    caller: str
    reason: str


class UnknownHost(PlatformError):
    """The request names a host that is not this API."""

    status, title = 421, "Unknown host"

    template = (
        "This API does not answer for the host that the request names: if it is one of its names, add it to "
        "ALLOWED_HOSTS."
    )
    host: str


class ForeignOrigin(PlatformError):
    """A page of another site has sent the request."""

    status, title = 403, "Foreign origin"

    template = "A page of another site may not change anything here ({header}: {value!r})."
    header: str
    value: str


class OpenNetwork(PlatformError):
    """The API listens on a network and authenticates nobody."""

    status, title = 403, "Authentication is off"

    template = (
        "The API authenticates nobody and therefore answers on loopback addresses only, not on {address}: set "
        "AUTHENTICATION=on."
    )
    address: str


class NobodyMakesTokens(PlatformError):
    """Somebody whom nobody knows asks for a token."""

    status, title = 403, "Nobody makes tokens"

    template = (
        "The API authenticates nobody, so it makes no tokens over HTTP: use `laneway tokens` in the project, or set "
        "AUTHENTICATION=on."
    )


class InvalidToken(PermanentError):
    """The description of a token cannot be used."""

    title = "Invalid token"

    template = "The token {name!r} cannot be made: {problem}."
    name: str
    problem: str


class UnknownToken(PlatformError):
    """No token has this name."""

    status, title = 404, "Unknown token"

    name: str
    known: list[str]

    def __str__(self) -> str:
        known = ", ".join(self.known[:20]) or "none"
        return f"There is no token {suggest(self.name, self.known)}; there are {known}."


class TokenExists(PlatformError):
    """A token of this name exists."""

    status, title = 409, "Token exists"

    template = "There is a token {name!r} already: rotate it, or take another name."
    name: str


class TokenRevoked(PlatformError):
    """The token was revoked and cannot be used again."""

    status, title = 409, "Token revoked"

    template = "The token {name!r} is revoked: create another one."
    name: str


class InternalTask(PermanentError):
    """Only the platform itself submits this task."""

    status, title = 403, "Internal task"

    template = "The task {task!r} is submitted by the platform itself, and not from outside."
    task: str


class ReservedId(PermanentError):
    """A task from outside cannot have this id."""

    title = "Reserved id"

    template = "A task from outside cannot have the id {id!r}: {problem}. Choose another one."
    id: str
    problem: str
