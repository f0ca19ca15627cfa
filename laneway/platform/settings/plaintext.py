"""Which addresses would show a password to who can read the network."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import parse_qs, urlsplit

PLAIN: Final = ("redis", "sentinel", "amqp", "pyamqp", "http")
"""Schemes without TLS, of brokers and of HTTP."""


SSL_MODES: Final = ("require", "verify-ca", "verify-full")
"""The `sslmode` values of PostgreSQL that never connect without TLS."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as seen from its name alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sends_password_to(url: str) -> str | None:
    """The first other machine that gets the password of an address without TLS; None if there is none."""
    for each in url.split(";"):
        try:
            parts = urlsplit(each)
            host, password = parts.hostname or "", parts.password
        except ValueError:  # reported by who uses the address
            continue
        if password and parts.scheme.rpartition("+")[2] in PLAIN and host and not is_loopback(host):
            return host
    return None


def database_gets_password(url: str) -> str | None:
    """The first other machine that gets the password of a PostgreSQL address, unless its `sslmode` demands TLS."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    if not parts.scheme.startswith("postgres") or not (parts.password or options.get("password")):
        return None
    if options.get("sslmode", [""])[-1] in SSL_MODES:
        return None
    named = options.get("hostaddr") or options.get("host") or [parts.hostname or ""]
    hosts = [host for hosts in named for host in hosts.split(",")]
    return next((host for host in hosts if host and not host.startswith("/") and not is_loopback(host)), None)


def plain_host(url: str | None) -> str | None:
    """The other machine that an address of HTTP without TLS names; None if there is none."""
    parts = urlsplit(url or "")
    host = parts.hostname or ""
    return host if parts.scheme == "http" and not is_loopback(host) else None
