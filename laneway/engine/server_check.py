"""Checks, when the engine connects, that the server is new enough and does not evict messages."""

from __future__ import annotations

import re
import warnings

from redis.exceptions import ResponseError

from laneway.engine.connection import RawConnection
from laneway.engine.errors import EvictionWarning, ServerTooOld

MINIMUM_VERSION = (6, 2)


def check_server(connection: RawConnection) -> None:
    """Raise ServerTooOld for an old server. Warn with EvictionWarning when the server may evict messages.

    A check is skipped when an ACL hides what it needs.
    """
    version = _info(connection, "server", "redis_version")
    if version and tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_VERSION:
        raise ServerTooOld(version, ".".join(map(str, MINIMUM_VERSION)))
    policy = _info(connection, "memory", "maxmemory_policy")
    if policy and policy != "noeviction":
        warnings.warn(
            f"The broker's maxmemory-policy is {policy!r}: it deletes queued messages when its memory is full. "
            "Set it to 'noeviction'.",
            EvictionWarning,
            stacklevel=2,
        )


def server_memory(connection: RawConnection) -> tuple[int, int]:
    """The bytes of memory that the server uses, and its limit `maxmemory`; 0 for what an ACL hides or is not set."""
    return int(_info(connection, "memory", "used_memory") or 0), int(_info(connection, "memory", "maxmemory") or 0)


def _info(connection: RawConnection, section: str, field: str) -> str:
    """A field of INFO; '' when the server does not show it."""
    try:
        text: bytes = connection.call("INFO", section)
    except ResponseError:
        return ""
    found = re.search(rf"^{field}:(\S+)", text.decode(), re.MULTILINE)
    return found[1] if found else ""
