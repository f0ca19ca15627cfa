"""What a job costs in round trips, commands, bytes, Python calls and SQL statements: it may shrink, and must not grow.

Times differ from run to run; these numbers hardly do. Who makes a path cheaper lowers its line in `MOST`. (The commands
of each script for one message: `tests/laneway/engine/test_commands.py`.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import pytest
from sqlalchemy import event

from app.services.container import Services
from laneway import task
from laneway.engine import Engine, Message
from laneway.platform.db.session import Database
from laneway.platform.execution.task import PlatformTask
from laneway.platform.registry import registry
from laneway.testing.valkey_server import RunningValkey, start_valkey
from tests.fixtures.in_process_worker import run_messages
from tests.fixtures.platform import Platform
from tests.laneway.counting import Counter, Counts
from tests.laneway.worker.workers import Start, app, start  # noqa: F401

APP = "tests.laneway.counted_app"
QUEUE: Final = "maintenance"
JOBS, MANY, WARM = 100, 400, 20
MOST = {
    "put": Counts(trips=1, commands=11, bytes=175, calls=25),
    "put in bulk": Counts(trips=0.1, commands=2.3, bytes=34, calls=8),
    "delay": Counts(trips=1, commands=11, bytes=310, calls=235),
    "run by a solo worker": Counts(trips=0.15, commands=3.6, bytes=560, calls=540),
    "submitted to the platform": Counts(trips=2.1, commands=19, bytes=1380, calls=1080, statements=4),
    "run by the platform": Counts(trips=6.4, commands=61, bytes=2690, calls=1750, statements=0.2),
}
"""What a job may cost: what was seen, and a tenth more; more for a worker, whose acks are grouped by time."""


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningValkey]:
    """A server whose counters see the work of this module alone."""
    server = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.fixture
def counter(valkey: RunningValkey) -> Generator[Counter]:
    """A counter on that server."""
    counter = Counter(valkey.port)
    yield counter
    counter.close()


@cache
def declared_task() -> PlatformTask:
    """Declare the task of the platform, once."""

    @task(queue=QUEUE)
    def counted_nothing() -> None:
        """Do nothing."""

    return counted_nothing


@pytest.fixture
def nothing(platform: Platform, services: Services) -> Generator[PlatformTask]:
    """A task that does nothing, with a worker in this process."""
    declared = declared_task()
    registry.add(declared.spec, declared, source=f"{__name__}.declared_task.<locals>.{declared.name}")
    type(declared).platform = services  # pyright: ignore[reportAttributeAccessIssue] - a class of its own
    platform.app.register_task(declared)
    platform.alive("worker-1")
    platform.broker.prepare()
    yield declared
    registry.remove(declared.name)


@contextmanager
def statements(counter: Counter, database: Database) -> Generator[None]:
    """Count statements and commits, too."""
    events = ("before_cursor_execute", "commit")
    for name in events:
        event.listen(database.engine, name, counter.statement)
    yield
    for name in events:
        event.remove(database.engine, name, counter.statement)


def check(path: str, found: Counts) -> None:
    assert found.trips + found.calls > 0
    assert found.above(MOST[path]) == {}, f"{path} costs more than before: {found}"


def counted(counter: Counter, call: Callable[[int], object]) -> Counts:
    """Call it often enough that everything is cached, and then count."""
    for number in range(WARM):
        call(number)
    counter.start()
    for number in range(WARM, WARM + JOBS):
        call(number)
    return counter.stop(JOBS)


def test_put(engine: Engine, counter: Counter) -> None:
    check("put", counted(counter, lambda number: engine.put("work", Message(task_id=f"t{number}", name="app.work"))))


def test_put_in_bulk(engine: Engine, counter: Counter) -> None:
    def put(first: int) -> None:
        engine.put_many("work", [Message(task_id=f"t{first + n}", name="app.work") for n in range(JOBS)])

    put(0)
    counter.start()
    put(JOBS)
    check("put in bulk", counter.stop(JOBS))


def test_delay(app: Any, counter: Counter) -> None:  # noqa: F811
    check("delay", counted(counter, lambda _: app.noop.delay()))


def test_run_by_a_solo_worker(app: Any, start: Start) -> None:  # noqa: F811
    """Many jobs: what is fetched before the first or acked after the last is not counted."""
    for each in (*[app.noop] * WARM, app.begin, *[app.noop] * MANY):
        each.delay()
    last = app.end.delay(MANY)
    start("solo", "--without-gossip", "--without-mingle", "--without-heartbeat")

    check("run by a solo worker", Counts(**last.get(timeout=60)))


def test_submitted_to_the_platform(platform: Platform, nothing: PlatformTask, counter: Counter) -> None:
    with statements(counter, platform.database):
        check("submitted to the platform", counted(counter, lambda _: platform.tasks.submit(nothing.spec, {})))


def test_run_by_the_platform(platform: Platform, nothing: PlatformTask, counter: Counter) -> None:
    """Each task is fetched alone, begins and ends an attempt, and is acked; the journal is recorded afterwards."""

    def run(jobs: int) -> Counts:
        for _ in range(jobs):
            platform.tasks.submit(nothing.spec, {})
        counter.start()
        run_messages(platform, QUEUE)
        platform.recorder.catch_up()
        return counter.stop(jobs)

    with statements(counter, platform.database):
        run(WARM)
        found = run(JOBS)

    assert platform.tasks.counts() == {"completed": JOBS + WARM}
    check("run by the platform", found)
