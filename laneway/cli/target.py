"""Whose platform a command talks to: that of the project in the current folder, or one at a URL."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import typer

from laneway._printable import printable

WITHOUT_URL: Final = "run it in the project, without --url and LANEWAY_URL"


class UsageError(Exception):
    """The command cannot be run as it was written; exit code 2."""


@dataclass
class Target:
    """The platform that the options of `laneway` name."""

    url: str | None = None
    """None: the platform of the project."""
    token: str | None = field(default=None, repr=False)
    is_direct: bool = False
    """Whether the command uses database and broker itself, also if the API of the project runs on this machine."""
    command: str = ""
    """The command that runs, for messages."""

    @property
    def is_remote(self) -> bool:
        """Whether the platform is used over HTTP."""
        return self.url is not None

    def require_local(self) -> None:
        """Raise UsageError if the platform is only known by its URL."""
        if self.is_remote:
            raise UsageError(
                f"`laneway {self.command}` needs the project, its database and its broker, and does not work over "
                f"HTTP: {WITHOUT_URL}."
            )


target: Final = Target()
"""The platform of the command that runs."""


def choose(url: str | None, token: str | None, command: str, *, direct: bool = False) -> None:
    """Set the platform of the command; what is not given is that of LANEWAY_URL and LANEWAY_TOKEN. Raises UsageError.

    A warning is written when the token would cross a network in clear text.
    """
    target.url = url or os.environ.get("LANEWAY_URL") or None
    target.command = command
    target.token, target.is_direct = None, direct
    if url and direct:
        raise UsageError("--direct is for the platform of the project, and --url for one elsewhere: give one of them.")
    if direct:
        target.url = None
    if target.url is None:
        if token:
            raise UsageError("--token is for a platform at a URL: give --url (or LANEWAY_URL), too.")
        return
    parts = _checked(target.url)
    target.token = _checked_token(token or os.environ.get("LANEWAY_TOKEN") or None)
    if target.token and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        typer.echo(
            printable(f"Warning: the token goes to {parts.hostname} over http, where others can read it. Use https."),
            err=True,
        )


class Address:
    """The parts of a URL that are used here."""

    def __init__(self, scheme: str, hostname: str) -> None:
        self.scheme, self.hostname = scheme, hostname


def _checked(url: str) -> Address:
    try:
        parts = urlsplit(url)
        _ = parts.port
        hostname = parts.hostname
    except ValueError:
        parts, hostname = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not hostname:
        raise UsageError("The URL of a platform is http(s)://host[:port], for example https://laneway.example.com.")
    if parts.username or parts.password:
        raise UsageError("The URL of a platform has no login in it: give the token with LANEWAY_TOKEN.")
    return Address(parts.scheme, hostname)


def _checked_token(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("The token has characters that no HTTP header may have (a line break or a space?).")
    return token


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def say_whose(description: str) -> None:
    """Say on standard error, to people at a terminal, whose platform the command talks to."""
    if sys.stderr.isatty():
        typer.secho(printable(description), dim="NO_COLOR" not in os.environ, err=True)
