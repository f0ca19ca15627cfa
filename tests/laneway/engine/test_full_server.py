"""On a server whose memory is full, new messages are refused, and everything that ends, renews or frees works."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from laneway.engine import AckAction, Engine, EventKind, HandOn, LeaseStatus, Message, MessageState, RoundRobin
from laneway.engine.engine import Delivery
from laneway.engine.errors import ServerFull

QUEUE = "work"


@pytest.fixture(params=[None, 1000], ids=["without a journal", "with a journal"])
def queue(engine: Engine, request: pytest.FixtureRequest) -> Generator[Engine]:
    """An engine whose queue has, or has not, a journal. Its server gets memory again at the end."""
    engine.enable_journal(QUEUE, request.param)
    yield engine
    engine.runner.call("CONFIG", "SET", "maxmemory", "0")


def fill(engine: Engine) -> None:
    engine.runner.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    engine.runner.call("CONFIG", "SET", "maxmemory", "1")


def put(engine: Engine, n: int = 1, *, key: str | None = None, eta_ms: int | None = None) -> None:
    engine.put_many(QUEUE, [Message(task_id=f"t{number}", key=key, eta_ms=eta_ms) for number in range(n)])


def fetch(engine: Engine, n: int = 1, *, lease_ms: int = 30_000) -> list[Delivery]:
    return engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=lease_ms).deliveries


def test_a_put_is_refused_with_the_reason(queue: Engine) -> None:
    fill(queue)
    with pytest.raises(ServerFull, match="memory is full"):
        queue.put(QUEUE, Message(task_id="t"))
    assert queue.stats([QUEUE])[0].waiting == 0


OPERATIONS: dict[str, Callable[[Engine, Delivery], object]] = {
    "renew": lambda engine, held: engine.renew([held]),
    "ack": lambda engine, held: engine.ack([held]),
    "release": lambda engine, held: engine.release([held]),
    "release later": lambda engine, held: engine.release([held], delay_ms=1000),
    "hand on": lambda engine, held: engine.hand_on([held], HandOn(60, "unregistered", "x")),
    "bury": lambda engine, held: engine.bury([held], reason="rejected", error="x"),
    "cancel": lambda engine, _: engine.cancel(QUEUE, "t0").marked,
    "start": lambda engine, held: engine.start_attempt(held.lease, worker="w")[:2],
    "report": lambda engine, held: engine.report(held.lease, EventKind.PROGRESS, "{}"),
    "pause": lambda engine, _: engine.pause(QUEUE),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_held_can_be_kept_and_settled(queue: Engine, operation: str) -> None:
    put(queue)
    (held,) = fetch(queue)
    fill(queue)
    assert OPERATIONS[operation](queue, held) in ([LeaseStatus.DONE], (LeaseStatus.DONE, 1), LeaseStatus.DONE, 1, None)


@pytest.mark.parametrize("action", list(AckAction))
def test_a_task_starts_and_ends(queue: Engine, action: AckAction) -> None:
    put(queue, 2, key="k")
    (held,) = fetch(queue)
    fill(queue)
    assert queue.start_attempt(held.lease, worker="w")[:2] == (LeaseStatus.DONE, 1)
    assert queue.finish_attempt(held.lease, action, outcome="{}") is LeaseStatus.DONE
    assert queue.ack([held]) == [LeaseStatus.DONE]


def test_messages_that_are_due_and_ready_are_delivered(queue: Engine) -> None:
    put(queue, 3, eta_ms=1)
    fill(queue)
    held = fetch(queue, 5)
    assert len(held) == 3
    assert queue.ack(held) == [LeaseStatus.DONE] * 3


def test_a_consumer_that_waits_keeps_the_time_of_a_message_and_wakes_others(queue: Engine) -> None:
    now_ms = int(queue.time() * 1000)
    put(queue, eta_ms=now_ms + 60_000)
    for name in ("a", "b"):
        queue.put_many(name, [Message(task_id=f"t{number}") for number in range(3)])
    fill(queue)
    waiting = queue.fetch(RoundRobin({QUEUE: 1}), 1, idle_poll_ms=120_000)
    assert (waiting.again_at, waiting.broken) == (now_ms + 60_000, {})
    round_robin = RoundRobin({"a": 1, "b": 1})
    for turn in ("a", "b"):
        batch = queue.fetch(round_robin, 1, idle_poll_ms=1_000)
        assert ([held.queue for held in batch.deliveries], batch.broken) == ([turn], {})


def test_messages_whose_lease_expired_are_delivered_again(queue: Engine) -> None:
    put(queue, 2)
    for held in fetch(queue, 2, lease_ms=1):
        queue.start_attempt(held.lease, worker="w")
    fill(queue)
    again: list[Delivery] = []
    while len(again) < 2:
        again += fetch(queue, 2)
    assert queue.ack(again) == [LeaseStatus.DONE] * 2


def test_an_operator_can_free_memory(queue: Engine) -> None:
    put(queue, 3)
    queue.bury(fetch(queue, 2), reason="rejected")
    fill(queue)
    first, second = queue.peek(QUEUE, MessageState.DEAD)
    assert queue.discard(QUEUE, [first.stored.id]) == [LeaseStatus.DONE]
    assert queue.requeue(QUEUE, [second.stored.id]) == [LeaseStatus.DONE]
    assert queue.purge(QUEUE) == 2
    assert queue.delete(QUEUE) == 0


def test_a_control_command_is_published(queue: Engine) -> None:
    fill(queue)
    assert queue.runner.call_once(b"laneway:test", "PUBLISH", (), b"laneway:test", b"{}") == 0
