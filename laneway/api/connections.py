"""The open connections of a server: how many there are, and which of them is closed to make room for a new one.

A connection waits until the head of a request is complete. When a client, or all clients together, have as many
connections as they may, the connection that has waited longest is closed. If none waits, the new one is refused.
"""

from __future__ import annotations

import resource
from collections import Counter
from typing import Final, Protocol

RESERVED_FILES: Final = 100
"""Files that a process of the API needs besides its connections: database, broker, logs."""
FEWEST: Final = 16


class Connection(Protocol):
    """A connection as it is counted."""

    @property
    def address(self) -> str:
        """The IP address of the client."""
        ...

    def drop(self) -> None:
        """Close the connection now."""
        ...


class Connections:
    """The open connections of one server."""

    def __init__(self, *, most: int, most_per_client: int) -> None:
        self._most, self._most_per_client = most, most_per_client
        self._open: Counter[str] = Counter()
        self._waiting: dict[Connection, None] = {}
        """In the order in which they began to wait."""

    def add(self, connection: Connection) -> bool:
        """Count a new connection, which waits. Returns False, and counts nothing, when there is no room for it."""
        if not self._make_room(connection.address):
            return False
        self._open[connection.address] += 1
        self._waiting[connection] = None
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was added."""
        self._waiting.pop(connection, None)
        self._open[connection.address] -= 1
        if self._open[connection.address] <= 0:
            del self._open[connection.address]

    def wait(self, connection: Connection) -> None:
        """Note that the connection waits for the head of a request from now on."""
        self._waiting[connection] = None

    def work(self, connection: Connection) -> None:
        """Note that the head of a request has arrived."""
        self._waiting.pop(connection, None)

    def _make_room(self, address: str) -> bool:
        if self._open[address] >= self._most_per_client:
            return self._drop_one(address)
        if self._open.total() >= self._most:
            return self._drop_one(None)
        return True

    def _drop_one(self, address: str | None) -> bool:
        """Close the connection that has waited longest, of this client or of any. Returns False if none waits."""
        waiting = next((each for each in self._waiting if address is None or each.address == address), None)
        if waiting is None:
            return False
        waiting.drop()
        return True


def most_connections(wanted: int) -> int:
    """The number of connections that this process can have, at most `wanted`: each is an open file."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(FEWEST, min(wanted, files - RESERVED_FILES))
