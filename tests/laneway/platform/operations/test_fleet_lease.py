"""A lease of the fleet: one holder at a time, and a successor soon after the holder has died."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import event

from laneway.engine import MessageState
from laneway.platform.db.queries import fleet_leases
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.operations import fleet_lease as lease_module
from laneway.platform.operations import maintenance as maintenance_module
from laneway.platform.operations.fleet_lease import FleetLease
from laneway.platform.operations.maintenance import COMPARE_EVERY, COMPARE_LEASE, TAKEOVER_AFTER
from tests.fixtures.platform import MovableClock, Platform

MAINTENANCE = "maintenance"
SECONDS = 10.0

Forward = Callable[[float], None]


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Forward:
    """Moves the time that each process measures. The clocks on the wall stay where they are."""
    moment = [0.0]
    monkeypatch.setattr(lease_module, "elapsed", lambda: moment[0])

    def move(seconds: float) -> None:
        moment[0] += seconds

    return move


def lease(database: Database, worker: str = "w1") -> FleetLease:
    return FleetLease(database, "test", worker=worker, seconds=SECONDS)


# --- the lease ----------------------------------------------------------------------------------------------


def test_one_process_holds_the_lease_until_it_gives_it_back(database: Database, forward: Forward) -> None:
    first, second = lease(database), lease(database, "w2")

    assert [first.hold(), second.hold(), first.hold(), second.hold()] == [True, False, True, False]
    second.release()
    assert [second.hold(), first.hold()] == [False, True], "only its holder can give it back"
    first.release()
    assert [second.hold(), first.hold()] == [True, False]


def test_a_free_lease_goes_to_one_of_several_processes(database: Database) -> None:
    together = Barrier(6)

    def hold(number: int) -> bool:
        own = lease(database, f"w{number}")
        together.wait(30)
        return own.hold()

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(hold, range(6))) == [False] * 5 + [True]


def test_the_lease_of_a_dead_process_goes_to_one_of_the_others(database: Database, forward: Forward) -> None:
    dead, others = lease(database), [lease(database, f"w{number}") for number in range(4)]
    assert dead.hold()
    assert not any(other.hold() for other in others)
    forward(SECONDS - 1)
    assert not any(other.hold() for other in others), "it may be alive"
    forward(1)

    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(FleetLease.hold, others))

    assert sorted(held) == [False] * 3 + [True]
    assert not dead.hold(), "it was suspended only, and its successor goes on"
    assert others[held.index(True)].hold()


def test_a_process_that_renews_its_lease_keeps_it(database: Database, forward: Forward) -> None:
    holder, other = lease(database), lease(database, "w2")
    for _ in range(5):
        assert [holder.hold(), other.hold()] == [True, False]
        forward(SECONDS - 1)
    assert holder.hold()


def test_clocks_that_are_wrong_or_set_change_nothing(
    database: Database, forward: Forward, movable_clock: MovableClock
) -> None:
    holder, other = lease(database), lease(database, "w2")
    for hours in (10, -20, 10):
        assert [holder.hold(), other.hold()] == [True, False]
        movable_clock.forward(hours * 3600)
        forward(1)
    assert [holder.hold(), other.hold()] == [True, False]


def test_a_process_that_was_started_again_waits_like_any_other(database: Database, forward: Forward) -> None:
    assert lease(database, "w1").hold()
    started_again = lease(database, "w1")

    assert not started_again.hold(), "the old one may still run"
    forward(SECONDS)
    assert started_again.hold()


def test_a_lease_whose_commit_was_not_confirmed_is_held_at_the_next_call(database: Database) -> None:
    holder = lease(database)
    with database.transaction() as session:
        assert fleet_leases.take(session, "test", holder=holder.holder, seen=None)

    assert holder.hold()


# --- the comparison of the history with the broker ------------------------------------------------------------


@pytest.fixture
def compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare tasks with the broker at once after they were sent."""
    monkeypatch.setattr(maintenance_module, "MISSING_AFTER", timedelta(seconds=-1))


@contextmanager
def statements(database: Database) -> Generator[list[str]]:
    """The statements that are executed in the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_one_worker_of_the_fleet_compares(platform: Platform, compared_at_once: None) -> None:
    id, workers = platform.chore(), [platform.maintenance(f"w{number}") for number in range(3)]
    workers[0].compare()
    for _ in range(2):
        platform.lose(MAINTENANCE)
        assert [worker.compare() for worker in workers] == [1, 0, 0]
        assert platform.places(MAINTENANCE) == {id: MessageState.READY}

    platform.lose(MAINTENANCE)
    with statements(platform.database) as seen:
        assert workers[1].compare() == 0
    assert [statement for statement in seen if not statement.startswith(("BEGIN", "SET"))] == [seen[-1]]
    assert "fleet_leases" in seen[-1]


def test_another_worker_compares_soon_after_the_first_has_died(
    platform: Platform, compared_at_once: None, forward: Forward
) -> None:
    id, dead, other = platform.chore(), platform.maintenance("dead"), platform.maintenance("other")
    assert [dead.compare(), other.compare()] == [0, 0]
    platform.lose(MAINTENANCE)
    waited, sent = 0.0, 0
    while not sent and waited < 10 * TAKEOVER_AFTER:
        forward(COMPARE_EVERY)
        waited, sent = waited + COMPARE_EVERY, other.compare()

    assert (sent, waited) == (1, TAKEOVER_AFTER)
    assert platform.places(MAINTENANCE) == {id: MessageState.READY}


def test_another_worker_compares_at_once_when_the_first_stops(
    platform: Platform, compared_at_once: None, forward: Forward
) -> None:
    platform.chore()
    stopped, other = platform.maintenance("stopped"), platform.maintenance("other")
    assert [stopped.compare(), other.compare()] == [0, 0]
    platform.lose(MAINTENANCE)

    stopped.stop()

    assert other.compare() == 1


def test_a_worker_that_cannot_reach_the_broker_leaves_the_comparison_to_another(
    platform: Platform, compared_at_once: None, forward: Forward
) -> None:
    platform.chore()
    cut_off, other = platform.maintenance("cut-off"), platform.maintenance("other")
    assert [cut_off.compare(), other.compare()] == [0, 0]
    platform.lose(MAINTENANCE)
    platform.valkey.stop()
    try:
        with pytest.raises(BrokerUnavailable):
            cut_off.compare()
    finally:
        platform.valkey.start()
    with platform.database.reading() as session:
        assert fleet_leases.read(session, COMPARE_LEASE) is None
    platform.lose(MAINTENANCE)

    assert other.compare() == 1
