"""A connection that redis-py opens and the engine uses directly.

redis-py connects, authenticates, sets up TLS, asks Sentinel and knows every kind of URL. But a call costs 240
microseconds of Python through its client, 90 through its connection object, and 50 over the connection's socket with
hiredis to pack and parse. So the engine lets redis-py make the connection, and then sends and reads itself. It uses
RESP2, in which the server sends only replies to commands (and messages of subscriptions).
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import hiredis
from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from laneway.engine.errors import LoginRefused, ServerLost, ServerRefuses

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
Reply: TypeAlias = Any  # bytes, int, None, a list of replies, or a ResponseError among the replies of a pipeline

MAX_UNREAD = 64
"""A connection that only posts reads the oldest replies when so many wait; else they would pile up on the server."""
_CHUNK = 65536
_pack_tuple = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)  # its stub allows one part only
_REFUSAL = re.compile(
    r"(?:^|: -)(?:(NOAUTH|WRONGPASS)|LOADING|READONLY|MASTERDOWN|UNBLOCKED|MISCONF|NOREPLICAS|BUSY|CLUSTERDOWN|TRYAGAIN"
    r"|ERR max number of clients)\b"
)
"""Errors of a server that takes no commands now, whichever they are. Redis 6.2 has them inside a script's error."""


class RawConnection:
    """One connection: it sends commands and reads their replies in order. Not for two threads at once.

    `producer` identifies the connection to `put.lua`, which remembers the reply to the last call of each producer;
    `calls_made` numbers these calls.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Connect as `pool` says. Raises ServerLost when that fails.

        The connect timeout also covers the handshake, because a frozen server still accepts connections.
        """
        settings: dict[str, Any] = {**pool.connection_kwargs, "protocol": 2, "decode_responses": False}
        timeout: float | None = settings.get("socket_timeout")
        settings["socket_timeout"] = settings.get("socket_connect_timeout") or timeout
        self._connection = cast("AbstractConnection", pool.connection_class(**settings))
        try:
            self._connection.connect()
        except (RedisError, OSError) as error:
            raise refusal_in(str(error), is_login=isinstance(error, AuthenticationError)) or ServerLost(
                str(error)
            ) from error
        self._connection.socket_timeout = timeout
        self._socket = cast("socket.socket", self._connection._sock)  # pyright: ignore[reportPrivateUsage] - it has no other name
        self._socket.settimeout(timeout)
        # kombu drops a lost connection without closing it
        weakref.finalize(self, self._socket.close).atexit = False
        self._reader = hiredis.Reader(replyError=ResponseError)
        self.producer = secrets.token_hex(6)
        self.calls_made = 0
        self._posted = 0
        self.known_scripts: set[bytes] = set()
        """Hashes of the scripts that the server has run on this connection."""

    def call(self, *command: Argument) -> Reply:
        """Send a command and return its reply. Raises ResponseError for an error reply, ServerLost on a break."""
        self.send(command)
        reply = self.receive()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Send several commands at once. Returns their replies in order; an error reply is a value among them."""
        self._write(b"".join(_pack(command) for command in commands))
        return [self.receive() for _ in commands]

    def send(self, command: Command) -> None:
        """Send a command. Its reply is read later."""
        self._write(_pack(command))

    def post(self, *commands: Command) -> None:
        """Send commands at once and ignore their replies, which are read with a later command."""
        self._write(b"".join(_pack(command) for command in commands))
        self._posted += len(commands)
        if self._posted >= MAX_UNREAD:
            while self._posted > MAX_UNREAD // 2:
                self._posted -= 1
                self._read(None)

    def receive(self, *, timeout: float | None = None) -> Reply:
        """Read the next reply. `timeout` (seconds) overrides the connection's own timeout."""
        while self._posted:
            self._posted -= 1
            self._read(timeout)
        return self._read(timeout)

    def _read(self, timeout: float | None) -> Reply:
        try:
            reply = self._read_socket(timeout)
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise ServerLost(str(error)) from error
        except BaseException:  # the unread reply would be taken for the reply to the next command
            self.close()
            raise
        if isinstance(reply, ResponseError) and (refusal := refusal_in(str(reply))):
            self.close()
            raise refusal from reply
        return reply

    def _read_socket(self, timeout: float | None) -> Reply:
        reader = self._reader
        reply = reader.gets()
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
        return reply

    def fileno(self) -> int:
        """The file descriptor of the socket; -1 once the connection is closed."""
        return self._socket.fileno()

    @property
    def buffered(self) -> bool:
        """True when a reply, or a part of one, is already in memory. The socket may not become readable then."""
        return self._reader.has_data()

    def close(self) -> None:
        """Close the connection. It cannot be used afterwards."""
        self._connection.disconnect()  # pyright: ignore[reportUnknownMemberType] - redis-py types it in part

    @property
    def closed(self) -> bool:
        """True after `close`, or after an error that closed the connection."""
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


def refusal_in(error: str, *, is_login: bool = False) -> ServerLost | None:
    """Return ServerRefuses or LoginRefused for the text of a server that takes no commands now; None for other texts.

    `is_login`: the text is about a login.
    """
    found = _REFUSAL.search(error)
    if is_login or (found and found[1]):
        return LoginRefused(error.rstrip("."))
    return ServerRefuses(error) if found else None


def _pack(command: Command) -> bytes:
    return _pack_tuple(tuple(command))


class IdleConnections:
    """Idle connections to one server, shared by the threads of a process. A forked child makes its own."""

    def __init__(self, pool: ConnectionPool, *, max_idle: int = 16) -> None:
        """`pool` says how to connect; none of its own connections are used."""
        self._pool = pool
        self._idle: deque[RawConnection] = deque()
        self._max_idle = max_idle
        self._pid = os.getpid()

    def take(self) -> RawConnection:
        """An idle connection, or a new one. Give it back, or close it."""
        if self._pid != os.getpid():
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return RawConnection(self._pool)

    def give_back(self, connection: RawConnection) -> None:
        """Keep a connection for the next `take`. All its replies must have been read."""
        if connection.closed:
            return
        if len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections. After one of them broke, the others have most likely broken too."""
        while self._idle:
            self._idle.pop().close()
