"""What a firing does while a task of an earlier one has not ended, and what it refuses."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from app.services.container import Services
from laneway.engine import MessageState
from laneway.platform import clock
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.schedules import keeping
from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.earlier_tasks import Earlier
from laneway.platform.schedules.firing import OPERATOR
from laneway.platform.schedules.keeping import settled_until
from laneway.platform.schedules.runner import ScheduleRunner
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform

MINUTE = 60


@pytest.fixture
def runner(platform: Platform, services: Services, movable_clock: MovableClock) -> Generator[ScheduleRunner]:
    del movable_clock
    platform.broker.prepare()
    platform.app.conf.beat_schedule = {}  # pyright: ignore[reportAttributeAccessIssue]
    made = ScheduleRunner(platform.app, services.database, services.broker, services.tasks)
    yield made
    made.close()


def store(platform: Platform, key: str = "sweep", **fields: Any) -> None:
    """Store a schedule of an operator that is due each minute."""
    definition, now = Definition(**{"task": "cleanup_old_data_task", "cron": "* * * * *"} | fields), clock.now()
    row = StoredSchedule(key=key, source=OPERATOR, definition=definition.as_json(), changed_at=now)
    for name, value in settled_until(key, definition, now).items():
        setattr(row, name, value)
    with platform.database.transaction() as session:
        session.add(row)


def fire(runner: ScheduleRunner, movable_clock: MovableClock, *, times: int = 1) -> None:
    for _ in range(times):
        movable_clock.forward(MINUTE)
        runner.run()


def firings(platform: Platform, key: str = "sweep") -> list[tuple[str, str | None]]:
    """Outcome and reason of each, the first one first."""
    with platform.database.reading() as session:
        return [(each.outcome, each.reason) for each in reversed(queries.last_firings(session, key))]


def states(platform: Platform) -> list[str]:
    with platform.database.reading() as session:
        ids = queries.last_tasks(session, "sweep")
    return [platform.tasks.current(id).state for id in reversed(ids)]


def test_allow_sends_beside_an_earlier_task(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform)
    fire(runner, movable_clock, times=2)
    assert len(platform.messages("maintenance")) == 2


def test_skip_leaves_a_firing_out_until_the_earlier_task_has_ended(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, overlap="skip")
    fire(runner, movable_clock, times=2)
    (task,) = platform.messages("maintenance")
    id = task.stored.message.task_id
    assert firings(platform) == [("sent", None), ("skipped", f"the task {id} of an earlier firing has not ended")]
    platform.tasks.cancel(id)
    fire(runner, movable_clock)
    assert [outcome for outcome, _ in firings(platform)] == ["sent", "skipped", "sent"]


def test_queue_runs_one_after_the_other(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, overlap="queue")
    fire(runner, movable_clock, times=3)
    assert len(platform.messages("maintenance")) == 1
    assert len(platform.messages("maintenance", MessageState.HELD)) == 2


def test_replace_cancels_the_earlier_task(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, overlap="replace")
    fire(runner, movable_clock, times=2)
    assert states(platform) == [TaskState.CANCELLED, TaskState.PENDING]


def test_all_sends_each_firing_that_was_missed_under_its_own_time(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, missed="all", window=180)
    store(platform, key="late", missed="skip", cron="0 0 1 1 *", start=(clock.now()).isoformat())
    runner.run()
    movable_clock.forward(10 * MINUTE)
    runner.run()
    runner.run()
    assert [outcome for outcome, _ in firings(platform)] == ["sent"] * 3
    assert len({message.stored.message.task_id for message in platform.messages("maintenance")}) == 3


def test_skip_of_missed_firings_says_so(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, missed="skip", cron="0 * * * *")
    runner.run()
    movable_clock.forward(3600)
    movable_clock.forward(62)
    at = clock.now()
    runner.run()
    if at.minute * 60 + at.second <= 60:  # it came due within the last minute
        assert [outcome for outcome, _ in firings(platform)] == ["sent"]
    else:
        assert firings(platform) == [("missed", "no scheduler acted in time, and the policy is `skip`")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"task": "gone_task"}, "UnknownTaskType: "),
        ({"task": "tell_about_alerts_task"}, "InternalTask: "),
        ({"payload": {"nonsense": 1}}, "InvalidPayload: "),
        ({"queue": "nowhere"}, "UnknownQueue: "),
    ],
)
def test_what_may_not_be_submitted_is_refused_with_its_reason_and_the_next_one_is_tried(
    fields: dict[str, Any], reason: str, platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, **fields)
    store(platform, key="other")
    fire(runner, movable_clock, times=2)
    assert [outcome for outcome, _ in firings(platform)] == ["refused"] * 2
    assert all((text or "").startswith(reason) for _, text in firings(platform))
    assert [outcome for outcome, _ in firings(platform, "other")] == ["sent"] * 2


def test_a_schedule_that_is_paused_meanwhile_does_not_fire(
    platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(platform)
    movable_clock.forward(MINUTE)
    reads = queries.due

    def read_and_pause(*arguments: Any, **values: Any) -> Any:
        found = reads(*arguments, **values)
        with platform.database.transaction() as session:
            row = queries.find(session, "sweep", lock=True)
            assert row is not None
            row.paused_at = clock.now()
        return found

    monkeypatch.setattr(queries, "due", read_and_pause)
    runner.run()
    assert firings(platform) == []
    assert keeping.definition_in(_row(platform)) is not None


def _row(platform: Platform) -> StoredSchedule:
    with platform.database.reading() as session:
        found = queries.find(session, "sweep")
    assert found is not None
    return found


def test_a_schedule_ends_at_its_end(platform: Platform, runner: ScheduleRunner, movable_clock: MovableClock) -> None:
    end = clock.now().replace(second=0, microsecond=0) + timedelta(minutes=2)
    store(platform, end=end.isoformat())
    fire(runner, movable_clock, times=5)
    assert [outcome for outcome, _ in firings(platform)] == ["sent"] * 2
    assert _row(platform).next_at is None


def test_a_firing_that_a_run_by_hand_overtakes_is_decided_once_more(
    platform: Platform, services: Services, runner: ScheduleRunner, movable_clock: MovableClock
) -> None:
    store(platform, overlap="skip")
    earlier = runner._firings._earlier  # pyright: ignore[reportPrivateUsage]
    look, by_hand = earlier.of, list[str]()

    def look_and_be_overtaken(key: str) -> Earlier:
        found = look(key)
        if not by_hand:
            by_hand.append(services.schedules.run(key))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earlier, "of", look_and_be_overtaken)
        fire(runner, movable_clock)
    assert sorted(outcome for outcome, _ in firings(platform)) == ["sent", "skipped"]
    assert len(platform.messages("maintenance")) == 1
