"""What the engine needs of a server, checked once when it connects."""

from __future__ import annotations

import re
import warnings

from redis.exceptions import ResponseError

from laneway.engine.connection import RawConnection
from laneway.engine.errors import NoEviction, ServerTooOld

NEEDED = (6, 2)


def check_server(wire: RawConnection) -> None:
    """Raise ServerTooOld; warn with NoEviction when queued work could be evicted. What ACLs hide is let pass."""
    version = _info(wire, "server", "redis_version")
    if version and tuple(int(part) for part in version.split(".")[:2]) < NEEDED:
        raise ServerTooOld(version, ".".join(map(str, NEEDED)))
    policy = _info(wire, "memory", "maxmemory_policy")
    if policy and policy != "noeviction":
        warnings.warn(
            f"The broker's maxmemory-policy is {policy!r}: when its memory is full it throws queued work away. "
            "Set it to 'noeviction'.",
            NoEviction,
            stacklevel=2,
        )


def _info(wire: RawConnection, section: str, field: str) -> str:
    try:
        text: bytes = wire.call("INFO", section)
    except ResponseError:
        return ""
    found = re.search(rf"^{field}:(\S+)", text.decode(), re.MULTILINE)
    return found[1] if found else ""
