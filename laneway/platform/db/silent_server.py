"""Connections to PostgreSQL that end when their server stands still.

A server that is frozen, or whose machine swaps, takes connections and statements and answers nothing. TCP sees no
fault, and a driver waits for ever. A statement that takes long looks the same on its connection. So a connection that
has waited for `SILENT_SECONDS` asks the server for another connection. Only a server that stands still does not answer.
"""

from __future__ import annotations

from math import ceil
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import ConnectionTimeout

from laneway.platform.db.wait_limit import seconds_left

SILENT_SECONDS: Final = 1.5
"""A connection waits so long before it asks whether the server answers at all."""
ASK_AGAIN_SECONDS: Final = 10.0
"""Seconds between two such questions during one statement."""
ANSWER_SECONDS: Final = 2
"""Seconds that a server has to answer; the least that libpq allows."""
CONNECT_SECONDS: Final = 5
"""Most seconds to connect, unless the work may wait for less."""
KNOWN_SECONDS: Final = 1.0
"""Nobody tries to connect for this long after a server was found to stand still."""
NO_ANSWER: Final = "the server does not answer a new connection within {seconds} s: it stands still or is out of reach"
STANDS_STILL: Final = "the server takes connections and does not answer: it stands still, or its machine is overloaded"

T = TypeVar("T")


class SilenceWatch:
    """Makes the connections of one engine, and knows when their server was last found to stand still."""

    def __init__(self) -> None:
        self._silent_at = -KNOWN_SECONDS

    def connect(self, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> Any:
        """Make a connection, as a listener of SQLAlchemy's `do_connect`. Raises psycopg.OperationalError."""
        if monotonic() - self._silent_at < KNOWN_SECONDS:
            raise psycopg.OperationalError(STANDS_STILL)
        seconds = max(ANSWER_SECONDS, ceil(seconds_left(CONNECT_SECONDS)))
        given: dict[str, Any] = {"connect_timeout": seconds, **parameters}
        try:
            connection = WatchedConnection.connect(**given)
        except ConnectionTimeout:
            self._silent_at = monotonic()
            raise psycopg.OperationalError(NO_ANSWER.format(seconds=seconds)) from None
        connection.watch, connection.parameters = self, parameters
        return connection

    def check(self, parameters: dict[str, Any]) -> None:
        """Raise psycopg.OperationalError if the server does not answer a new connection."""
        given: dict[str, Any] = {**parameters, "connect_timeout": ANSWER_SECONDS}
        try:
            psycopg.connect(**given).close()
        except ConnectionTimeout:
            self._silent_at = monotonic()
            raise psycopg.OperationalError(STANDS_STILL) from None
        except psycopg.OperationalError:  # it refuses, so it answers
            pass


class WatchedConnection(psycopg.Connection[Any]):
    """A connection that is closed when it waits for a server that stands still."""

    watch: SilenceWatch | None = None
    parameters: dict[str, Any]

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        """Wait for the server as psycopg does. Raises psycopg.OperationalError."""
        return super().wait(self._watched(gen), *arguments, **options)

    def _watched(self, steps: PQGen[T]) -> PQGen[T]:
        answered, patience = monotonic(), SILENT_SECONDS
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if ready:
                    answered, patience = monotonic(), SILENT_SECONDS
                elif monotonic() - answered > patience:
                    self._check_server()
                    patience = monotonic() - answered + ASK_AGAIN_SECONDS
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value

    def _check_server(self) -> None:
        if self.watch is None:
            return
        try:
            self.watch.check(self.parameters)
        except psycopg.OperationalError:
            self.close()
            raise
