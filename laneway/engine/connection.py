"""A connection of redis-py's, spoken to directly.

redis-py connects, authenticates, wraps in TLS, asks Sentinel and knows every kind of URL. One of its
command calls costs 240 microseconds of Python though, one through its connection object 90, and one
over the connection's socket with hiredis at both ends 50; so the engine takes connections of redis-py's
making and sends and reads itself. RESP2 is asked for, so that nothing arrives unasked.
"""

from __future__ import annotations

import os
import secrets
import socket
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import hiredis
from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

from laneway.engine.errors import ServerLost

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
Reply: TypeAlias = Any  # what the server says: bytes, int, None, a list of them, or a ResponseError among several

_CHUNK = 65536
_pack_tuple = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)  # its stub allows one part only
_AWAY = ("LOADING", "READONLY", "MASTERDOWN", "UNBLOCKED")


class RawConnection:
    """One connection: commands in, replies out, in order. Not for two threads at once.

    `producer` names it towards `put.lua`, which remembers the answer to the last call of each producer.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Connect; raises ServerLost when that fails.

        The time for connecting is also that for the first words: a frozen server still takes connections.
        """
        settings: dict[str, Any] = {**pool.connection_kwargs, "protocol": 2, "decode_responses": False}
        patience: float | None = settings.get("socket_timeout")
        settings["socket_timeout"] = settings.get("socket_connect_timeout") or patience
        self._connection = cast("AbstractConnection", pool.connection_class(**settings))
        try:
            self._connection.connect()
        except (RedisError, OSError) as error:
            raise ServerLost(str(error)) from error
        self._connection.socket_timeout = patience
        self._socket = cast("socket.socket", self._connection._sock)  # pyright: ignore[reportPrivateUsage] - it has no other name
        self._socket.settimeout(patience)
        # kombu drops the connection it lost without closing it
        weakref.finalize(self, self._socket.close).atexit = False
        self._reader = hiredis.Reader(replyError=ResponseError)
        self.producer = secrets.token_hex(6)
        self.calls_made = 0
        self._owed = 0
        self.scripts: set[bytes] = set()
        """Digests of the scripts that the server has been seen to know on this connection."""

    def call(self, *command: Argument) -> Reply:
        """Send one command and return its reply; raises ResponseError for an error reply, ServerLost on a break."""
        self.send(command)
        reply = self.receive()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Send several commands in one go; their replies in order, error replies among them as values."""
        self._write(b"".join(_pack(command) for command in commands))
        return [self.receive() for _ in commands]

    def send(self, command: Command) -> None:
        """Send a command whose reply is read later."""
        self._write(_pack(command))

    def post(self, command: Command) -> None:
        """Send a command on whose reply nothing depends: it is read before the next one's, and not looked at."""
        self._write(_pack(command))
        self._owed += 1

    def receive(self, *, timeout: float | None = None) -> Reply:
        """The next reply; `timeout` in seconds instead of the connection's own."""
        while self._owed:
            self._owed -= 1
            self._read(timeout)
        return self._read(timeout)

    def _read(self, timeout: float | None) -> Reply:
        reader = self._reader
        reply = reader.gets()
        try:
            if timeout is not None:
                self._socket.settimeout(timeout)
            while reply is False:
                chunk = self._socket.recv(_CHUNK)
                if not chunk:
                    raise ConnectionResetError("closed by the server")
                reader.feed(chunk)
                reply = reader.gets()
            if timeout is not None:
                self._socket.settimeout(self._connection.socket_timeout)
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise ServerLost(str(error)) from error
        except BaseException:  # the reply that was not read would be taken for the next one's
            self.close()
            raise
        if isinstance(reply, ResponseError) and _is_away(str(reply)):
            self.close()
            raise ServerLost(str(reply)) from reply
        return reply

    def fileno(self) -> int:
        """The socket's file descriptor, -1 once closed."""
        return self._socket.fileno()

    @property
    def buffered(self) -> bool:
        """True when a reply, or a part of one, was read already and `fileno` may stay silent about it."""
        return self._reader.has_data()

    def close(self) -> None:
        """Close the connection; the wire is of no use afterwards."""
        self._connection.disconnect()  # pyright: ignore[reportUnknownMemberType] - redis-py types it in part

    @property
    def closed(self) -> bool:
        """True after `close`, or after an error that closed it."""
        return self._socket.fileno() < 0

    def _write(self, packed: bytes) -> None:
        try:
            self._socket.sendall(packed)
        except OSError as error:
            self.close()
            raise ServerLost(str(error)) from error
        except BaseException:
            self.close()
            raise


def _is_away(problem: str) -> bool:
    return problem.startswith(_AWAY) or ": -READONLY" in problem  # Redis 6.2 words a script's error so


def _pack(command: Command) -> bytes:
    return _pack_tuple(tuple(command))


class IdleConnections:
    """Idle wires to one server, for use by any thread, and after a fork by the child (which makes its own)."""

    def __init__(self, pool: ConnectionPool, *, max_idle: int = 16) -> None:
        """`pool` says how to connect; none of its own connections are used."""
        self._pool = pool
        self._idle: deque[RawConnection] = deque()
        self._max_idle = max_idle
        self._pid = os.getpid()

    def take(self) -> RawConnection:
        """An idle wire, or a new one. Give it back, or close it."""
        if self._pid != os.getpid():
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return RawConnection(self._pool)

    def give(self, wire: RawConnection) -> None:
        """Take back a wire whose replies have all been read."""
        if wire.closed:
            return
        if len(self._idle) < self._max_idle:
            self._idle.append(wire)
        else:
            wire.close()

    def close(self) -> None:
        """Close the idle wires, as after a break: the others have most likely broken too."""
        while self._idle:
            self._idle.pop().close()
