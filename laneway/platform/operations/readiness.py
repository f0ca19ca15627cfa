"""Whether this process can accept work, and which parts of the platform do not work.

The two are different questions. A task is accepted as soon as its row is stored, so the database alone decides whether
work can be accepted. Without the broker, without workers, and with a broken definition of a workflow, other work goes
on or waits: these parts are degraded, and are named. So is a broker whose memory is nearly full: it refuses tasks, but
reading and operating go on, and they are needed to empty the queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.queries import workers
from laneway.platform.db.session import Database
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import DatabaseUnavailable, PlatformError
from laneway.platform.operations.bounded_calls import RecentCall, SingleCall
from laneway.platform.operations.installation import Installation
from laneway.platform.queues import queues as declared
from laneway.platform.submission.admission import BrokerMemory
from laneway.platform.workflows.definitions import Definitions

PART_SECONDS: Final = 2.0
"""Most seconds that the report waits for a database that another program holds."""
ANSWER_SECONDS: Final = 3.0
"""Most seconds that the report waits for a database that does not answer at all."""


@dataclass(frozen=True, slots=True)
class DegradedPart:
    """A part of the platform that does not work, and what follows from it. `error`: if one was raised."""

    part: str
    problem: str
    error: PlatformError | None = None


@dataclass(frozen=True, slots=True)
class ReadinessReport:
    """What a process found. `database`: why no work can be accepted; None: it can."""

    database: PlatformError | None = None
    broker: PlatformError | None = None
    live_workers: int = 0
    installation: str | None = None
    degraded: Sequence[DegradedPart] = field(default_factory=list[DegradedPart])

    @property
    def accepts_work(self) -> bool:
        return self.database is None


MEMORY_FULL: Final = (
    "Its memory is nearly full: further tasks are refused (503) until workers have worked queues off. Reading and "
    "operating go on."
)


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What the database knows of the live workers."""

    served: Sequence[Sequence[str]] = ()
    """The queues of each."""
    shared_names: dict[str, int] = field(default_factory=dict[str, int])


class Readiness:
    """Looks whether work can be accepted, and which parts do not work."""

    def __init__(
        self, database: Database, broker: Broker, *, installation: Installation, definitions: Callable[[], Definitions]
    ) -> None:
        self._database, self._broker, self._installation = database, broker, installation
        self._definitions = definitions
        self.recent = RecentCall(self.check)
        """The report for callers that nobody knows, which is made at most once a second, whoever asks."""
        self._look = SingleCall(self._look_at_database, seconds=ANSWER_SECONDS, name="laneway-readiness")

    def check(self) -> ReadinessReport:
        """Store something in the database, ask the broker for an answer, and look at workers and definitions.

        A database that another program holds has `PART_SECONDS` to take the write, and one that stands still
        `ANSWER_SECONDS`. A broker that stands still is noticed within 2 s, and at once while that is known.
        """
        fleet, database_error = _Fleet(), None
        try:
            fleet = self._find_fleet()
        except PlatformError as error:
            database_error = error
        full, broker_error = None, None
        try:
            self._broker.ping()
            full = BrokerMemory(self._broker).refusal()
        except PlatformError as error:
            broker_error = error
        degraded = [
            *_server_parts(database_error, broker_error),
            *([DegradedPart("broker memory", MEMORY_FULL)] if full else ()),
            *(_worker_parts(fleet) if database_error is None else ()),
            *(DegradedPart("workflows", f"{broken}") for broken in self._definitions().broken),
        ]
        return ReadinessReport(
            database=database_error,
            broker=broker_error,
            live_workers=len(fleet.served),
            installation=None if database_error else self._installation.id,
            degraded=degraded,
        )

    def server_problems(self) -> list[str]:
        """What is wrong with database and broker, in sentences for everybody, which name no server."""
        problems: list[str] = []
        for look in (self._find_fleet, self._broker.ping):
            try:
                look()
            except PlatformError as error:
                problems.append(f"{error.title}.")
        return problems

    def _find_fleet(self) -> _Fleet:
        try:
            return self._look.result()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"it has not answered for {ANSWER_SECONDS:g} s: it or its disk stands still"
            ) from None

    def _look_at_database(self) -> _Fleet:
        with limit_waits(PART_SECONDS):
            self._installation.check_writes()
            with self._database.reading() as session:
                served = [list(worker.queues) for worker in workers.alive(session, now=clock.now())]
                return _Fleet(served, workers.shared_names(session, now=clock.now()))


def _server_parts(database: PlatformError | None, broker: PlatformError | None) -> Iterator[DegradedPart]:
    if database is not None:
        yield DegradedPart("database", "Nothing is accepted.", database)
    if broker is not None:
        yield DegradedPart("broker", "Accepted tasks wait in the database, and are sent when it is back.", broker)


def _worker_parts(fleet: _Fleet) -> Iterator[DegradedPart]:
    served = {queue for queues_of_one in fleet.served for queue in queues_of_one}
    unserved = [queue for queue in declared if queue not in served]
    if unserved:
        yield DegradedPart("workers", f"No live worker serves {', '.join(unserved)}: accepted tasks wait there.")
    for name, number in fleet.shared_names.items():
        yield DegradedPart("workers", shared_name_problem(name, number))


def shared_name_problem(name: str, number: int) -> str:
    """What is wrong when several live workers have the same name."""
    return (
        f"{number} live workers have the name {name}; remote control, Flower and the workers' summaries take them for "
        "one. Start each with a name of its own (--name)."
    )
