"""The systems of `make bench-platform` that have an HTTP API: ours on both databases, and one made by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environment import DRIVERS, ROOT, Runtime, own, python
from benchmarks.peers.group import PeerFailed
from benchmarks.peers.stores import Stores
from laneway.platform.db.session import Database

COMPLETED = "SELECT count(*) FROM task_runs WHERE state = 'completed'"
UVICORN = "--no-access-log", "--log-level", "error", "--port"
CELERY = "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "ERROR"


@dataclass(frozen=True)
class System:
    """A running system's commands, and how its finished tasks are counted."""

    api: list[str]
    worker: list[str]
    folder: Path
    environment: dict[str, str]
    done: Callable[[], int]
    close: Callable[[], None] = lambda: None


Make = Callable[[Stores, int, Path, str], System]
"""Makes a system in an empty folder, with its API on a port, and with a name for its database."""


def by_hand(stores: Stores, port: int, folder: Path, name: str) -> System:
    """FastAPI, Celery and Redis in one file. Raises NotFound."""
    del folder, name
    program = python().program
    return System(
        api=[program, "-m", "uvicorn", "by_hand:api", *UVICORN, str(port)],
        worker=[program, "-m", "celery", "-A", "by_hand:app", *CELERY],
        folder=DRIVERS,
        environment=stores.environment(None),
        done=stores.redis.results,
    )


def on_sqlite(stores: Stores, port: int, folder: Path, name: str) -> System:
    """The platform with a SQLite file."""
    del name
    return _platform(stores, port, folder, f"sqlite:///{folder / 'laneway.db'}")


def on_postgresql(stores: Stores, port: int, folder: Path, name: str) -> System:
    """The platform with a database of PostgreSQL. Raises NoPostgres."""
    url = stores.database(name).replace("postgresql:", "postgresql+psycopg:")
    return _platform(stores, port, folder, url)


def _platform(stores: Stores, port: int, folder: Path, url: str) -> System:
    runtime: Runtime = own()
    environment = runtime.environment | {
        "CELERY_BROKER_URL": f"{stores.redis.url}/0",
        "CELERY_RESULT_BACKEND": f"{stores.redis.url}/1",
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": url,
        "API_PORT": str(port),
        "MAX_QUEUE_SIZE": "10000000",
        "MAX_UNREAD_EVENTS": "10000000",
        "LOG_LEVEL": "ERROR",
    }
    database = Database(url)

    def done() -> int:
        with closing(database.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(COMPLETED)
            row = cursor.fetchone()
            if row is None:
                raise PeerFailed("the history did not answer")
            return int(row[0])

    return System(
        api=[runtime.program, "-m", "uvicorn", "benchmarks.peers.platform_api:app", *UVICORN, str(port)],
        worker=[
            runtime.program,
            "-m",
            "celery",
            "-A",
            "benchmarks.pipeline_app:celery_app",
            *CELERY,
            "-Q",
            "maintenance",
        ],
        folder=ROOT,
        environment=environment,
        done=done,
        close=database.close,
    )


SYSTEMS: dict[str, Make] = {"laneway SQLite": on_sqlite, "laneway PostgreSQL": on_postgresql, "by hand": by_hand}
"""The name of a row -> what makes its system."""
