"""The libraries: what each runs with, how its workers start, and how its finished jobs are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.peers.environment import Runtime
from benchmarks.peers.stores import Stores

Command = Callable[[Runtime], list[str]]
OURS = "laneway"


@dataclass(frozen=True)
class Setup:
    """`processes` workers, each started by the same command. `{index}` in it is the worker's number."""

    name: str
    command: Command
    processes: int = 1


@dataclass(frozen=True)
class Library:
    """A library, and the driver that speaks for it."""

    name: str
    runtime: str
    driver: str
    count: Callable[[Stores], int]
    """A number that grows by one with each finished job."""
    setups: tuple[Setup, ...]
    sleepers: Setup
    """A worker for 100 jobs at a time."""
    killed: str
    """What becomes of the jobs of a worker that is killed."""
    bulk: bool = True
    """Whether it has a call for many jobs."""
    database: str | None = None
    empty: str = ""
    """What empties its tables in PostgreSQL."""
    share: float = 1.0
    """The share of the jobs that it gets: a slow one fewer, a fast one more, so that its drain lasts long enough."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def drive(self, runtime: Runtime, verb: str, count: int) -> list[str]:
        """The command of its driver."""
        runner = ["drive.py"] if self.driver.endswith("_driver") else []
        return [runtime.program, *runner, self.driver, verb, str(count)]


def _celery(pool: str, concurrency: int) -> Command:
    return lambda runtime: [
        *(runtime.program, "-m", "celery", "-A", "celery_driver:app", "worker", "--pool", pool),
        *("--concurrency", str(concurrency), "--hostname", "bench{index}@localhost", "--loglevel", "ERROR"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def _python(module: str, *options: str) -> Command:
    return lambda runtime: [runtime.program, "-m", module, *options]


def _script(*words: str) -> Command:
    return lambda runtime: [runtime.program, *words]


def _sidekiq(concurrency: int) -> Command:
    return lambda runtime: [
        *(runtime.program, "-S", "sidekiq", "-r", "./sidekiq_driver.rb", "-q", "bench", "-c", str(concurrency))
    ]


def _stored_results(stores: Stores) -> int:
    return stores.redis.results()


def _ended_of_procrastinate(stores: Stores) -> int:
    return stores.count("procrastinate", "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")


def _left_of_graphile(stores: Stores) -> int:
    return -stores.count("graphile", "SELECT count(*) FROM graphile_worker._private_jobs")


PREFORK, THREADS, SOLO = (
    Setup("prefork 1x2", _celery("prefork", 2)),
    Setup("threads 1x8", _celery("threads", 8)),
    Setup("solo 2x1", _celery("solo", 1), 2),
)
HUEY = "huey.bin.huey_consumer", "huey_driver.huey", "--quiet"
TASKIQ = "taskiq", "worker", "taskiq_driver:broker", "--log-level", "ERROR"
DRAMATIQ = "dramatiq", "dramatiq_driver"
PROCRASTINATE = "procrastinate", "--app", "procrastinate_driver.app", "--log-level", "error", "worker"

LIBRARIES = {
    library.name: library
    for library in (
        Library(
            name=OURS,
            runtime="own",
            driver="celery_driver",
            count=_stored_results,
            setups=(PREFORK, THREADS, SOLO),
            sleepers=Setup("threads 1x100", _celery("threads", 100)),
            killed="keeps",
            environment={"BENCH_LANEWAY": "1"},
        ),
        Library(
            name="celery",
            runtime="python",
            driver="celery_driver",
            count=_stored_results,
            setups=(PREFORK, SOLO),
            sleepers=Setup("threads 1x100", _celery("threads", 100)),
            killed="can lose",
            share=0.4,
        ),
        Library(
            name="dramatiq",
            runtime="python",
            driver="dramatiq_driver",
            count=_stored_results,
            setups=(Setup("2x4", _python(*DRAMATIQ, "-p", "2", "-t", "4")),),
            sleepers=Setup("1x100", _python(*DRAMATIQ, "-p", "1", "-t", "100")),
            killed="keeps",
            bulk=False,
        ),
        Library(
            name="huey",
            runtime="python",
            driver="huey_driver",
            count=lambda stores: stores.jobs().hlen("huey.results.bench"),
            setups=(Setup("2 processes", _python(*HUEY, "-w", "2", "-k", "process")),),
            sleepers=Setup("100 threads", _python(*HUEY, "-w", "100", "-k", "thread")),
            killed="loses",
            bulk=False,
        ),
        Library(
            name="taskiq",
            runtime="python",
            driver="taskiq_driver",
            count=_stored_results,
            setups=(Setup("2x50", _python(*TASKIQ, "--workers", "2", "--max-async-tasks", "50")),),
            sleepers=Setup("1x100", _python(*TASKIQ, "--workers", "1", "--max-async-tasks", "100")),
            killed="keeps",
            bulk=False,
        ),
        Library(
            name="procrastinate",
            runtime="python",
            driver="procrastinate_driver",
            count=_ended_of_procrastinate,
            setups=(Setup("2x10", _python(*PROCRASTINATE, "--concurrency", "10"), 2),),
            sleepers=Setup("1x100", _python(*PROCRASTINATE, "--concurrency", "100")),
            killed="keeps",
            database="procrastinate",
            empty="TRUNCATE procrastinate_jobs CASCADE",
            share=0.2,
        ),
        Library(
            name="bullmq",
            runtime="node",
            driver="bullmq_driver.cjs",
            count=lambda stores: stores.jobs().zcard("bull:bench:completed"),
            setups=(Setup("1x50", _script("bullmq_driver.cjs", "worker", "50")),),
            sleepers=Setup("1x100", _script("bullmq_driver.cjs", "worker", "100")),
            killed="keeps",
            share=3,
        ),
        Library(
            name="graphile-worker",
            runtime="node",
            driver="graphile_driver.cjs",
            count=_left_of_graphile,
            setups=(Setup("1x10", _script("graphile_driver.cjs", "worker", "10")),),
            sleepers=Setup("1x100", _script("graphile_driver.cjs", "worker", "100")),
            killed="keeps",
            database="graphile",
            empty="TRUNCATE graphile_worker._private_jobs CASCADE",
        ),
        Library(
            name="sidekiq",
            runtime="ruby",
            driver="sidekiq_driver.rb",
            count=lambda stores: -stores.jobs().llen("queue:bench"),
            setups=(Setup("2x10", _sidekiq(10), 2),),
            sleepers=Setup("1x100", _sidekiq(100)),
            killed="loses",
            share=3,
        ),
    )
}
