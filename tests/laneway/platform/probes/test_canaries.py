"""Canaries: their schedules, what they say, the alert when one is late, and what leaves them out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.core.queues import QUEUES
from app.services.container import Services
from laneway.api.exposition import exposition
from laneway.platform import clock
from laneway.platform.celery_app import make_celery
from laneway.platform.current import platform_for_this_context
from laneway.platform.db.models import ScheduleFiring, StoredSchedule, TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.library_schedules import CANARY, canary_key, canary_schedules
from laneway.platform.platform import Platform as WholePlatform
from laneway.platform.probes.canaries import CanaryReading, read
from laneway.platform.probes.canary_task import Canary, pass_through_queue
from laneway.platform.registry import registry
from laneway.platform.schedules.entry import check_schedules
from laneway.platform.schedules.keeping import keep
from laneway.platform.settings import ProbeSettings, Settings
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.alerts import alerts_of, serve
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Environment, MovableClock, Platform

QUEUE = "crm"


@pytest.fixture
def send(platform: Platform) -> Callable[..., str]:
    """Store the schedules as Beat does, and return a function that sends a canary through a queue."""
    settings = platform.settings.model_copy(update={"probes": ProbeSettings(CANARY_SECONDS=60)})
    with make_celery("canaries", settings) as app:
        keep(platform.database, dict(app.conf.beat_schedule))

    def one(queue: str = QUEUE) -> str:
        return platform.tasks.submit(CANARY, {"queue": queue}, options=SubmitOptions(queue=queue)).task_id

    return one


def readings(platform: Platform) -> dict[str, CanaryReading]:
    platform.recorder.catch_up()
    with platform.database.reading() as session:
        return {reading.queue: reading for reading in read(session, now=clock.now())}


def test_each_queue_has_a_schedule_and_0_switches_them_off(platform_settings: Settings) -> None:
    def entries(seconds: int) -> dict[str, Any]:
        probes = ProbeSettings(CANARY_SECONDS=seconds)
        with make_celery("canaries", platform_settings.model_copy(update={"probes": probes})) as app:
            return dict(app.conf.beat_schedule)

    assert {entry["options"]["queue"] for entry in entries(60).values()} == set(QUEUES)
    assert entries(60)[canary_key(QUEUE)]["schedule"] == timedelta(seconds=60)
    assert entries(0) == {}


@pytest.mark.parametrize("value", ["5", "-1", "often"])
def test_canaries_do_not_come_too_often(environment: Environment, value: str) -> None:
    environment(CANARY_SECONDS=value)

    with pytest.raises(ValueError, match="CANARY_SECONDS"):
        ProbeSettings()


def test_the_schedules_fit_the_task(platform: Platform) -> None:
    check_schedules(canary_schedules(60), registry)
    assert registry.is_internal(CANARY), "nobody from outside submits canaries"
    assert platform.settings.probes.canary_seconds == 0, "other tests have none"


def test_a_canary_that_ran_says_how_long_it_took(
    platform: Platform, send: Callable[..., str], movable_clock: MovableClock
) -> None:
    id = send()
    waiting = readings(platform)[QUEUE]
    assert (waiting.start, waiting.end, waiting.id) == (None, None, id)
    movable_clock.forward(40)
    assert 40 <= readings(platform)[QUEUE].overdue < 60
    with platform.database.transaction() as session:
        run = session.scalars(select(TaskRun).where(TaskRun.id == id)).one()
        run.started_at, run.finished_at = run.accepted_at + timedelta(seconds=3), run.accepted_at + timedelta(seconds=5)
        run.state = TaskState.COMPLETED

    found = readings(platform)[QUEUE]

    assert (found.start, found.end, found.overdue, found.id) == (3, 5, 0, None)


def test_a_canary_that_expired_counts_from_its_submission(
    platform: Platform, send: Callable[..., str], movable_clock: MovableClock
) -> None:
    first = send()
    movable_clock.forward(3600)
    with platform.database.transaction() as session:
        ended = {"state": TaskState.EXPIRED, "finished_at": clock.now()}
        session.execute(update(TaskRun).where(TaskRun.id == first).values(**ended))
    send()

    assert (readings(platform)[QUEUE].id, readings(platform)[QUEUE].overdue > 3500) == (first, True)


@ONE_DATABASE
def test_a_queue_whose_canaries_are_paused_or_off_says_nothing(platform: Platform, send: Callable[..., str]) -> None:
    send()
    with platform.database.transaction() as session:
        for queue, column in ((QUEUE, "paused_at"), ("documents", "removed_at")):
            which = update(StoredSchedule).where(StoredSchedule.key == canary_key(queue))
            session.execute(which.values(**{column: clock.now()}))

    assert readings(platform).keys() == QUEUES.keys() - {QUEUE, "documents"}


def test_a_canary_deletes_those_of_its_queue_that_ended_long_ago(
    platform: Platform, services: Services, send: Callable[..., str], movable_clock: MovableClock
) -> None:
    old, other = send(), send("documents")
    with platform.database.transaction() as session:
        ended = {"state": TaskState.COMPLETED, "finished_at": clock.now()}
        session.execute(update(TaskRun).where(TaskRun.id.in_([old, other])).values(**ended))
        firing = {"due_at": clock.now(), "outcome": "sent", "decided_at": clock.now()}
        for queue in (QUEUE, "documents"):
            session.add(ScheduleFiring(schedule=canary_key(queue), **firing))
    movable_clock.forward(16 * 60)
    recent = send()
    with platform.database.transaction() as session:
        ended = {"state": TaskState.COMPLETED, "finished_at": clock.now()}
        session.execute(update(TaskRun).where(TaskRun.id == recent).values(**ended))

    with platform_for_this_context(services):
        assert pass_through_queue(Canary(queue=QUEUE)) == {"deleted": 1}

    with platform.database.reading() as session:
        assert set(session.scalars(select(TaskRun.id))) == {other, recent}
        assert session.scalars(select(ScheduleFiring.schedule)).all() == [canary_key("documents")]


def test_lists_and_statistics_leave_canaries_out_unless_they_are_asked_for(
    platform: Platform, services: Services, send: Callable[..., str]
) -> None:
    id, real = send(), platform.message("c-1")

    def listed(which: Filter) -> set[str]:
        return {task.task_id for task in platform.tasks.search(which)[0]}

    assert listed(Filter()) == {real}
    assert listed(Filter(queue=QUEUE)) == set()
    assert listed(Filter(name=CANARY)) == {id}
    assert listed(Filter(ids=(id,))) == {id}
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).values(state=TaskState.COMPLETED, finished_at=clock.now()))
        assert session.scalar(select(func.count()).select_from(TaskRun)) == 2
    window = services.statistics.window(3600)
    assert [*window.types] == ["process_conversation_message_task"]
    assert window.total.completed == 1
    assert [*services.statistics.window(3600, name=CANARY).types] == [CANARY]


def test_a_late_canary_is_an_alert_with_its_id_and_a_paused_queue_is_none(
    platform: Platform, services: Services, send: Callable[..., str], movable_clock: MovableClock
) -> None:
    alerts = alerts_of(platform)
    serve(platform, "first", *QUEUES)
    id = send()

    def message() -> str | None:
        movable_clock.forward(1)
        alerts.sweep()
        return next((alert.message for alert in alerts.listing() if alert.kind == "canary"), None)

    assert message() is None
    movable_clock.forward(301)
    told = message()
    assert told is not None
    assert told.startswith(
        f"the canary of the queue {QUEUE!r} has not ended for 5 minutes (ALERT_CANARY_SECONDS is 300)"
    )
    assert f"`laneway why {id}`" in told
    services.queue_limits.pause(QUEUE)
    assert message() is None


@ONE_DATABASE
def test_the_latency_is_a_metric(platform: Platform, services: WholePlatform, send: Callable[..., str]) -> None:
    id = send()
    with platform.database.transaction() as session:
        run = session.scalars(select(TaskRun).where(TaskRun.id == id)).one()
        run.started_at, run.finished_at = run.accepted_at + timedelta(seconds=3), run.accepted_at + timedelta(seconds=5)
        run.state = TaskState.COMPLETED

    text = exposition(services.metrics.read(), event_loop_lag=None).decode()

    for name, value in (("start", 3.0), ("end", 5.0), ("overdue", 0.0)):
        lines = [line for line in text.splitlines() if line.startswith(f"laneway_canary_{name}_seconds{{")]
        assert [line.split()[-1] for line in lines if f'"{QUEUE}"' in line] == [str(value)]
