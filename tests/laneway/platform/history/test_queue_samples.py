"""What the queues look like now, and what they looked like at an earlier minute."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select

from app.services.container import Services
from laneway.platform import clock
from laneway.platform.db.models import QueueSample
from laneway.platform.db.queries import overview as queries
from laneway.platform.history.overview import Overview, QueueOverview
from laneway.platform.history.queue_samples import QueueSamples
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform


def queue(overview: Overview | None, name: str) -> QueueOverview:
    """One queue of an overview."""
    assert overview is not None
    return next(each for each in overview.queues if each.name == name)


def test_the_overview_counts_what_waits_runs_and_is_held(services: Services, platform: Platform) -> None:
    platform.message("c-1")
    platform.message("c-1")
    platform.start()
    platform.message("c-2")
    platform.chore(delay=600)

    found = services.overviews.now()

    busy = queue(found, "conversations")
    assert (busy.waiting, busy.running, busy.held, busy.accepted) == (1, 1, 1, 3)
    assert queue(found, "maintenance").scheduled == 1
    assert (found.total.running, found.total.accepted, found.broker_answers) == (1, 4, True)


def test_without_the_broker_the_database_counts(services: Services, platform: Platform) -> None:
    platform.message("c-1")
    platform.valkey.stop()

    found = services.overviews.now()

    assert (queue(found, "conversations").waiting, found.broker_answers) == (1, False)


def test_dead_letters_are_counted_until_they_are_discarded(services: Services, platform: Platform) -> None:
    id = platform.brought_to(TaskState.DEAD_LETTER)
    assert services.overviews.now().total.dead == 1

    with services.database.transaction() as session:
        queries.count_in(session, [TaskState.DEAD_LETTER])
        run = platform.row(id)
        session.merge(run).trashed_at = clock.now()

    assert services.overviews.now().total.dead == 0


def test_a_minute_is_stored_once_by_whoever_comes_first(services: Services, platform: Platform) -> None:
    platform.message("c-1")
    for samples in (services.queue_samples, QueueSamples(services.database, services.overviews)):
        samples.take_if_due()
        samples.take_if_due()

    with services.database.reading() as session:
        numbers = session.execute(select(QueueSample.queue, func.count()).group_by(QueueSample.queue)).all()
    assert {number for _, number in numbers} == {1}
    assert queue(services.queue_samples.at(clock.now()), "conversations").waiting == 1


def test_there_is_nothing_to_see_of_a_time_without_samples(services: Services) -> None:
    services.queue_samples.take_if_due()

    assert services.queue_samples.at(clock.now() - timedelta(days=1)) is None


def test_the_series_has_a_gap_where_no_sample_is(services: Services) -> None:
    now = clock.now().replace(second=0, microsecond=0)
    figures = dict.fromkeys(("running", "scheduled", "held", "dead", "workers"), 0)
    flows = {"oldest_seconds": None, "paused": False, "completed": 2, "failed": 1}
    with services.database.transaction() as session:
        for minutes, waiting in ((10, 5), (9, 7)):
            for name in ("crm", "qa"):
                minute = now - timedelta(minutes=minutes)
                session.add(QueueSample(queue=name, minute=minute, waiting=waiting, accepted=3, **figures, **flows))

    series = services.queue_samples.series(timedelta(hours=1))

    points = dict(zip(series.at, zip(series.accepted, series.failed, series.waiting, strict=True), strict=True))
    assert points[int((now - timedelta(minutes=10)).timestamp())] == (6, 2, 10)
    assert points[int((now - timedelta(minutes=9)).timestamp())] == (6, 2, 14)
    assert points[int((now - timedelta(minutes=8)).timestamp())] == (None, None, None)


def test_samples_are_deleted_after_eight_days(services: Services) -> None:
    now = clock.now().replace(second=0, microsecond=0)
    figures = dict.fromkeys(("waiting", "running", "scheduled", "held", "dead", "workers"), 0)
    flows = {"oldest_seconds": None, "paused": False, "accepted": 0, "completed": 0, "failed": 0}
    with services.database.transaction() as session:
        for days in (7, 9):
            session.add(QueueSample(queue="crm", minute=now - timedelta(days=days), **figures, **flows))

    assert services.retention.sweep(now=now)["queue_samples"] == 1
    with services.database.reading() as session:
        assert session.scalars(select(QueueSample.minute)).all() == [now - timedelta(days=7)]
