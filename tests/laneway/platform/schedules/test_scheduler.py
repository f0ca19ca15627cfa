"""Beat's scheduler while servers go away and come back, clocks are set, and another Beat takes over."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from app.services.container import Services
from laneway.platform import clock
from laneway.platform.current import platform_for_this_context
from laneway.platform.db.models import ScheduleFiring, StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.operations.fleet_lease import FleetLease
from laneway.platform.schedules import firing, keeping, runner, scheduler
from laneway.platform.schedules.scheduler import RETRY_SECONDS, BeatScheduler
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.server_troubles import Trouble, full, no_replicas, replica
from tests.fixtures.waiting import wait_until

DAY = 86_400
Make = Callable[[], BeatScheduler]
pytestmark = pytest.mark.usefixtures("movable_clock")


@pytest.fixture
def make(platform: Platform, services: Services, monkeypatch: pytest.MonkeyPatch) -> Generator[Make]:
    """Makes a Beat with one schedule, which is due each day."""
    for module in (scheduler, runner, firing, keeping):
        monkeypatch.setattr(module, "log", module.logger("test"))
    monkeypatch.setattr(runner, "KEEP_EVERY", 0.0)
    platform.app.conf.beat_schedule = {"chore": daily("maintenance")}  # pyright: ignore[reportAttributeAccessIssue]
    platform.broker.prepare()
    made: list[BeatScheduler] = []

    def make_one() -> BeatScheduler:
        made.append(BeatScheduler(platform.app, max_interval=2))
        return made[-1]

    with platform_for_this_context(services):
        yield make_one
        for beat in made:
            beat.close()


def daily(queue: str, **policy: Any) -> dict[str, Any]:
    entry = {"task": "cleanup_old_data_task", "schedule": timedelta(days=1), "options": {"queue": queue}}
    return entry | ({"laneway": policy} if policy else {})


def stored(platform: Platform, key: str = "chore") -> StoredSchedule:
    with platform.database.reading() as session:
        found = queries.find(session, key)
    assert found is not None
    return found


def outcomes(platform: Platform, key: str = "chore") -> list[str]:
    """What became of the firings, the last one first."""
    with platform.database.reading() as session:
        return [each.outcome for each in queries.last_firings(session, key)]


def sent(platform: Platform) -> int:
    return len(platform.messages("maintenance"))


@contextmanager
def away(platform: Platform) -> Generator[None]:
    platform.valkey.stop()
    try:
        yield
    finally:
        platform.valkey.start()


def test_a_schedule_fires_once_under_an_id_of_its_key_and_time(
    platform: Platform, make: Make, movable_clock: MovableClock
) -> None:
    beat = make()
    for _ in range(3):
        beat.tick()
    assert sent(platform) == 0
    movable_clock.forward(DAY)
    for _ in range(3):
        beat.tick()

    (message,) = platform.messages("maintenance")
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert message.stored.message.task_id == f"schedule:chore:{midnight:%Y-%m-%d}T00:00:00Z"
    row = platform.row(message.stored.message.task_id)
    assert (row.name, row.queue) == ("cleanup_old_data_task", "maintenance")
    assert stored(platform).last_due_at == midnight


def test_what_came_due_while_the_broker_was_away_is_sent_once_when_it_is_back(
    platform: Platform, make: Make, movable_clock: MovableClock
) -> None:
    beat = make()
    beat.tick()
    with away(platform), capture_logs() as logs:
        movable_clock.forward(3 * DAY)
        assert [beat.tick() for _ in range(3)] == [RETRY_SECONDS] * 3
        assert beat.problem == "The broker cannot be used."
    assert [entry["event"].startswith("The broker is away. Beat goes on") for entry in logs] == [True]

    with capture_logs() as logs:
        for _ in range(3):
            beat.tick()

    assert sent(platform) == 1
    assert beat.problem is None
    assert sum(entry["event"].startswith("The broker is back after") for entry in logs) == 1


def test_a_task_whose_broker_went_away_while_it_was_sent_is_sent_by_the_relay(
    platform: Platform, make: Make, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    beat.tick()
    movable_clock.forward(DAY)
    add_firing = queries.add_firing

    def add_and_lose_the_broker(*arguments: Any, **values: Any) -> bool:
        platform.valkey.stop()
        return add_firing(*arguments, **values)

    with monkeypatch.context() as patched:
        patched.setattr(queries, "add_firing", add_and_lose_the_broker)
        beat.tick()
    platform.valkey.start()
    assert outcomes(platform) == ["sent"]
    movable_clock.forward(10)
    wait_until(lambda: platform.tasks.outbox.relay() or sent(platform), seconds=20)
    beat.tick()
    assert sent(platform) == 1


def test_while_the_database_is_away_beat_says_so_once_and_goes_on(
    platform: Platform, make: Make, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    beat.tick()
    movable_clock.forward(DAY)

    def refuse(_lease: FleetLease) -> bool:
        raise DatabaseUnavailable("it does not answer")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(FleetLease, "hold", refuse)
        assert [beat.tick() for _ in range(3)] == [RETRY_SECONDS] * 3
        assert beat.problem == "The database cannot be used."
    assert [entry["event"].startswith("The database is away. Beat goes on") for entry in logs] == [True]
    beat.tick()
    assert sent(platform) == 1


def test_one_beat_sends_and_the_other_takes_over_when_it_stops_or_stands_still(
    platform: Platform, make: Make, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LEASE_SECONDS", 1.0)
    first, second = make(), make()
    first.tick()
    with capture_logs() as logs:
        assert [second.tick(), second.tick()] == [second.max_interval] * 2
    lines = [entry["event"] for entry in logs]
    assert lines == ["Another Beat sends the schedules; this one waits for its lease."]

    movable_clock.forward(DAY)
    wait_until(lambda: second.tick() and second.leads, seconds=20)  # the first one stands still
    first.tick()
    assert (first.leads, second.leads, sent(platform)) == (False, True, 1)
    second.close()
    movable_clock.forward(DAY)
    first.tick()
    assert (first.leads, sent(platform)) == (True, 2)


def test_two_beats_that_act_at_the_same_time_send_once(
    platform: Platform, make: Make, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FleetLease, "hold", lambda _self: True)  # pyright: ignore[reportUnknownLambdaType]
    beats = [make(), make()]
    for beat in beats:
        beat.tick()
    movable_clock.forward(DAY)
    decide = runner.decide

    def decide_while_the_other_acts(*arguments: Any, **values: Any) -> Any:
        decision = decide(*arguments, **values)
        monkeypatch.setattr(runner, "decide", decide)
        beats[1].tick()
        return decision

    monkeypatch.setattr(runner, "decide", decide_while_the_other_acts)
    beats[0].tick()
    assert (sent(platform), outcomes(platform)) == (1, ["sent"])


@pytest.mark.parametrize("back", [DAY * 5, DAY // 2], ids=["days", "hours"])
def test_a_clock_that_is_set_back_sends_nothing_twice(
    back: int, platform: Platform, make: Make, movable_clock: MovableClock
) -> None:
    beat = make()
    beat.tick()
    movable_clock.forward(DAY)
    beat.tick()
    movable_clock.forward(-back)
    with capture_logs() as logs:
        beat.tick()
    lines = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    assert all("a clock was ahead" in line for line in lines)
    for _ in range(back // DAY + 2):
        movable_clock.forward(DAY // 2)
        beat.tick()
        beat.tick()
    with platform.database.reading() as session:
        fired: list[datetime] = [each.due_at for each in queries.last_firings(session, "chore")]
    assert (
        len(set(fired))
        == len(fired)
        == len({message.stored.message.task_id for message in platform.messages("maintenance")})
    )
    assert len(platform.messages("maintenance")) == len(fired)


def test_a_schedule_that_a_clock_ahead_has_settled_is_due_again(
    platform: Platform, make: Make, movable_clock: MovableClock
) -> None:
    beat = make()
    beat.tick()
    with platform.database.transaction() as session:
        row = queries.find(session, "chore", lock=True)
        assert row is not None
        row.decided_until = row.next_at = clock.now() + timedelta(days=400)
    with capture_logs() as logs:
        beat.tick()
    (line,) = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    assert line.startswith("chore is settled until ") and "a clock was ahead" in line
    movable_clock.forward(DAY)
    beat.tick()
    assert sent(platform) == 1


def test_a_small_difference_between_two_clocks_is_left_alone(platform: Platform, make: Make) -> None:
    beat = make()
    beat.tick()
    ahead = clock.now() + timedelta(seconds=20)
    with platform.database.transaction() as session:
        row = queries.find(session, "chore", lock=True)
        assert row is not None
        row.decided_until = ahead
    beat.tick()
    assert stored(platform).decided_until == ahead


@pytest.mark.parametrize("trouble", [no_replicas, replica, full])
def test_what_came_due_while_the_server_refused_is_sent_once(
    trouble: Trouble, platform: Platform, make: Make, movable_clock: MovableClock
) -> None:
    beat = make()
    beat.tick()
    movable_clock.forward(DAY)
    with redis.Redis(port=platform.valkey.port) as admin, trouble(admin, platform.valkey.folder):
        for _ in range(3):
            beat.tick()
    movable_clock.forward(10)
    wait_until(lambda: beat.tick() and (platform.tasks.outbox.relay() or sent(platform)), seconds=20)
    beat.tick()
    assert sent(platform) == 1


def test_a_schedule_that_cannot_be_sent_stops_neither_beat_nor_the_others(
    platform: Platform, make: Make, movable_clock: MovableClock
) -> None:
    app: Any = platform.app
    app.conf.beat_schedule |= {
        "a-bad": daily("no such queue"),
        "b-strange": daily("analytics") | {"schedule": "each full moon"},
        "c-zone": daily("analytics", timezone="Mars"),
    }
    beat = make()
    beat.tick()
    with platform.database.transaction() as session:
        session.add(
            StoredSchedule(
                key="damaged",
                source="operator",
                definition={"cron": []},
                decided_until=clock.now(),
                next_at=clock.now(),
                changed_at=clock.now(),
            )
        )
    movable_clock.forward(DAY)
    for _ in range(2):
        beat.tick()
    assert sent(platform) == 1
    assert outcomes(platform, "a-bad") == ["refused"]
    assert (stored(platform, "a-bad").problem or "").startswith("UnknownQueue: ")
    assert "str cannot be kept" in (stored(platform, "b-strange").problem or "")
    assert "no time zone 'Mars'" in (stored(platform, "c-zone").problem or "")
    assert "cannot be read" in (stored(platform, "damaged").problem or "")


def test_a_task_of_celery_is_sent_as_celery_does(platform: Platform, make: Make, movable_clock: MovableClock) -> None:
    app: Any = platform.app
    options = {"queue": "maintenance", "priority": 2}
    app.conf.beat_schedule = {
        "plain": {"task": "plain", "schedule": timedelta(days=1), "args": (1,), "options": options}
    }
    beat = make()
    beat.tick()
    movable_clock.forward(DAY)
    beat.tick()
    beat.tick()
    (message,) = platform.messages("maintenance")
    assert message.stored.message.name == "plain"
    assert message.stored.message.task_id.startswith("schedule:plain:")


def test_a_beat_that_stops_while_the_broker_is_away_ends_without_an_error(platform: Platform, make: Make) -> None:
    beat = make()
    beat.tick()
    with away(platform), capture_logs() as logs:
        beat.close()
        beat.close()
    assert logs == []


def test_a_signal_within_a_tick_ends_it_and_leaves_the_firing_to_the_next_beat(
    platform: Platform, make: Make, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = make()
    beat.tick()
    movable_clock.forward(DAY)
    add_firing = queries.add_firing

    def add_and_get_a_signal(*arguments: Any, **values: Any) -> bool:
        add_firing(*arguments, **values)
        beat.close()  # as Celery's handler of SIGTERM does
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(queries, "add_firing", add_and_get_a_signal)
        beat.tick()
    beat.close()
    assert outcomes(platform) == []
    other = make()
    other.tick()
    assert (other.leads, outcomes(platform), sent(platform)) == (True, ["sent"], 1)


def test_firings_are_kept_by_schedule(platform: Platform) -> None:
    now = clock.now()
    with platform.database.transaction() as session:
        for key, number in (("often", 30), ("rare", 5)):
            for n in range(number):
                at = now - timedelta(days=n)
                queries.add_firing(session, schedule=key, due_at=at, outcome="sent", decided_at=at)
        assert queries.delete_firings(session, before=now - timedelta(days=4.5), limit=12) == 12
        assert queries.delete_firings(session, before=now - timedelta(days=4.5), limit=12) == 8
        assert queries.delete_firings(session, before=now - timedelta(days=4.5), limit=12) == 0
        assert len(queries.last_firings(session, "often", limit=99)) == 10
        assert len(queries.last_firings(session, "rare", limit=99)) == 5
        assert not queries.add_firing(session, schedule="rare", due_at=now, outcome="sent", decided_at=now)
        assert session.get(ScheduleFiring, ("rare", now)) is not None
