"""Attempts on the engine: what differs from attempts on rows. `test_attempts_contract.py` has what both share."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread, Timer
from typing import Any

import pytest

from laneway.engine import Engine, EventKind, Lease, LeaseStatus, MessageState, ServerLost
from laneway.platform.errors import BrokerUnavailable, QueueFull
from laneway.platform.execution import attempts as attempts_module
from laneway.platform.execution.attempts import DeliveredTask
from laneway.platform.execution.outcomes import Attempt, AttemptSignal, Completed, Raised, Skip, Snoozed, Stopped
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from laneway.transport.codec import HEADER_LEASE
from tests.fixtures.platform import Platform

AWAY = Raised(OSError("away"))


def delivered(headers: dict[str, Any]) -> DeliveredTask:
    return DeliveredTask(
        task_id="t",
        spec=registry["cleanup_old_data_task"],
        queue="maintenance",
        payload={},
        headers=headers,
        worker="w",
    )


@pytest.mark.parametrize("headers", [{}, {HEADER_LEASE: "nonsense"}, {HEADER_LEASE: 7}, {HEADER_LEASE: None}])
def test_a_message_that_the_engine_did_not_deliver_is_skipped(platform: Platform, headers: dict[str, Any]) -> None:
    assert platform.attempts.start(delivered(headers)) == Skip("it was not delivered by the engine")


def test_a_delivery_whose_lease_is_over_is_skipped(platform: Platform) -> None:
    id = platform.chore()
    delivery = platform.fetched("maintenance")
    platform.engine.renew([delivery], lease_ms=0)
    again = platform.fetched("maintenance")

    assert platform.begun(delivery) == Skip("its lease was over")
    attempt = platform.begun(again)
    assert isinstance(attempt, Attempt)
    assert attempt.number == 1
    platform.end(attempt)
    assert platform.begun(again) == Skip("its lease was over")
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)


def test_a_delivery_with_an_invented_lease_is_skipped(platform: Platform) -> None:
    platform.broker.prepare()
    lease = Lease("maintenance", b"\x01" * 16, b"me")
    assert platform.attempts.start(delivered({HEADER_LEASE: str(lease)})) == Skip("its lease was over")


def test_a_task_that_was_cancelled_before_its_start_is_skipped(platform: Platform) -> None:
    id = platform.chore()
    delivery = platform.fetched("maintenance")
    platform.tasks.cancel(id)

    assert platform.begun(delivery) == Skip("it was cancelled")
    platform.engine.ack([delivery])
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.CANCELLED, 0)


def test_attempts_do_not_need_the_database(platform: Platform) -> None:
    id = platform.chore()
    with platform.without_database():
        attempt = platform.start("maintenance")
        assert platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": 10}) is AttemptSignal.CONTINUE
        assert platform.attempts.check_cancelled([attempt]) == [AttemptSignal.CONTINUE]
        assert platform.end(attempt, AWAY)
    assert platform.state(id) == TaskState.SCHEDULED


def test_a_retry_is_the_same_message_after_the_delay_of_the_policy(platform: Platform) -> None:
    id = platform.chore()
    before = platform.messages("maintenance")[0].stored
    platform.work("maintenance", Raised(QueueFull("crm", 5)))

    row = platform.row(id)
    assert row.due_at is not None
    assert row.published_at is not None
    assert (row.due_at - row.published_at).total_seconds() == 10, "QueueFull asks for ten seconds"
    (message,) = platform.messages("maintenance", MessageState.SCHEDULED)
    assert message.stored == before
    assert message.at is not None
    assert abs(message.at / 1000 - row.due_at.timestamp()) < 1


@pytest.mark.parametrize("outcome", [Completed({}), Stopped(), Raised(ValueError("wrong"))])
def test_the_engine_keeps_nothing_of_an_ended_task(platform: Platform, outcome: Any) -> None:
    platform.chore()
    platform.work("maintenance", outcome)

    assert platform.places("maintenance") == {}
    assert platform.engine.stats(["maintenance"])[0].leased == 0


def test_the_end_of_the_lease_carries_the_result_out_without_an_acknowledgement(
    platform: Platform,
) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.end(attempt, Snoozed(600), ack=False)
    assert platform.places("maintenance") == {id: MessageState.LEASED}

    platform.engine.renew([platform.deliveries[id]], lease_ms=0)

    assert platform.fetch("maintenance") is None
    assert platform.places("maintenance") == {id: MessageState.SCHEDULED}


# --- the broker cannot be reached ---------------------------------------------------------------------------


def test_a_worker_waits_for_a_broker_that_returns_soon(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    platform.valkey.stop()
    back = Timer(0.8, platform.valkey.start)
    back.start()
    try:
        assert platform.end(attempt, Completed({"n": 1}), ack=False)
    finally:
        back.join()

    assert platform.row(id).result == {"n": 1}


def test_a_worker_waits_no_longer_than_a_lease_lasts(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.chore()
    attempt = platform.start("maintenance")
    monkeypatch.setattr(attempts_module, "RECONNECT_SECONDS", 0.01)
    object.__setattr__(platform.attempts._settings, "lease_seconds", 0.3)  # pyright: ignore[reportPrivateUsage]
    platform.valkey.stop()
    try:
        with pytest.raises(BrokerUnavailable):
            platform.end(attempt)
    finally:
        platform.valkey.start()


def losing_the_first_reply(call: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which takes effect every time but loses its first reply."""
    lost: list[int] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        reply = call(*args, **kwargs)
        if not lost:
            lost.append(1)
            raise ServerLost("the reply was lost")
        return reply

    return called


def test_a_lost_reply_starts_no_second_attempt(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    id = platform.chore()
    monkeypatch.setattr(Engine, "start_attempts", losing_the_first_reply(Engine.start_attempts))

    attempt = platform.start("maintenance")

    assert attempt.number == 1
    platform.end(attempt)
    assert (platform.state(id), platform.row(id).attempts) == (TaskState.COMPLETED, 1)


def test_a_lost_reply_does_not_change_the_outcome(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    monkeypatch.setattr(Engine, "finish_attempts", losing_the_first_reply(Engine.finish_attempts))

    assert platform.end(attempt, AWAY)

    assert (platform.state(id), platform.row(id).attempts) == (TaskState.SCHEDULED, 1)


def test_a_thread_that_stalled_past_its_lease_changes_nothing(platform: Platform) -> None:
    id = platform.chore()
    old = platform.start("maintenance", worker="stalled")
    old_delivery = platform.deliveries[id]
    platform.engine.renew([old_delivery], lease_ms=0)
    new = platform.start("maintenance", worker="fresh")
    stored: list[bool] = []

    stalled = Thread(
        target=lambda: stored.append(
            platform.attempts.finish(old, platform.attempts.policy.decide(old, Completed({"old": True})))
        )
    )
    stalled.start()
    stalled.join()

    assert stored == [False]
    assert platform.engine.ack([old_delivery]) == [LeaseStatus.STALE]
    assert platform.end(new, Completed({"new": True}))
    assert platform.row(id).result == {"new": True}
