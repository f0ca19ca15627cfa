"""How safe a message is when `put` returns."""

from __future__ import annotations

from enum import StrEnum

from redis.exceptions import ResponseError

from laneway.engine.connection import RawConnection
from laneway.engine.errors import DurabilityUnavailable, NotDurable


class Durability(StrEnum):
    """Where the message must have arrived."""

    MEMORY = "memory"  # in the server's memory: what its persistence does with it comes later
    DISK = "disk"  # written and synced to its append-only file (WAITAOF: Redis or Valkey 7.2)
    REPLICA = "replica"  # in the memory of a replica (WAIT)


def confirm(wire: RawConnection, durability: Durability, timeout: float) -> None:
    """Wait until this wire's last write is as safe as asked for; at most `timeout` seconds.

    Raises NotDurable when it was not confirmed in time, DurabilityUnavailable when the server cannot.
    """
    if durability is Durability.MEMORY:
        return
    milliseconds = max(1, int(timeout * 1000))
    command = ("WAITAOF", 1, 0, milliseconds) if durability is Durability.DISK else ("WAIT", 1, milliseconds)
    wire.send(command)
    reply = wire.receive(timeout=timeout + 5)
    if isinstance(reply, ResponseError):
        raise DurabilityUnavailable(durability.value, str(reply)) from reply
    confirmed: int = reply[0] if durability is Durability.DISK else reply
    if not confirmed:
        raise NotDurable(durability.value, timeout)
