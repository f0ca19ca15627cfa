"""Attempts, verdicts and the journal, by examples; the machine of `test_engine_model.py` looks for the rest."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.connection import ConnectionPool

from laneway.engine import (
    AckAction,
    Delivery,
    Engine,
    Event,
    JournalFull,
    Kind,
    Lease,
    LeaseStatus,
    Message,
    MessageState,
    PutCode,
    RoundRobin,
    ServerLost,
    UnknownMessage,
)
from laneway.engine.connection import RawConnection
from laneway.engine.keys import NAMES, key
from tests.fixtures.valkey import RunningValkey, free_port
from tests.laneway.engine.clock import CLOCK_LUA, set_clock

QUEUE = "work"
NOW = 1_790_000_000_000
LEASE_MS = 1_000


@pytest.fixture
def still(engine_url: str) -> Generator[Engine]:
    """An engine at NOW, with a journal."""
    pool = ConnectionPool.from_url(engine_url)  # pyright: ignore[reportUnknownMemberType]
    engine = Engine(pool, clock=CLOCK_LUA)
    at(engine, 0)
    engine.enable_journal(QUEUE, 100)
    yield engine
    engine.close()


def at(engine: Engine, ms: int) -> None:
    set_clock(engine, (NOW + ms) * 1000)


def fetch(engine: Engine, n: int = 5) -> list[Delivery]:
    return engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=LEASE_MS).deliveries


def begun(engine: Engine, task_id: str = "a", **fields: str) -> Delivery:
    """The delivery of a new message whose first attempt has begun."""
    engine.put(QUEUE, Message(task_id=task_id, **fields))  # pyright: ignore[reportArgumentType]
    (delivery,) = fetch(engine)
    assert engine.start_attempt(delivery.lease, worker="w") == (LeaseStatus.DONE, 1)
    return delivery


def parts(engine: Engine) -> set[str]:
    """Which keys of the queue there are."""
    there = engine.runner.pipeline([("EXISTS", key(QUEUE, name)) for name in NAMES])
    return {name for name, is_there in zip(NAMES, there, strict=True) if is_there}


def story(engine: Engine) -> list[str]:
    """What the journal says, in short."""
    return [_short(event) for event in engine.events(QUEUE)]


def _short(event: Event) -> str:
    words = [event.kind, event.message_id]
    if event.attempt:
        words.append(str(event.attempt))
    if event.ack_action:
        words.append(event.ack_action.name.lower())
    return " ".join([*words, event.reason]).strip()


def test_a_message_that_is_done_ends_with_its_ack(still: Engine) -> None:
    delivery = begun(still)
    assert still.finish_attempt(delivery.lease, AckAction.DONE, outcome='{"sum": 4}') == LeaseStatus.DONE
    assert still.ack([delivery]) == [LeaseStatus.DONE]
    assert story(still) == ["put a", "begin a 1", "end a 1 done"]
    assert still.events(QUEUE)[2].outcome == '{"sum": 4}'
    assert parts(still) == {"journal", "limits", "counters"}


def test_an_ack_without_a_verdict_is_an_event_of_its_own(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", key="k"))
    still.put(QUEUE, Message(task_id="b"))
    still.ack(fetch(still))
    assert story(still) == ["put a", "put b", "ack a", "ack b"]


def test_a_retry_keeps_the_place_of_its_task_and_those_behind_its_key_wait(still: Engine) -> None:
    first = begun(still, key="k")
    still.put(QUEUE, Message(task_id="b", key="k"))
    still.put(QUEUE, Message(task_id="c"))
    still.finish_attempt(first.lease, AckAction.RETRY)
    still.ack([first])
    again, other = fetch(still)
    assert (again.id, other.id) == ("a", "c")
    assert still.start_attempt(again.lease, worker="w") == (LeaseStatus.DONE, 2)
    still.finish_attempt(again.lease, AckAction.DONE)
    still.ack([again])
    assert [delivery.id for delivery in fetch(still)] == ["b"]


def test_a_retry_with_a_delay_holds_its_key_until_it_is_due(still: Engine) -> None:
    first = begun(still, key="k")
    still.put(QUEUE, Message(task_id="b", key="k"))
    still.finish_attempt(first.lease, AckAction.RETRY, delay_ms=300)
    still.ack([first])
    at(still, 299)
    assert fetch(still) == []
    at(still, 300)
    assert [delivery.id for delivery in fetch(still)] == ["a"]


def test_a_snooze_is_not_counted_as_an_attempt(still: Engine) -> None:
    first = begun(still)
    still.finish_attempt(first.lease, AckAction.SNOOZE)
    still.ack([first])
    assert still.start_attempt(fetch(still)[0].lease, worker="w") == (LeaseStatus.DONE, 1)


def test_retries_are_not_deliveries_that_came_to_nothing(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a", max_deliveries=1))
    for attempt in (1, 2, 3):
        (delivery,) = fetch(still)
        assert still.start_attempt(delivery.lease, worker="w") == (LeaseStatus.DONE, attempt)
        still.finish_attempt(delivery.lease, AckAction.RETRY)
        still.ack([delivery])
    fetch(still)
    at(still, LEASE_MS)
    assert fetch(still) == []
    assert story(still)[-1] == "bury a 3 poison"


def test_a_worker_that_dies_between_its_verdict_and_its_ack_has_done_its_work(still: Engine) -> None:
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.DONE)
    at(still, LEASE_MS)
    assert fetch(still) == []
    assert still.ack([delivery]) == [LeaseStatus.UNKNOWN]
    with pytest.raises(UnknownMessage):
        still.find(QUEUE, "a")
    assert story(still) == ["put a", "begin a 1", "end a 1 done"]


@pytest.mark.parametrize("delay_ms", [0, 500])
def test_the_retry_of_a_worker_that_died_after_its_verdict_comes_when_the_lease_ends(
    still: Engine, delay_ms: int
) -> None:
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.RETRY, delay_ms=delay_ms)
    at(still, LEASE_MS)
    waited = fetch(still) == []
    at(still, LEASE_MS + delay_ms)
    (again,) = fetch(still) if waited else still.peek(QUEUE, MessageState.LEASED)
    assert waited is bool(delay_ms)
    assert again.deliveries == 1
    assert story(still) == ["put a", "begin a 1", "end a 1 retry"]


@pytest.mark.parametrize("way", ["release", "bury"])
def test_a_verdict_stands_also_when_the_message_is_given_back_or_buried(still: Engine, way: str) -> None:
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.DONE)
    assert (still.release([delivery]) if way == "release" else still.bury([delivery], reason="x")) == [LeaseStatus.DONE]
    assert still.stats([QUEUE])[0].dead == 0
    assert fetch(still) == []
    assert story(still)[2:] == ["end a 1 done"]


def test_a_worker_that_dies_in_an_attempt_loses_it_and_it_counts(still: Engine) -> None:
    begun(still)
    at(still, LEASE_MS)
    (second,) = fetch(still)
    assert still.start_attempt(second.lease, worker="w") == (LeaseStatus.DONE, 2)
    assert story(still) == ["put a", "begin a 1", "lost a 1 lease", "begin a 2"]


def test_the_first_verdict_stands_and_its_lease_begins_nothing_more(still: Engine) -> None:
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.DONE)
    still.finish_attempt(delivery.lease, AckAction.RETRY)
    assert still.start_attempt(delivery.lease, worker="w") == (LeaseStatus.STALE, 1)
    still.ack([delivery])
    assert fetch(still) == []
    assert story(still) == ["put a", "begin a 1", "end a 1 done"]


def test_an_attempt_begun_twice_because_the_answer_was_lost_counts_once(
    still: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    still.put(QUEUE, Message(task_id="a"))
    lease, receive, cuts = fetch(still)[0].lease, RawConnection.receive, [1]

    def cut_once(self: RawConnection, *, timeout: float | None = None) -> object:
        answer = receive(self, timeout=timeout)
        if cuts and answer == [int(LeaseStatus.DONE), 1]:
            cuts.pop()
            self.close()
            raise ServerLost("cut by the test, after the server had carried it out")
        return answer

    monkeypatch.setattr(RawConnection, "receive", cut_once)
    assert still.start_attempt(lease, worker="w") == (LeaseStatus.DONE, 1)
    assert not cuts
    assert story(still) == ["put a", "begin a 1"]


def test_a_caller_that_tries_again_names_its_call(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    (delivery,) = fetch(still)
    for _ in range(2):
        assert still.start_attempt(delivery.lease, worker="w", call=b"mine") == (LeaseStatus.DONE, 1)
    assert story(still) == ["put a", "begin a 1"]


def test_an_attempt_begun_anew_under_one_lease_is_another_one(still: Engine) -> None:
    delivery = begun(still)
    assert still.start_attempt(delivery.lease, worker="w2") == (LeaseStatus.DONE, 2)
    assert story(still)[2:] == ["lost a 1 started again", "begin a 2"]


def test_who_lost_the_lease_neither_begins_nor_concludes(still: Engine) -> None:
    late = begun(still)
    at(still, LEASE_MS)
    (holder,) = fetch(still)
    assert still.start_attempt(late.lease, worker="late") == (LeaseStatus.STALE, 0)
    assert still.finish_attempt(late.lease, AckAction.DONE) == LeaseStatus.STALE
    assert still.report(late.lease, Kind.LOG, "still here") == LeaseStatus.STALE
    assert still.check_leases([late.lease, holder.lease]) == [LeaseStatus.STALE, LeaseStatus.DONE]
    still.ack([holder])
    assert still.start_attempt(late.lease, worker="late") == (LeaseStatus.UNKNOWN, 0)
    assert story(still) == ["put a", "begin a 1", "lost a 1 lease", "ack a 1"]


def test_a_message_that_nobody_holds_cannot_be_acted_on_with_an_empty_token(still: Engine) -> None:
    delivery = begun(still)
    still.release([delivery])
    nobody = replace(delivery.lease, token=b"")
    assert still.check_leases([nobody]) == [LeaseStatus.STALE]
    assert still.start_attempt(nobody, worker="w") == (LeaseStatus.STALE, 0)


def test_a_full_journal_refuses_new_work_but_neither_a_continuation_nor_an_outcome(still: Engine) -> None:
    delivery = begun(still)
    still.enable_journal(QUEUE, 2)
    with pytest.raises(JournalFull) as full:
        still.put(QUEUE, Message(task_id="b"))
    assert (full.value.queue, full.value.unread) == (QUEUE, 2)
    put = still.put_many(QUEUE, [Message(task_id="a"), Message(task_id="c", key="k"), Message(task_id="d")])
    assert [each.code for each in put] == [PutCode.ACCEPTED, PutCode.JOURNAL_FULL, PutCode.JOURNAL_FULL]
    assert still.report(delivery.lease, Kind.PROGRESS, "50") == LeaseStatus.DONE  # said for nothing
    assert still.finish_attempt(delivery.lease, AckAction.DONE) == LeaseStatus.DONE
    assert story(still) == ["put a", "begin a 1", f"put {put[0].id}", "end a 1 done"]
    still.trim_journal(QUEUE, until=still.events(QUEUE)[-1].cursor)
    assert still.put(QUEUE, Message(task_id="b")) == "b"


def test_a_batch_fills_the_journal_to_its_bound_and_no_further(still: Engine) -> None:
    still.enable_journal(QUEUE, 3)
    put = still.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(5)])
    assert [each.code for each in put].count(PutCode.JOURNAL_FULL) == 2
    assert still.unread([QUEUE]) == [3]


def test_without_a_journal_nothing_is_noted_and_attempts_count_all_the_same(still: Engine) -> None:
    still.enable_journal(QUEUE, None)
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.RETRY)
    still.ack([delivery])
    assert still.start_attempt(fetch(still)[0].lease, worker="w") == (LeaseStatus.DONE, 2)
    assert still.find(QUEUE, "a").attempts == 2
    assert story(still) == []


def test_a_cancelled_task_that_runs_is_marked_and_told_and_ends_by_its_verdict(still: Engine) -> None:
    delivery = begun(still)
    for _ in range(2):
        assert still.cancel(QUEUE, "a").marked == 1
    assert still.check_leases([delivery.lease]) == [LeaseStatus.CANCELLED]
    still.finish_attempt(delivery.lease, AckAction.DONE)
    assert still.ack([delivery]) == [LeaseStatus.CANCELLED]
    assert story(still) == ["put a", "begin a 1", "mark a", "end a 1 done"]


@pytest.mark.parametrize("way", ["ack", "release", "the end of the lease"])
def test_a_cancelled_task_is_not_tried_again(still: Engine, way: str) -> None:
    delivery = begun(still)
    still.cancel(QUEUE, "a")
    still.finish_attempt(delivery.lease, AckAction.RETRY)
    match way:
        case "ack":
            assert still.ack([delivery]) == [LeaseStatus.CANCELLED]
        case "release":
            assert still.release([delivery]) == [LeaseStatus.CANCELLED]
        case _:
            at(still, LEASE_MS)
    assert fetch(still) == []
    assert story(still)[2:] == ["mark a", "end a 1 retry", "cancel a"]


def test_a_task_that_was_cancelled_before_it_began_does_not_begin(still: Engine) -> None:
    still.put(QUEUE, Message(task_id="a"))
    (delivery,) = fetch(still)
    still.cancel(QUEUE, "a")
    assert still.start_attempt(delivery.lease, worker="w") == (LeaseStatus.CANCELLED, 0)


def test_the_dead_tell_why_and_begin_anew_when_they_are_sent_round_again(still: Engine) -> None:
    still.bury([begun(still)], reason="bad", error="no such thing")
    buried = still.events(QUEUE)[-1]
    assert (buried.reason, buried.detail, buried.attempt) == ("bad", "no such thing", 1)
    assert buried.stored is not None
    assert buried.stored.message.task_id == "a"
    still.requeue(QUEUE, ["a"])
    (delivery,) = fetch(still)
    assert still.start_attempt(delivery.lease, worker="w") == (LeaseStatus.DONE, 1)
    still.bury([delivery], reason="bad")
    still.discard(QUEUE, ["a"])
    assert story(still)[2:] == ["bury a 1 bad", "requeue a", "begin a 1", "bury a 1 bad", "discard a"]


def test_two_readers_see_the_same_and_what_one_forgets_is_gone_up_to_its_place(still: Engine) -> None:
    still.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(6)])
    one, other = still.events(QUEUE, limit=4), still.events(QUEUE, limit=2)
    assert one[:2] == other
    still.trim_journal(QUEUE, until=other[-1].cursor)
    assert still.events(QUEUE) == still.events(QUEUE, after=other[-1].cursor)
    assert still.events(QUEUE, limit=2) == one[2:]
    still.trim_journal(QUEUE, until=one[-1].cursor)
    still.trim_journal(QUEUE, until=other[-1].cursor)  # the slower one, later: nothing more goes
    assert [event.message_id for event in still.events(QUEUE)] == ["t4", "t5"]


def test_events_attempts_and_verdicts_survive_a_restart_of_the_server(tmp_path: Path, valkey: RunningValkey) -> None:
    server = RunningValkey(tmp_path, port=free_port())
    server.start()
    try:
        engine = Engine.from_url(server.url(0))
        engine.enable_journal(QUEUE, 10)
        delivery = begun(engine)
        engine.finish_attempt(delivery.lease, AckAction.RETRY, outcome="half")
        before = engine.events(QUEUE)
        server.restart()
        assert engine.events(QUEUE) == before
        engine.ack([delivery])
        (again,) = fetch(engine)
        assert engine.start_attempt(again.lease, worker="w") == (LeaseStatus.DONE, 2)
        assert engine.events(QUEUE, after=before[-1].cursor)[0].kind is Kind.BEGIN
        engine.close()
    finally:
        server.stop()


def test_a_deleted_queue_leaves_nothing(still: Engine) -> None:
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.RETRY)
    still.delete(QUEUE)
    assert parts(still) == set()
    assert still.ack([delivery]) == [LeaseStatus.UNKNOWN]


def test_the_journal_of_a_queue_that_expires_goes_with_it_and_stays_when_it_no_longer_does(still: Engine) -> None:
    def lasting() -> set[str]:
        times = still.runner.pipeline([("PTTL", key(QUEUE, name)) for name in NAMES])
        return {name for name, ms in zip(NAMES, times, strict=True) if ms == -1}

    still.enable_journal(QUEUE, None)
    still.put(QUEUE, Message(task_id="b"))
    still.enable_journal(QUEUE, 100)
    still.expire(QUEUE, 60_000)
    assert (still.purge(QUEUE), lasting()) == (1, set())  # the first to be noted
    delivery = begun(still)
    still.finish_attempt(delivery.lease, AckAction.RETRY)
    still.ack([delivery])
    assert lasting() == set()
    still.expire(QUEUE, None)
    assert lasting() == parts(still)


def test_a_lease_that_went_through_a_header_is_the_same(still: Engine) -> None:
    still.put("a queue, é", Message(task_id="a"))
    (delivery,) = still.fetch(RoundRobin({"a queue, é": 1}), 1).deliveries
    lease = Lease.parse(str(delivery.lease))
    assert lease == delivery.lease
    assert still.check_leases([lease]) == [LeaseStatus.DONE]
