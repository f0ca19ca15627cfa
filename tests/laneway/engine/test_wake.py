"""`wake` makes a task that waits for a time due now."""

from __future__ import annotations

import pytest

from laneway.engine import AckAction, Engine, LeaseStatus, Message, MessageState, RoundRobin
from laneway.engine.wake import WakeResult, wake
from tests.laneway.engine.clock import NOW_MS

QUEUE = "work"
LATER = NOW_MS + 3_600_000


def fetched(engine: Engine) -> list[str]:
    return [held.id for held in engine.fetch(RoundRobin({QUEUE: 1}), 10).deliveries]


def test_a_scheduled_task_is_due_at_once_in_its_old_place(still: Engine) -> None:
    still.put_many(QUEUE, [Message(task_id="a", id="a", eta_ms=LATER), Message(task_id="b", id="b")])
    assert wake(still, QUEUE, "a") == WakeResult(1, 0)
    assert fetched(still) == ["a", "b"]


@pytest.mark.parametrize("action", [AckAction.RETRY, AckAction.SNOOZE])
def test_a_task_that_ended_its_attempt_is_due_at_once(still: Engine, action: AckAction) -> None:
    still.put(QUEUE, Message(task_id="a", id="a"))
    (held,) = still.fetch(RoundRobin({QUEUE: 1}), 1).deliveries
    still.start_attempt(held.lease, worker="w")
    still.finish_attempt(held.lease, action, outcome="{}", delay_ms=3_600_000)
    assert wake(still, QUEUE, "a") == WakeResult(0, 1), "its worker holds it until the ack"
    assert still.ack([held]) == [LeaseStatus.DONE]
    assert fetched(still) == []
    assert wake(still, QUEUE, "a") == WakeResult(1, 0)
    assert fetched(still) == ["a"]


def test_what_does_not_wait_for_a_time_stays(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="ready", id="ready", key="k"))
    still.put(QUEUE, Message(task_id="held", id="held", key="k", eta_ms=LATER))
    before = {id: still.find(QUEUE, id).state for id in ("ready", "held")}
    assert [wake(still, QUEUE, id) for id in ("ready", "held", "nobody")] == [WakeResult(0, 0)] * 3
    assert {id: still.find(QUEUE, id).state for id in before} == before
    assert before == {"ready": MessageState.READY, "held": MessageState.HELD}


def test_a_waiting_consumer_is_told(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", id="a", eta_ms=LATER))
    waiting = still.fetch(RoundRobin({QUEUE: 1}), 1, idle_poll_ms=60_000)
    assert waiting.deliveries == []
    client = still.runner
    client.call("DEL", still.keys.wakeup(QUEUE))
    wake(still, QUEUE, "a")
    assert client.call("ZCARD", still.keys.wakeup(QUEUE)) == 1
