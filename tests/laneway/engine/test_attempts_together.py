"""Attempts that are started or finished together: each has its own answer, in the order of the calls."""

from __future__ import annotations

from laneway.engine import (
    AckAction,
    AttemptEnd,
    AttemptStart,
    Delivery,
    Engine,
    EventKind,
    LeaseStatus,
    Message,
    RoundRobin,
)
from laneway.engine.attempts import MOST
from laneway.engine.journal import START

QUEUE = "q"


def fetched(engine: Engine, number: int) -> list[Delivery]:
    engine.put_many(QUEUE, [Message(task_id=f"t{index}") for index in range(number)])
    deliveries = engine.fetch(RoundRobin({QUEUE: 1}), number).deliveries
    assert len(deliveries) == number
    return deliveries


def test_each_start_has_its_own_answer_and_the_note_is_in_the_journal(engine: Engine) -> None:
    engine.enable_journal(QUEUE, 1000)
    lost, cancelled, first, second = fetched(engine, 4)
    engine.release([lost])
    engine.cancel(QUEUE, "t1")
    starts = [AttemptStart(each.lease, b"%08d" % n) for n, each in enumerate((lost, cancelled, first, second))]

    answers = engine.start_attempts(starts, worker="w", note='{"chunk": 1}')

    assert [code for code, *_ in answers] == [LeaseStatus.STALE, LeaseStatus.CANCELLED, *[LeaseStatus.DONE] * 2]
    assert [number for _, number, _ in answers[2:]] == [1, 1]
    assert engine.start_attempts(starts[2:], worker="w") == answers[2:], "a repetition starts no second attempt"
    begun = [event for event in engine.events(QUEUE, after=START) if event.kind is EventKind.START]
    assert [(event.task_id, event.outcome) for event in begun] == [("t2", '{"chunk": 1}'), ("t3", '{"chunk": 1}')]


def test_more_than_a_round_trip_takes_are_started_and_finished(engine: Engine) -> None:
    deliveries = fetched(engine, 2 * MOST + 1)
    starts = [AttemptStart(each.lease, b"%08d" % n) for n, each in enumerate(deliveries)]
    assert {code for code, *_ in engine.start_attempts(starts, worker="w")} == {LeaseStatus.DONE}

    ends = [
        AttemptEnd(each.lease, AckAction.DONE if n % 2 else AckAction.RETRY, delay_ms=0)
        for n, each in enumerate(deliveries)
    ]
    assert set(engine.finish_attempts(ends)) == {LeaseStatus.DONE}
    engine.ack(deliveries)
    assert engine.stats([QUEUE])[0].waiting == MOST + 1
