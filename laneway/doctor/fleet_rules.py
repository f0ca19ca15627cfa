"""The rules for the fleet: workers, Beat, and work that nobody takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from laneway.doctor.findings import Check, Fine, Outcome, error, warning

AREA: Final = "fleet"
OLD_OUTBOX_SECONDS: Final = 30.0
FILLED: Final = 0.8
MANY_UNREAD: Final = 5_000
MOST_NAMES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """One declared queue. `workers`: live ones that serve it. `most`: the limit of `waiting`."""

    name: str
    waiting: int = 0
    workers: int = 1
    paused: bool = False
    dead: int = 0
    unread: int = 0
    most: int | None = None
    most_unread: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker. `silent_seconds`: since its last report. `version`: of Laneway; empty if it is not known."""

    name: str
    host: str = ""
    version: str = ""
    silent_seconds: float = 0.0
    alive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFacts:
    """The fleet. What is not known is None: a Celery project without the platform has no rows to look at."""

    queues: Sequence[QueueState] = ()
    workers: Sequence[WorkerState] = ()
    version: str | None = None
    """The version of Laneway of this program."""
    is_on_sqlite: bool | None = None
    broker_owner: str | None = None
    """Whose the broker is: `own`, `nobody`, or the id of another installation."""
    beat_runs: bool | None = None
    schedules: int | None = None
    standstills: Sequence[str] | None = None
    unknown_queues: Sequence[str] | None = None
    stranded: Sequence[str] | None = None
    outbox: int | None = None
    outbox_seconds: float | None = None
    """Since when the oldest task waits to be sent to the broker."""
    not_in_force: Sequence[str] | None = None
    """Queues whose limits the broker does not apply."""
    alerts: Sequence[str] | None = None
    shared_names: Sequence[str] = ()
    most_dead: int | None = None
    """The limit of all dead letters together."""

    @property
    def living(self) -> list[WorkerState]:
        return [worker for worker in self.workers if worker.alive]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else ""
    return ", ".join(listed[:MOST_NAMES]) + more


def workers(facts: FleetFacts) -> Outcome:
    if facts.living:
        return Fine(f"{len(facts.living)} live: {_some(worker.name for worker in facts.living)}")
    return error(
        "No worker is alive.",
        why="What is accepted waits, and nothing runs.",
        do="laneway up, or laneway worker NAME on each machine (a plain Celery app: celery -A … worker).",
    )


def served(facts: FleetFacts) -> Outcome | None:
    if not facts.living:
        return None
    unserved = [queue for queue in facts.queues if not queue.workers]
    if not unserved:
        return Fine(f"each of {len(facts.queues)} queues has a worker")
    waiting = sum(queue.waiting for queue in unserved)
    rule = error if waiting else warning
    return rule(
        f"No live worker serves {_some(queue.name for queue in unserved)}; {waiting} tasks wait there.",
        why="Tasks of these queues never start.",
        do="Start the worker group of these queues (laneway worker NAME), or add them to -Q of a worker.",
    )


def names(facts: FleetFacts) -> Outcome:
    if not facts.shared_names:
        return Fine("each worker has a name of its own")
    return error(
        f"Several live workers have one name: {_some(facts.shared_names)}.",
        why="Remote control, Flower and the record of who ran a task take them for one.",
        do="Start each with a name of its own (-n NAME@%h).",
    )


def silent(facts: FleetFacts) -> Outcome:
    stale = [worker for worker in facts.workers if not worker.alive]
    if not stale:
        return Fine("no worker went silent")
    return warning(
        f"Workers that went silent and have not signed off: {_some(worker.name for worker in stale)}.",
        why="They were killed, or their machine or network is gone; others take over what they ran.",
        do="Look at their logs and their supervisor; laneway workers --all has their last report.",
    )


def versions(facts: FleetFacts) -> Outcome | None:
    found = {worker.version for worker in facts.living if worker.version}
    if not (found and facts.version):
        return None
    if found == {facts.version}:
        return Fine(f"all workers run {facts.version}, as this program")
    counted = Counter(worker.version or "unknown" for worker in facts.living)
    listed = ", ".join(f"{version} ({number})" for version, number in sorted(counted.items()))
    return warning(
        f"Workers run other versions of Laneway than this program ({facts.version}): {listed}.",
        why="During a roll-out that is normal. Afterwards some workers do not know new tasks or fields.",
        do="Restart the workers of the older version.",
    )


def hosts(facts: FleetFacts) -> Outcome | None:
    machines = {worker.host for worker in facts.living if worker.host}
    if not facts.is_on_sqlite or len(machines) < 2:
        return None
    return error(
        f"Workers on {len(machines)} machines share a SQLite file: {_some(sorted(machines))}.",
        why="SQLite is safe for programs of one machine only.",
        do="DATABASE_URL=postgresql://…, the same for all.",
    )


def owner(facts: FleetFacts) -> Outcome:
    if facts.broker_owner == "own":
        return Fine("the broker is this installation's")
    if facts.broker_owner == "nobody":
        return Fine("the broker is nobody's yet")
    return error(
        f"The broker belongs to another installation ({facts.broker_owner}).",
        why="Each program ends at its start, so that it does not take the other one's tasks.",
        do="Correct REDIS_URL or DATABASE_URL; only for a restored database: laneway prepare --adopt-broker.",
    )


