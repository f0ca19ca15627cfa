"""What the steward does so that no task is forgotten; each job called by itself, and once the thread for real."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from app.core import catalog, clock
from app.core.errors import BrokerUnavailable
from app.core.retry import RetryPolicy
from app.db.repositories import task_runs, webhooks
from app.schemas.task import State
from app.services import steward as steward_module
from app.services.executions import Executions, Raised
from app.services.steward import Steward
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.waiting import wait_until

LEASE_AND_MORE = 20.0


@pytest.fixture
def soon_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and is in no queue counts as lost at once."""
    monkeypatch.setattr(steward_module, "LOST_AFTER", timedelta(seconds=-1))


def test_a_scheduled_task_is_sent_when_it_is_due_and_not_before(
    platform: Platform, movable_clock: MovableClock
) -> None:
    id, steward = platform.chore(delay=60), platform.steward()
    movable_clock.forward(59)
    assert steward.send_due() == 0
    movable_clock.forward(2)

    assert steward.send_due() == 1

    assert (platform.state(id), platform.row(id).due_at) == (State.PENDING, None)
    assert platform.sent("maintenance") == [id]
    assert steward.send_due() == 0


def test_due_tasks_are_sent_once_by_several_stewards_at_once(platform: Platform, movable_clock: MovableClock) -> None:
    ids = [platform.chore(delay=1) for _ in range(20)]
    movable_clock.forward(2)

    assert sum(at_once(platform, Steward.send_due)) == len(ids)
    assert sorted(platform.sent("maintenance")) == sorted(ids)


