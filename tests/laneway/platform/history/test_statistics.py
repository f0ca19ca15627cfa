"""Statistics of a window of time, computed in the database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, literal, select, union_all

from app.services.container import Services
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import statistics as repository
from laneway.platform.db.queries.durations import Period, measure
from laneway.platform.db.queries.statistics import EndedFilter, GroupBy
from laneway.platform.db.session import Database
from laneway.platform.history import statistics as statistics_module
from laneway.schemas.task import TaskState

ENDS = (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.CANCELLED, TaskState.EXPIRED)


def add(
    database: Database,
    *,
    state: TaskState = TaskState.COMPLETED,
    ago: float = 60,
    waited: float = 1,
    worked: float = 2,
    queue: str = "webhooks",
    name: str = "task_a",
    attempts: int = 1,
    ready: float | None = None,
    now: datetime | None = None,
) -> None:
    """Add a task that ended `ago` seconds ago, after it waited and worked. `ready`: seconds from due to started."""
    finished = (now or clock.now()) - timedelta(seconds=ago)
    started = finished - timedelta(seconds=worked)
    with database.transaction() as session:
        number = session.scalar(select(TaskRun.seq).order_by(TaskRun.seq.desc()).limit(1)) or 0
        session.execute(
            insert(TaskRun).values(
                id=f"t{number}",
                name=name,
                queue=queue,
                priority=1,
                payload={},
                fingerprint="f",
                state=state,
                attempts=attempts,
                max_retries=3,
                accepted_at=started - timedelta(seconds=waited),
                started_at=started,
                finished_at=finished,
                ready_at=None if ready is None else started - timedelta(seconds=ready),
            )
        )


def test_the_window_counts_the_tasks_that_ended_in_it_by_how_they_ended(services: Services) -> None:
    for state in ENDS:
        add(services.database, state=state)
    add(services.database, attempts=2)
    add(services.database, ago=3700)

    window = services.statistics.window(3600)

    total = window.total
    assert (total.completed, total.failed, total.dead, total.cancelled, total.expired, total.retried) == (
        2,
        1,
        1,
        1,
        1,
        1,
    )
    assert total.success_rate == 0.5
    assert total.throughput == pytest.approx(2 / 3600, abs=1e-4)
    assert (window.seconds, window.measured_since) == (3600, window.since)
    assert (window.until - window.since).total_seconds() == 3600


def test_each_queue_and_each_task_name_has_its_own_figures(services: Services) -> None:
    add(services.database, queue="webhooks", name="task_a", worked=1)
    add(services.database, queue="webhooks", name="task_b", worked=3)
    add(services.database, queue="crm", name="task_b", worked=5, state=TaskState.FAILED)

    window = services.statistics.window()

    assert {name: (one.completed, one.failed) for name, one in window.queues.items()} == {
        "webhooks": (2, 0),
        "crm": (0, 1),
    }
    assert {name: one.processing_seconds.mean for name, one in window.types.items()} == {"task_a": 1.0, "task_b": 4.0}
    assert (window.queues["crm"].success_rate, window.queues["webhooks"].success_rate) == (0.0, 1.0)


def test_a_window_may_be_limited_to_a_queue_or_a_task_name(services: Services) -> None:
    add(services.database, queue="webhooks", name="task_a")
    add(services.database, queue="crm", name="task_a")
    add(services.database, queue="crm", name="task_b")

    assert services.statistics.window(queue="crm").total.completed == 2
    assert services.statistics.window(name="task_a").total.completed == 2
    one = services.statistics.window(queue="crm", name="task_b")
    assert (one.total.completed, list(one.queues), list(one.types)) == (1, ["crm"], ["task_b"])


def test_waiting_is_measured_to_the_start_and_processing_to_the_end(services: Services) -> None:
    for number in range(1, 21):
        add(services.database, waited=number / 10, worked=number)

    total = services.statistics.window().total

    assert (total.waiting_seconds.count, total.waiting_seconds.mean, total.waiting_seconds.p95) == (20, 1.05, 1.9)
    processing = total.processing_seconds
    assert (processing.count, processing.mean, processing.p50, processing.p95) == (20, 10.5, 10.0, 19.0)


def test_a_delay_is_no_waiting_time_and_a_retry_waits_again(services: Services) -> None:
    add(services.database, waited=3600, ready=1)
    add(services.database, waited=7200, ready=3, attempts=2)

    waiting = services.statistics.window().total.waiting_seconds

    assert (waiting.count, waiting.mean, waiting.p95) == (2, 2.0, 3.0)


def test_a_retried_task_without_a_ready_time_has_no_waiting_time(services: Services) -> None:
    """Such rows were written before `ready_at` existed."""
    add(services.database, waited=100, attempts=2)

    total = services.statistics.window().total

    assert (total.waiting_seconds.count, total.waiting_seconds.mean) == (0, None)
    assert total.processing_seconds.count == 1


def test_an_empty_window_has_no_rates_and_no_durations(services: Services) -> None:
    window = services.statistics.window()

    assert (window.total.success_rate, window.total.throughput, window.total.processing_seconds.p95) == (None, 0, None)
    assert (window.queues, window.types) == ({}, {})


def test_only_the_newest_tasks_are_counted_and_the_window_says_since_when(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics_module, "MAX_COUNTED", 6)
    monkeypatch.setattr(statistics_module, "MAX_MEASURED", 3)
    now = clock.now()
    for number in range(10):
        add(services.database, ago=100 * (number + 1), worked=number + 1, now=now)

    window = services.statistics.window(3600)

    assert window.total.completed == 6
    assert window.total.processing_seconds.count == 3
    assert window.total.processing_seconds.mean == 2.0
    assert 600 < window.seconds < 705
    assert (window.until - window.since).total_seconds() == pytest.approx(window.seconds)
    assert window.since < window.measured_since


@given(values=st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
def test_percentiles_are_by_nearest_rank(percentile_database: Database, values: list[int]) -> None:
    """Durations are whole microseconds. The 95th percentile of n sorted durations is number ceil(0.95 n)."""
    rows = union_all(*(select(literal("g").label("name"), literal(value).label("duration")) for value in values))
    taken = rows.subquery()

    with percentile_database.reading() as session:
        found = measure(session, select(taken.c.name, taken.c.duration))["g"]

    ranked = sorted(values)
    assert found.count == len(values)
    assert found.p50 == round(ranked[ceil(len(values) * 50 / 100) - 1] / 1e6, 6)
    assert found.p95 == round(ranked[-(-len(values) * 95 // 100) - 1] / 1e6, 6)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def percentile_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A database; its tables do not matter."""
    if request.param == "postgresql":
        return request.getfixturevalue("emptied_postgresql").database
    return Database(f"sqlite:///{tmp_path_factory.mktemp('percentiles') / 'any.db'}")


def test_groups_are_named_after_queues_and_tasks(services: Services) -> None:
    period = Period(clock.now() - timedelta(hours=1), clock.now())
    add(services.database)

    with services.database.reading() as session:
        assert repository.last_beyond(session, EndedFilter(period), limit=1) is None
        assert repository.last_beyond(session, EndedFilter(period), limit=0) is not None
        assert list(repository.count_ends(session, EndedFilter(period))) == [
            (GroupBy.TOTAL, "all"),
            (GroupBy.QUEUE, "webhooks"),
            (GroupBy.NAME, "task_a"),
        ]