def beat(facts: FleetFacts) -> Outcome | None:
    if not facts.schedules:
        return None
    if not facts.beat_runs:
        return error(
            f"No Beat runs, and there are {facts.schedules} schedules.",
            why="Nothing that is scheduled is sent.",
            do="laneway up, or celery -A laneway.platform.project beat on one machine.",
        )
    if facts.standstills:
        return error(
            f"Beat runs, and schedules stand still: {'; '.join(facts.standstills)}",
            why="They were due and were not sent.",
            do="Look at Beat's log for the reason.",
        )
    return Fine(f"Beat runs, with {facts.schedules} schedules")


def unknown(facts: FleetFacts) -> Outcome:
    if not facts.unknown_queues:
        return Fine("no messages in unknown queues")
    return warning(
        f"Messages in queues that nobody declared: {_some(facts.unknown_queues)}.",
        why="No worker of this application takes them.",
        do=f"laneway queues take-in {facts.unknown_queues[0]} (or flush; laneway queues list says more).",
    )


def stranded(facts: FleetFacts) -> Outcome:
    if not facts.stranded:
        return Fine("no messages in kombu's lists")
    return warning(
        f"Messages in kombu's own lists: {_some(facts.stranded)}.",
        why="Programs without laneway.install have sent them; only live workers take them in.",
        do="laneway queues routes prints the queues for their senders; laneway adopt moves what is left.",
    )


def outbox(facts: FleetFacts) -> Outcome:
    if (facts.outbox_seconds or 0) <= OLD_OUTBOX_SECONDS:
        return Fine(f"{facts.outbox} accepted tasks wait to be sent")
    return error(
        f"{facts.outbox} accepted tasks wait to be sent to the broker, the oldest for {facts.outbox_seconds:.0f} s.",
        why="A broker that is away or full, or no worker that sends them.",
        do="Look at the findings about the server and the workers; then laneway audit --repair.",
    )


def recorder(facts: FleetFacts) -> Outcome:
    unread = sum(queue.unread for queue in facts.queues)
    full = [queue.name for queue in facts.queues if queue.most_unread and queue.unread >= FILLED * queue.most_unread]
    if full:
        return error(
            f"The journals of {_some(full)} are nearly full: {unread} events are not recorded.",
            why="At MAX_UNREAD_EVENTS a queue accepts no tasks (503).",
            do="Look at the findings about the database; a live worker records them.",
        )
    if unread > MANY_UNREAD:
        return warning(
            f"{unread} events of tasks are not recorded yet.",
            why="States, lists and alerts are behind.",
            do="Look at the speed of the database's writes; more workers record faster.",
        )
    return Fine(f"{unread} events are not recorded yet")


def full_queues(facts: FleetFacts) -> Outcome:
    full = [queue for queue in facts.queues if queue.most and queue.waiting >= FILLED * queue.most]
    if not full:
        return Fine("no queue is nearly full")
    listed = _some(f"{queue.name} ({queue.waiting} of {queue.most})" for queue in full)
    return error(
        f"Queues are nearly full: {listed}.",
        why="A full queue accepts no tasks (429).",
        do="Start more workers for them, or raise MAX_QUEUE_SIZE.",
    )


def dead_letters(facts: FleetFacts) -> Outcome:
    number = sum(queue.dead for queue in facts.queues)
    if facts.most_dead and number >= FILLED * facts.most_dead:
        return warning(
            f"{number} dead letters are kept, and the limit is {facts.most_dead}.",
            why="At the limit the oldest are deleted.",
            do="laneway dead groups; then laneway dead retry or laneway dead discard",
        )
    return Fine(f"{number} dead letters")


def paused(facts: FleetFacts) -> Outcome:
    held = [queue for queue in facts.queues if queue.paused]
    if not held:
        return Fine("no queue is paused")
    listed = _some(f"{queue.name} ({queue.waiting} waiting)" for queue in held)
    return warning(
        f"Queues are paused: {listed}.",
        why="None of their tasks starts until somebody resumes them.",
        do=f"laneway queues resume {held[0].name}",
    )


def limits(facts: FleetFacts) -> Outcome:
    if not facts.not_in_force:
        return Fine("limits of queues are in force")
    return warning(
        f"The broker does not apply the limits of {_some(facts.not_in_force)}.",
        why="A pause or a limit that an operator has set does nothing.",
        do="A live worker sets them within seconds: start one.",
    )


def alerts(facts: FleetFacts) -> Outcome:
    if not facts.alerts:
        return Fine("no alert is open")
    return warning(
        f"{len(facts.alerts)} alerts are open: {'; '.join(facts.alerts[:3])}",
        why="Nobody has dealt with them.",
        do="laneway stats",
    )


CHECKS: Final = (
    Check("installation", owner, ("broker_owner",)),
    Check("workers", workers),
    Check("queues without a worker", served),
    Check("names of workers", names),
    Check("silent workers", silent),
    Check("versions of workers", versions),
    Check("machines", hosts),
    Check("Beat", beat),
    Check("unknown queues", unknown, ("unknown_queues",)),
    Check("stranded messages", stranded, ("stranded",)),
    Check("outbox", outbox, ("outbox",)),
    Check("recorder", recorder),
    Check("full queues", full_queues),
    Check("dead letters", dead_letters),
    Check("paused queues", paused),
    Check("limits of queues", limits, ("not_in_force",)),
    Check("alerts", alerts, ("alerts",)),
)