def test_a_due_task_that_was_cancelled_meanwhile_is_not_sent(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.chore(delay=1)
    movable_clock.forward(2)
    with platform.database.reading() as session:
        (run,) = task_runs.due(session, now=clock.now())
    platform.tasks.cancel(id)

    assert platform.tasks.send(run) is False
    assert platform.sent("maintenance") == []


def test_a_due_task_that_could_not_be_sent_is_sent_later(platform: Platform, movable_clock: MovableClock) -> None:
    id, steward = platform.chore(delay=1), platform.steward()
    movable_clock.forward(2)
    platform.valkey.stop()
    with pytest.raises(BrokerUnavailable):
        steward.send_due()
    platform.valkey.start()
    assert platform.sent("maintenance") == []
    movable_clock.forward(30)

    assert steward.send_lost() == 1
    assert platform.sent("maintenance") == [id]


def test_a_held_task_that_nobody_released_is_sent(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker died between settling the head and releasing the next."""
    first, second = platform.message(), platform.message()
    head = platform.start(first)
    platform.refusal(second)
    platform.lose("conversations")
    with monkeypatch.context() as dying:
        dying.setattr(Executions, "_release", forgotten)
        platform.end(head)
    assert platform.sent() == []

    assert sum(at_once(platform, Steward.send_released)) == 1
    assert platform.sent() == [second]


def test_a_held_task_whose_turn_has_not_come_is_not_sent(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    platform.start(first)
    platform.refusal(second)

    assert platform.steward().send_released() == 0
    assert platform.state(second) == State.HELD


# --- dead workers -------------------------------------------------------------------------------------------


def test_a_task_of_a_dead_worker_is_taken_over_and_run_again(platform: Platform, movable_clock: MovableClock) -> None:
    id, steward = platform.chore(), platform.steward()
    platform.start(id, worker="dead-worker")
    platform.lose("maintenance")
    assert steward.take_over() == 0, "its lease holds"
    movable_clock.forward(LEASE_AND_MORE)

    assert steward.take_over() == 1

    row = platform.row(id)
    assert (row.state, row.error_type, row.attempts) == ("scheduled", "WorkerLost", 1)
    assert "dead-worker" in (row.error or "")
    assert steward.send_due() == 1, "at once"
    assert platform.sent("maintenance") == [id]
    assert platform.start(id).attempts == 2


def test_a_task_that_kills_its_workers_ends_as_a_dead_letter(platform: Platform, movable_clock: MovableClock) -> None:
    id, steward = platform.chore(), platform.steward()
    for _ in range(platform.settings.tasks.max_retries + 1):
        platform.start(id)
        movable_clock.forward(LEASE_AND_MORE)
        assert steward.take_over() == 1
        steward.send_due()

    row = platform.row(id)
    assert (row.state, row.error_type, row.attempts) == ("dead_letter", "WorkerLost", row.max_retries + 1)


def test_a_key_goes_on_when_its_heads_worker_died_for_good(platform: Platform, movable_clock: MovableClock) -> None:
    first, second = platform.message(), platform.message()
    platform.start(first)
    platform.refusal(second)
    with platform.database.transaction() as session:
        run = task_runs.find(session, first)
        assert run is not None
        run.max_retries = 0
    platform.lose("conversations")
    movable_clock.forward(LEASE_AND_MORE)
    platform.steward().take_over()

    assert platform.state(first) == State.DEAD_LETTER
    assert platform.sent() == [second]


def test_a_cancelled_task_of_a_dead_worker_is_cancelled(platform: Platform, movable_clock: MovableClock) -> None:
    run = platform.start(platform.chore())
    platform.tasks.cancel(run.id)
    movable_clock.forward(LEASE_AND_MORE)

    platform.steward().take_over()

    assert platform.state(run.id) == State.CANCELLED


def test_several_stewards_take_a_task_over_once(platform: Platform, movable_clock: MovableClock) -> None:
    ids = [platform.start(platform.chore()).id for _ in range(10)]
    movable_clock.forward(LEASE_AND_MORE)

    assert sum(at_once(platform, Steward.take_over)) == len(ids)
    assert {platform.row(id).attempts for id in ids} == {1}


def test_a_lease_that_is_renewed_at_the_last_moment_is_not_taken_over(
    platform: Platform, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the steward's look and its step, a slow worker came back."""
    run = platform.start(platform.chore())
    movable_clock.forward(LEASE_AND_MORE)
    settle, renewed = Executions.settle, list[str]()

    def renew_then_settle(self: Executions, *given: object, **named: object) -> object:
        renewed.extend(id for id, _ in self.renew([run]))
        return settle(self, *given, **named)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as late:
        late.setattr(Executions, "settle", renew_then_settle)
        assert platform.steward().take_over() == 0
        assert renewed == [run.id]

    assert platform.state(run.id) == State.PROCESSING
    assert platform.end(run) is State.COMPLETED


# --- messages that the broker lost --------------------------------------------------------------------------


def test_a_lost_message_is_sent_again_after_a_while(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    id, steward = platform.chore(), platform.steward()
    platform.lose("maintenance")
    assert steward.send_lost() == 0, "it may be on its way"
    monkeypatch.setattr(steward_module, "LOST_AFTER", timedelta(seconds=-1))

    assert steward.send_lost() == 1

    assert platform.sent("maintenance") == [id]
    assert platform.start(id).attempts == 1


def test_a_message_that_still_waits_is_not_sent_again(platform: Platform, soon_lost: None) -> None:
    ids = [platform.chore(), platform.chore()]

    assert platform.steward().send_lost() == 0
    assert platform.sent("maintenance") == ids


def test_only_the_lost_ones_are_sent_again(platform: Platform, soon_lost: None) -> None:
    ids = [platform.chore() for _ in range(5)]
    taken = platform.take("maintenance")

    assert platform.steward().send_lost() == 1
    assert sorted(platform.sent("maintenance")) == sorted(ids)
    assert taken == ids[0]


def test_a_lost_message_is_found_while_newer_ones_keep_the_queue_long(
    platform: Platform, movable_clock: MovableClock
) -> None:
    lost = platform.chore()
    platform.lose("maintenance")
    movable_clock.forward(30)
    newer = [platform.chore() for _ in range(5)]

    assert platform.steward().send_lost() == 1
    assert platform.sent("maintenance") == [*newer, lost]


def test_a_lost_message_is_found_while_messages_of_cancelled_tasks_still_lie_about(
    platform: Platform, soon_lost: None
) -> None:
    lost = platform.chore()
    platform.lose("maintenance")
    for _ in range(3):
        platform.tasks.cancel(platform.chore())

    assert platform.steward().send_lost() == 1
    assert platform.sent("maintenance")[-1] == lost


def test_lost_messages_are_sent_again_once_by_several_stewards(platform: Platform, movable_clock: MovableClock) -> None:
    ids = [platform.chore() for _ in range(10)]
    platform.lose("maintenance")
    movable_clock.forward(30)

    assert sum(at_once(platform, Steward.send_lost)) == len(ids)
    assert sorted(platform.sent("maintenance")) == sorted(ids)


def test_every_page_of_a_long_queue_is_looked_at(
    platform: Platform, soon_lost: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.broker.PAGE", 3)
    monkeypatch.setattr(task_runs.published_before, "__kwdefaults__", {"after_seq": 0, "limit": 3})
    ids = [platform.chore() for _ in range(8)]
    taken = [platform.take("maintenance"), platform.take("maintenance")]

    assert platform.steward().send_lost() == 2
    assert sorted(platform.sent("maintenance")) == sorted(ids)
    assert taken == ids[:2]


def test_running_scheduled_and_held_tasks_are_not_lost(platform: Platform, soon_lost: None) -> None:
    first, second = platform.message(), platform.message()
    platform.start(first)
    platform.refusal(second)
    platform.message("c-2", delay=60)
    platform.lose("conversations")

    assert platform.steward().send_lost() == 0


# --- workers and deliveries ---------------------------------------------------------------------------------


def test_a_worker_is_known_while_it_reports_and_forgotten_when_it_signs_off(platform: Platform) -> None:
    steward = platform.steward("w1", ["webhooks"])
    steward.report()
    steward.report()
    assert platform.tasks.live_workers() == 1
    assert platform.tasks.queues()["webhooks"].workers == 1

    steward.sign_off()

    assert platform.tasks.live_workers() == 0


def test_a_stored_delivery_that_was_not_queued_is_queued_once(platform: Platform, soon_lost: None) -> None:
    with platform.database.transaction() as session:
        webhooks.store(session, "shop:1", source="shop", body={"event": "x"}, now=clock.now())

    assert platform.steward().queue_deliveries() == 1
    assert platform.steward().queue_deliveries() == 0

    assert platform.sent("webhooks") == ["shop:1"]
    assert platform.row("shop:1").name == "process_generic_webhook_task"


def test_one_delivery_that_cannot_be_queued_does_not_stop_the_others(platform: Platform, soon_lost: None) -> None:
    platform.tasks.submit(catalog.CLEANUP, {}, id="shop:1")  # its id is taken by something else
    with platform.database.transaction() as session:
        for id in ("shop:1", "shop:2"):
            webhooks.store(session, id, source="shop", body={"event": "x"}, now=clock.now())

    platform.steward().queue_deliveries()

    assert platform.sent("webhooks") == ["shop:2"]


def test_the_thread_does_all_of_it_by_itself(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steward_module, "TICK", 0.02)
    for name in ("REPORT_EVERY", "RECOVER_EVERY", "SEARCH_EVERY"):
        monkeypatch.setattr(steward_module, name, 0.02)
    monkeypatch.setattr(steward_module, "LOST_AFTER", timedelta(seconds=0.2))
    due, lost = platform.chore("due", delay=0.05), platform.chore("lost")
    dead = platform.start(platform.chore("dead"))
    platform.lose("maintenance")
    with platform.database.transaction() as session:
        run = task_runs.find(session, dead.id)
        assert run is not None
        run.lease_until = clock.now() - timedelta(seconds=1)
    steward = platform.steward("w1")
    steward.start()
    try:
        wait_until(lambda: {due, lost, "dead"} <= set(platform.sent("maintenance")), seconds=10)
        assert platform.tasks.live_workers() == 1
    finally:
        steward.stop()

    assert not steward.is_alive()
    assert platform.tasks.live_workers() == 0


def test_the_thread_outlives_a_broker_that_goes_and_comes(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steward_module, "TICK", 0.02)
    monkeypatch.setattr(steward_module, "SEARCH_EVERY", 0.05)
    monkeypatch.setattr(steward_module, "LOST_AFTER", timedelta(seconds=0.3))
    id = platform.chore(delay=0.3)
    platform.valkey.stop()
    steward = platform.steward("w1")
    steward.start()
    try:
        wait_until(lambda: platform.state(id) == State.PENDING, seconds=10)
        platform.valkey.start()
        wait_until(lambda: id in platform.sent("maintenance"), seconds=15)
    finally:
        steward.stop()


def test_a_failed_task_is_retried_without_anybodys_help(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steward_module, "TICK", 0.02)
    run = platform.start(platform.chore())
    platform.lose("maintenance")
    platform.end(run, Raised(OSError("away")), policy=RetryPolicy(3, 0.1, 0.1))
    steward = platform.steward()
    steward.start()
    try:
        wait_until(lambda: platform.sent("maintenance") == [run.id], seconds=10)
    finally:
        steward.stop()


def forgotten(_executions: Executions, _key: str | None) -> None:
    """What a release does when its process is killed just before."""


def at_once(platform: Platform, job: Callable[[Steward], int], *, stewards: int = 4) -> list[int]:
    """Let several stewards do the same at the same moment; what each of them did."""
    together = Barrier(stewards)

    def work(number: int) -> int:
        steward = platform.steward(f"steward-{number}")
        together.wait(10)
        return job(steward)

    with ThreadPoolExecutor(stewards) as pool:
        return list(pool.map(work, range(stewards)))
