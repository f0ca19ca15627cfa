"""Runs commands and scripts. A script is called by its hash, or by its text when the server does not have it yet.

When a connection breaks, another one is opened and the command is sent again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from redis.connection import ConnectionPool
from redis.exceptions import ResponseError

from laneway.engine.connection import Argument, Command, IdleConnections, RawConnection, Reply, refusal_in
from laneway.engine.errors import EngineError, NewerQueue, ServerFull, ServerLost
from laneway.engine.script_loader import NEWER_QUEUE, Script, load_script, load_scripts

T = TypeVar("T")
ATTEMPTS = 3
_ONCE = load_script("once")
_NEWER = re.compile(rf"{NEWER_QUEUE} \S*{{(.*)}} (\d+)", re.DOTALL)


class ScriptRunner:
    """Runs commands and scripts on idle connections. Thread-safe."""

    def __init__(self, pool: ConnectionPool, *, clock: str | None = None) -> None:
        """`pool` says how to connect. `clock`: see `load_scripts`; for tests."""
        self.pool = pool
        self.connections = IdleConnections(pool)
        self.scripts = load_scripts(clock=clock)
        self._has_read_only = True
        """False: the server is older than 7.0, and has no scripts that may only read."""

    def read(self, name: str, keys: Sequence[bytes], args: Sequence[Argument] = ()) -> Reply:
        """Run a script that only reads. A user of the server that may only read the keys may run it, too."""
        script = self.scripts[name]
        if self._has_read_only:
            command = (b"EVALSHA_RO", script.sha, len(keys), *keys, *args)
            try:
                return self.on_connection(lambda connection: self.evaluate(connection, script, command))
            except ResponseError as error:
                if "unknown command" not in str(error).lower():
                    raise
                self._has_read_only = False
        return self.run(name, keys, args)

    def run(self, name: str, keys: Sequence[bytes], args: Sequence[Argument] = (), *, repeatable: bool = True) -> Reply:
        """Run a script; return its reply. `repeatable`: it may run twice, so send it again if the connection broke."""
        script = self.scripts[name]
        command = (b"EVALSHA", script.sha, len(keys), *keys, *args)
        return self.on_connection(lambda connection: self.evaluate(connection, script, command), repeatable=repeatable)

    def call(self, *command: Argument) -> Reply:
        """Send one command that may run twice; return its reply. Raises ResponseError for an error reply."""
        return self.on_connection(lambda connection: connection.call(*command))

    def call_once(self, place: bytes, command: str, keys: Sequence[bytes], *args: Argument) -> int:
        """Send a command that must not run twice, and that replies with a number; return its reply.

        The server remembers the reply for 60 s, under a key that begins with `place`. If the reply is lost, the call is
        repeated and gets it.
        """
        remembered = b"%b:once:%b" % (place, secrets.token_hex(8).encode())
        call = (b"EVALSHA", _ONCE.sha, 1 + len(keys), remembered, *keys, command, *args)
        return self.on_connection(lambda connection: self.evaluate(connection, _ONCE, call))

    def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands that may run twice, in one round trip; return their replies, error replies among them."""
        return self.on_connection(lambda connection: connection.pipeline(commands))

    def on_connection(self, use: Callable[[RawConnection], T], *, repeatable: bool = True) -> T:
        """Call `use(connection)`. Call it again on a new connection when the connection broke.

        Raises ServerLost after `ATTEMPTS` calls, or after the first one when it is not `repeatable`.
        """
        for attempt in range(ATTEMPTS):
            connection = self.connections.take()
            try:
                result = use(connection)
            except ServerLost:
                self.connections.close()
                if not repeatable or attempt == ATTEMPTS - 1:
                    raise
                continue
            except (ResponseError, EngineError):
                self.connections.give_back(connection)
                raise
            except BaseException:  # it may have come between a command and its reply
                connection.close()
                raise
            self.connections.give_back(connection)
            return result
        raise AssertionError  # the last attempt returns or raises

    def post(self, script: Script, command: Command) -> None:
        """Run a script without waiting for its reply. Wait for it only if the server may not have the script yet."""

        def use(connection: RawConnection) -> None:
            if script.sha in connection.known_scripts:
                connection.post(command)
            else:
                self.evaluate(connection, script, command)

        self.on_connection(use)

    def evaluate(self, connection: RawConnection, script: Script, command: Command) -> Reply:
        """Run a script on this connection."""
        connection.send(command)
        return self._checked(connection, script, command, connection.receive())

    def evaluate_all(self, connection: RawConnection, script: Script, commands: Sequence[Command]) -> list[Reply]:
        """Run a script several times on this connection, in one round trip."""
        replies = self.evaluate_each(connection, script, commands)
        for reply in replies:
            if isinstance(reply, NewerQueue):
                raise reply
        return replies

    def evaluate_each(self, connection: RawConnection, script: Script, commands: Sequence[Command]) -> list[Reply]:
        """As `evaluate_all`; the reply of a queue that a newer version has changed is the error NewerQueue."""
        replies: list[Reply] = connection.pipeline(commands)
        for index, command in enumerate(commands):
            try:
                replies[index] = self._checked(connection, script, command, replies[index])
            except NewerQueue as error:
                replies[index] = error
        return replies

    def _checked(self, connection: RawConnection, script: Script, command: Command, reply: Reply) -> Reply:
        """Return the reply. Send the script's text if the server does not know its hash. Raise other error replies."""
        if not isinstance(reply, ResponseError):
            connection.known_scripts.add(script.sha)
            return reply
        if not str(reply).startswith("NOSCRIPT"):
            raise _named(reply)
        try:
            evaluate = b"EVAL_RO" if command[0] == b"EVALSHA_RO" else b"EVAL"
            return connection.call(evaluate, script.text, *command[2:])
        except ResponseError as error:
            raise _named(error) from error


def newer_queue(error: str) -> NewerQueue | None:
    """The error in the text of a script's error, if it says that a newer version has changed the queue."""
    found = _NEWER.search(error)
    return NewerQueue(found[1], int(found[2])) if found else None


def described(problem: str) -> str:
    """Why a queue delivered nothing, for people to read. `problem`: the error of its part of a script.

    Raises ServerRefuses if the reason is not the queue, but that the server takes no commands.
    """
    if refusal := refusal_in(problem):
        raise refusal
    newer = newer_queue(problem)
    return str(newer) if newer else f"its keys are damaged: {problem}"


def _named(error: ResponseError) -> EngineError | ResponseError:
    """The engine's error for a reply that callers tell apart; others stay as they are."""
    text = str(error)
    full = ServerFull(text) if text.startswith("OOM ") or "-OOM " in text else error  # the latter: Redis 6.2
    return newer_queue(text) or full
