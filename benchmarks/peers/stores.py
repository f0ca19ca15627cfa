"""The servers that the libraries of one run share: a Valkey (or Redis) without persistence, and a PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql

from benchmarks.throughput.server import Server, own_server
from tests.fixtures.databases import StoppablePostgres, stoppable_postgres

JOBS, RESULTS = 0, 1


class NoPostgres(Exception):
    """No PostgreSQL is installed, or it did not start."""


@dataclass
class Stores:
    """Redis is there from the beginning; PostgreSQL starts when somebody asks for a database."""

    redis: Server
    _clients: tuple[Any, Any]
    _stack: ExitStack
    _postgres: StoppablePostgres | None = None
    _databases: dict[str, str] = field(default_factory=dict[str, str])

    def database(self, name: str) -> str:
        """The URL of the database of this name, made if it is not there. Raises NoPostgres."""
        if name not in self._databases:
            if self._postgres is None:
                self._postgres = self._start()
            url = self._postgres.new_database(name)
            self._databases[name] = url.replace("postgresql+psycopg:", "postgresql:")
        return self._databases[name]

    def environment(self, database: str | None) -> dict[str, str]:
        """What drivers and workers are told."""
        found = {"BENCH_REDIS": self.redis.url}
        return found | ({"BENCH_POSTGRES": self.database(database)} if database else {})

    def jobs(self) -> Any:
        """The client of the database with the jobs."""
        return self._clients[JOBS]

    def results(self) -> Any:
        """The client of the database with the results."""
        return self._clients[RESULTS]

    def bytes_of_keys(self) -> int:
        """What all keys need, with all their elements."""
        total = 0
        for client in (self.jobs(), self.results()):
            pipeline = client.pipeline(transaction=False)
            for key in client.scan_iter(count=1000):
                pipeline.memory_usage(key, samples=0)
            total += sum(pipeline.execute())
        return total

    def count(self, database: str, statement: str) -> int:
        """The number that a statement finds."""
        with psycopg.connect(self.database(database), autocommit=True) as connection:
            row = connection.execute(sql.SQL(statement)).fetchone()  # pyright: ignore[reportArgumentType]
            return int(row[0]) if row else 0

    def run(self, database: str, statement: str) -> None:
        """Run a statement."""
        with psycopg.connect(self.database(database), autocommit=True) as connection:
            connection.execute(sql.SQL(statement))  # pyright: ignore[reportArgumentType]

    def _start(self) -> StoppablePostgres:
        try:
            server = self._stack.enter_context(stoppable_postgres())
            server.start()
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            raise NoPostgres(str(reason)) from reason
        return server


@contextmanager
def stores() -> Generator[Stores]:
    """Start the servers of one run. Raises SystemExit or NoValkeyBinary if Redis cannot start."""
    with own_server(append_only=False) as server, ExitStack() as stack:
        client: Any = redis.Redis  # redis-py types its functions in part
        jobs, results = (stack.enter_context(client.from_url(f"{server.url}/{each}")) for each in (JOBS, RESULTS))
        yield Stores(server, (jobs, results), stack)
