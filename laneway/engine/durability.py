"""How safe a message is when `put` returns."""

from __future__ import annotations

from enum import StrEnum

from redis.exceptions import ResponseError

from laneway.engine.connection import RawConnection
from laneway.engine.errors import DurabilityUnavailable, NotDurable

REPLY_SECONDS = 5
"""The client waits for the reply this much longer than the server waits for the confirmation."""


class Durability(StrEnum):
    """Where a message must be stored before `put` returns."""

    MEMORY = "memory"  # in the server's memory; its persistence writes it later
    DISK = "disk"  # written and synced to the server's append-only file (WAITAOF: Redis or Valkey 7.2)
    REPLICA = "replica"  # in the memory of a replica (WAIT)


def confirm(connection: RawConnection, durability: Durability, timeout: float) -> None:
    """Wait, at most `timeout` seconds, until the connection's last write has the durability.

    Raises NotDurable when the server did not confirm it in time, DurabilityUnavailable when the server cannot.
    """
    if durability is Durability.MEMORY:
        return
    milliseconds = max(1, int(timeout * 1000))
    command = ("WAITAOF", 1, 0, milliseconds) if durability is Durability.DISK else ("WAIT", 1, milliseconds)
    connection.send(command)
    reply = connection.receive(timeout=timeout + REPLY_SECONDS)
    if isinstance(reply, ResponseError):
        raise DurabilityUnavailable(durability.value, str(reply)) from reply
    confirmed: int = reply[0] if durability is Durability.DISK else reply
    if not confirmed:
        raise NotDurable(durability.value, timeout)
