"""The facts about the fleet of a platform: what the database and the broker know of workers, queues and Beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from celery import Celery
from sqlalchemy import func, select

from laneway.adopt.stock_lists import StockLists
from laneway.doctor.fleet_rules import FleetFacts, QueueState, WorkerState
from laneway.engine import QueueStats
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import installation as installation_rows
from laneway.platform.db.queries import workers as worker_rows
from laneway.platform.diagnosis.database_facts import existing_file
from laneway.platform.errors import PlatformError
from laneway.platform.operations.intake import CELERY_DEFAULT
from laneway.platform.platform import Platform
from laneway.schemas.task import QueueFigures, TaskState

OWN: Final = "own"
NOBODY: Final = "nobody"
OUR_SCHEDULER: Final = "laneway.platform.schedules"
MOST_WORKERS: Final = 1000
T = TypeVar("T")


def collect_fleet(platform: Platform, app: Celery, *, version: str) -> FleetFacts:
    """Look at the fleet. What only the broker knows is None while it cannot be reached. Raises PlatformError."""
    existing_file(platform.database)
    platform.recorder.leave_to_others()  # looking changes nothing
    figures = platform.tasks.queues()
    names = list(figures)
    broker = _if_reachable(lambda: platform.broker.stats(names)) or []
    unread = _if_reachable(lambda: platform.recorder.unread(list(platform.broker.queues))) or {}
    outbox, since = _outbox(platform)
    limits = _if_reachable(platform.queue_limits.listing)
    beat_runs, standstills = _beat(platform, app)
    return FleetFacts(
        queues=_queues(platform, figures, broker, unread),
        workers=_workers(platform),
        shared_names=_shared_names(platform),
        version=version,
        is_on_sqlite=platform.database.is_sqlite,
        broker_owner=_if_reachable(lambda: _owner(platform)),
        beat_runs=beat_runs,
        schedules=platform.schedule_watch.count() if _is_ours(app) else None,
        standstills=standstills,
        unknown_queues=_if_reachable(lambda: [each.queue for each in platform.unknown_queues.look()]),
        stranded=_if_reachable(lambda: _stranded(platform)),
        outbox=outbox,
        outbox_seconds=since,
        not_in_force=None if limits is None else [each.queue for each in limits if each.in_force is False],
        alerts=[alert.message for alert in platform.alerts.listing()],
        most_dead=platform.settings.tasks.max_dead_letters,
    )


def _if_reachable(ask: Callable[[], T]) -> T | None:
    """The answer of the broker; None while it cannot be reached: that is a finding about the server."""
    try:
        return ask()
    except PlatformError:
        return None


def _queues(
    platform: Platform, figures: dict[str, QueueFigures], broker: Sequence[QueueStats], unread: dict[str, int]
) -> list[QueueState]:
    limits = platform.settings.tasks
    dead = {each.queue: each.dead for each in broker}
    return [
        QueueState(
            name=name,
            waiting=each.accepted + each.pending + each.scheduled,
            workers=each.workers,
            paused=each.paused,
            dead=max(each.dead, dead.get(name, 0)),
            unread=unread.get(name, 0),
            most=limits.max_queue_size,
            most_unread=limits.max_unread_events,
        )
        for name, each in figures.items()
        if name in platform.broker.queues
    ]


def _workers(platform: Platform) -> list[WorkerState]:
    """The workers that have not signed off; of one name the newest, if it is alive."""
    now = clock.now()
    with platform.database.reading() as session:
        rows = list(worker_rows.listing(session, limit=MOST_WORKERS))
    living = {row.name for row in rows if _is_alive(row, now)}
    return [
        WorkerState(
            name=row.name,
            host=row.host,
            version=row.version,
            silent_seconds=(now - row.seen_at).total_seconds(),
            alive=_is_alive(row, now),
        )
        for row in rows
        if _is_alive(row, now) or row.name not in living
    ]


def _is_alive(row: Any, now: Any) -> bool:
    return row.ended is None and row.seen_at > now - worker_rows.ALIVE


def _shared_names(platform: Platform) -> list[str]:
    with platform.database.reading() as session:
        return [f"{name} ({number})" for name, number in worker_rows.shared_names(session, now=clock.now()).items()]


def _outbox(platform: Platform) -> tuple[int, float | None]:
    """The number of tasks in the outbox, and the seconds since the oldest was accepted."""
    statement = select(func.count(), func.min(TaskRun.accepted_at)).where(TaskRun.state == TaskState.ACCEPTED)
    with platform.database.reading() as session:
        number, oldest = session.execute(statement).one()
    oldest = clock.aware(oldest)
    return number, None if oldest is None else (clock.now() - oldest).total_seconds()


def _owner(platform: Platform) -> str | None:
    engine = platform.broker.engine
    if engine is None:
        return None
    with platform.database.reading() as session:
        own = installation_rows.find_id(session)
    with platform.broker.guarded():
        found: Any = engine.runner.call("GET", engine.keys.owner())
    if found is None:
        return NOBODY
    return OWN if found.decode(errors="replace") == own else found.decode(errors="replace")


def _is_ours(app: Celery) -> bool:
    return str(app.conf.beat_scheduler).startswith(OUR_SCHEDULER)


def _beat(platform: Platform, app: Celery) -> tuple[bool | None, list[str] | None]:
    """Whether a Beat leads, and which schedules stand still."""
    if not _is_ours(app):
        return None, None
    watch = platform.schedule_watch
    return watch.beat_runs(), [each.reason for each in watch.standstills()]


def _stranded(platform: Platform) -> list[str]:
    """The lists of kombu's own transport that hold messages for this application."""
    engine = platform.broker.engine
    if engine is None:
        return []
    with platform.broker.guarded():
        lists = StockLists.of(engine)
        sizes = Counter(lists.sizes([*platform.broker.queues, CELERY_DEFAULT]))
    return [f"{queue} ({number})" for queue, number in sizes.items()]
