"""Settings of access: who is authenticated, and for which hosts the API answers."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group

KNOWN_HOSTS: Final = 1024
"""Hosts that are remembered: each request asks for its own."""
HOST_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


class Authentication(StrEnum):
    """Whether the API wants to know who asks."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class AccessSettings(Group):
    """Who may use the API."""

    authentication: Authentication = Field(Authentication.AUTO, alias="AUTHENTICATION")
    """Whether each request needs a token: `on`, `off`, or `auto`: on in production. `off` is refused in production."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field((), alias="ALLOWED_HOSTS")
    """The names under which the API is reached, separated by commas, without a port; `*.example.com` stands for all
    names below example.com. Loopback names and `API_HOST` are always allowed; other names are answered 421.
    """

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [each.strip().lower() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not (HOST_NAME.fullmatch(host) or is_address(host)):
                raise ValueError(f"{host!r} is no host: give names or addresses without scheme, port and path")
        return value


@lru_cache(KNOWN_HOSTS)
def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@lru_cache(KNOWN_HOSTS)
def is_loopback(host: str) -> bool:
    """Whether a host is a name or an address of this machine that only this machine reaches."""
    if is_address(host):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost" or host.endswith(".localhost")
