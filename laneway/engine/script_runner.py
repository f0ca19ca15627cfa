"""Runs the scripts: hash first, text if the server does not know it, again if the connection broke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from redis.connection import ConnectionPool
from redis.exceptions import ResponseError

from laneway.engine.connection import Argument, Command, IdleConnections, RawConnection, Reply
from laneway.engine.errors import EngineError, ServerLost
from laneway.engine.script_loader import Script, load_scripts

T = TypeVar("T")
ATTEMPTS = 3


class ScriptRunner:
    """Scripts over wires; thread-safe."""

    def __init__(self, pool: ConnectionPool, *, clock: str | None = None) -> None:
        """`clock`: see `load_scripts`; for tests."""
        self.pool = pool
        self.wires = IdleConnections(pool)
        self.scripts = load_scripts(clock=clock)

    def run(self, name: str, keys: Sequence[bytes], args: Sequence[Argument] = (), *, repeatable: bool = True) -> Reply:
        """One script's answer. `repeatable`: carrying it out twice does no harm, so a broken connection is replaced."""
        script = self.scripts[name]
        command = (b"EVALSHA", script.sha, len(keys), *keys, *args)
        return self.on_connection(lambda wire, _: self.evaluate(wire, script, command), repeatable=repeatable)

    def on_connection(self, use: Callable[[RawConnection, bool], T], *, repeatable: bool = True) -> T:
        """Call `use(wire, again)`; once more on a new wire if the connection broke, `again` is then true."""
        for attempt in range(ATTEMPTS):
            wire = self.wires.take()
            try:
                answer = use(wire, attempt > 0)
            except ServerLost:
                self.wires.close()
                if not repeatable or attempt == ATTEMPTS - 1:
                    raise
                continue
            except (ResponseError, EngineError):
                self.wires.give(wire)
                raise
            except BaseException:  # perhaps between a command and its reply
                wire.close()
                raise
            self.wires.give(wire)
            return answer
        raise AssertionError  # the last attempt returns or raises

    def evaluate(self, wire: RawConnection, script: Script, command: Command) -> Reply:
        """Run one script on this wire."""
        wire.send(command)
        return self.check(wire, script, command, wire.receive())

    def tell(self, script: Script, command: Command) -> None:
        """Run one script, and do not wait for its answer where the server knows it."""

        def use(wire: RawConnection, _again: bool) -> None:
            if script.sha in wire.scripts:
                wire.post(command)
            else:
                self.evaluate(wire, script, command)

        self.on_connection(use)

    def evaluate_all(self, wire: RawConnection, script: Script, commands: Sequence[Command]) -> list[Reply]:
        """Run one script several times, in one round trip."""
        replies = wire.pipeline(commands)
        return [self.check(wire, script, command, reply) for command, reply in zip(commands, replies, strict=True)]

    def check(self, wire: RawConnection, script: Script, command: Command, reply: Reply) -> Reply:
        """The reply, or what comes of sending the text when the server does not know the hash; raises error replies."""
        if not isinstance(reply, ResponseError):
            wire.scripts.add(script.sha)
            return reply
        if not str(reply).startswith("NOSCRIPT"):
            raise reply
        return wire.call(b"EVAL", script.text, *command[2:])
