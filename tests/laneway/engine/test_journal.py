"""Attempts, ack actions and the journal, by examples. The machine of `test_model.py` looks for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from laneway.engine import (
    AckAction,
    Delivery,
    Engine,
    Event,
    EventKind,
    JournalFull,
    Lease,
    LeaseStatus,
    Message,
    MessageState,
    PutCode,
    RoundRobin,
    UnknownMessage,
)
from laneway.engine.keys import NAMES
from tests.fixtures.lost_reply import LostReply
from tests.fixtures.valkey import RunningValkey, free_port
from tests.laneway.engine.clock import move_to

QUEUE = "work"
LEASE_MS = 1_000


@pytest.fixture
def journaled(still: Engine) -> Engine:
    """An engine whose time stands still, with a journal."""
    still.enable_journal(QUEUE, 100)
    return still


def fetch(engine: Engine, n: int = 5) -> list[Delivery]:
    return engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=LEASE_MS).deliveries


def put_and_start(engine: Engine, task_id: str = "a", *, key: str | None = None) -> Delivery:
    """Put a message, fetch it and start its first attempt."""
    engine.put(QUEUE, Message(task_id=task_id, key=key))
    (delivery,) = fetch(engine)
    assert engine.start_attempt(delivery.lease, worker="w")[:2] == (LeaseStatus.DONE, 1)
    return delivery


def existing_keys(engine: Engine) -> set[str]:
    """Names of the queue's keys that exist."""
    exist = engine.runner.pipeline([("EXISTS", engine.keys.key(QUEUE, name)) for name in NAMES])
    return {name for name, exists in zip(NAMES, exist, strict=True) if exists}


def summaries(engine: Engine) -> list[str]:
    """The events of the journal, each in a few words."""
    return [_summary(event) for event in engine.events(QUEUE)]


def _summary(event: Event) -> str:
    words = [event.kind, event.message_id]
    if event.attempt:
        words.append(str(event.attempt))
    if event.ack_action:
        words.append(event.ack_action.name.lower())
    return " ".join([*words, event.reason]).strip()


def test_a_done_message_ends_with_its_ack(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    assert journaled.finish_attempt(delivery.lease, AckAction.DONE, outcome='{"sum": 4}') == LeaseStatus.DONE
    assert journaled.ack([delivery]) == [LeaseStatus.DONE]
    assert summaries(journaled) == ["put a", "begin a 1", "end a 1 done"]
    assert journaled.events(QUEUE)[2].outcome == '{"sum": 4}'
    assert existing_keys(journaled) == {"journal", "limits", "counters"}


def test_an_ack_without_an_ack_action_is_an_event_of_its_own(journaled: Engine) -> None:
    journaled.put(QUEUE, Message(task_id="a", key="k"))
    journaled.put(QUEUE, Message(task_id="b"))
    journaled.ack(fetch(journaled))
    assert summaries(journaled) == ["put a", "put b", "ack a", "ack b"]


def test_a_retry_keeps_the_position_of_its_task_and_messages_behind_its_key_wait(journaled: Engine) -> None:
    first = put_and_start(journaled, key="k")
    journaled.put(QUEUE, Message(task_id="b", key="k"))
    journaled.put(QUEUE, Message(task_id="c"))
    journaled.finish_attempt(first.lease, AckAction.RETRY)
    journaled.ack([first])
    again, other = fetch(journaled)
    assert (again.id, other.id) == ("a", "c")
    assert journaled.start_attempt(again.lease, worker="w")[:2] == (LeaseStatus.DONE, 2)
    journaled.finish_attempt(again.lease, AckAction.DONE)
    journaled.ack([again])
    assert [delivery.id for delivery in fetch(journaled)] == ["b"]


def test_a_retry_with_a_delay_holds_its_key_until_it_is_due(journaled: Engine) -> None:
    first = put_and_start(journaled, key="k")
    journaled.put(QUEUE, Message(task_id="b", key="k"))
    journaled.finish_attempt(first.lease, AckAction.RETRY, delay_ms=300)
    journaled.ack([first])
    move_to(journaled, 299)
    assert fetch(journaled) == []
    move_to(journaled, 300)
    assert [delivery.id for delivery in fetch(journaled)] == ["a"]


def test_a_snooze_is_not_counted_as_an_attempt(journaled: Engine) -> None:
    first = put_and_start(journaled)
    journaled.finish_attempt(first.lease, AckAction.SNOOZE)
    journaled.ack([first])
    assert journaled.start_attempt(fetch(journaled)[0].lease, worker="w")[:2] == (LeaseStatus.DONE, 1)


def test_retries_do_not_count_as_deliveries(journaled: Engine) -> None:
    journaled.put(QUEUE, Message(task_id="a", max_deliveries=1))
    for attempt in (1, 2, 3):
        (delivery,) = fetch(journaled)
        assert journaled.start_attempt(delivery.lease, worker="w")[:2] == (LeaseStatus.DONE, attempt)
        journaled.finish_attempt(delivery.lease, AckAction.RETRY)
        journaled.ack([delivery])
    fetch(journaled)
    move_to(journaled, LEASE_MS)
    assert fetch(journaled) == []
    assert summaries(journaled)[-1] == "bury a 3 poison"


def test_a_message_is_done_when_its_worker_dies_between_finish_and_ack(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.DONE)
    move_to(journaled, LEASE_MS)
    assert fetch(journaled) == []
    assert journaled.ack([delivery]) == [LeaseStatus.UNKNOWN]
    with pytest.raises(UnknownMessage):
        journaled.find(QUEUE, "a")
    assert summaries(journaled) == ["put a", "begin a 1", "end a 1 done"]


@pytest.mark.parametrize("delay_ms", [0, 500])
def test_a_retry_happens_when_the_lease_ends_if_the_worker_died_before_the_ack(
    journaled: Engine, delay_ms: int
) -> None:
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.RETRY, delay_ms=delay_ms)
    move_to(journaled, LEASE_MS)
    waited = fetch(journaled) == []
    move_to(journaled, LEASE_MS + delay_ms)
    (again,) = fetch(journaled) if waited else journaled.peek(QUEUE, MessageState.LEASED)
    assert waited is bool(delay_ms)
    assert again.deliveries == 1
    assert summaries(journaled) == ["put a", "begin a 1", "end a 1 retry"]


@pytest.mark.parametrize("way", ["release", "bury"])
def test_an_ack_action_stands_when_the_message_is_released_or_buried(journaled: Engine, way: str) -> None:
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.DONE)
    assert (journaled.release([delivery]) if way == "release" else journaled.bury([delivery], reason="x")) == [
        LeaseStatus.DONE
    ]
    assert journaled.stats([QUEUE])[0].dead == 0
    assert fetch(journaled) == []
    assert summaries(journaled)[2:] == ["end a 1 done"]


def test_an_attempt_whose_worker_dies_is_lost_and_counts(journaled: Engine) -> None:
    put_and_start(journaled)
    move_to(journaled, LEASE_MS)
    (second,) = fetch(journaled)
    assert journaled.start_attempt(second.lease, worker="w")[:2] == (LeaseStatus.DONE, 2)
    assert summaries(journaled) == ["put a", "begin a 1", "lost a 1 lease", "begin a 2"]


def test_the_first_ack_action_stands_and_its_lease_starts_no_other_attempt(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.DONE)
    journaled.finish_attempt(delivery.lease, AckAction.RETRY)
    assert journaled.start_attempt(delivery.lease, worker="w")[:2] == (LeaseStatus.STALE, 1)
    journaled.ack([delivery])
    assert fetch(journaled) == []
    assert summaries(journaled) == ["put a", "begin a 1", "end a 1 done"]


def test_an_attempt_started_twice_because_the_reply_was_lost_counts_once(
    journaled: Engine, lose_reply: Callable[[LostReply], LostReply]
) -> None:
    journaled.put(QUEUE, Message(task_id="a"))
    lease = fetch(journaled)[0].lease
    lost_reply = lose_reply(LostReply([LeaseStatus.DONE, 1, b""]))

    assert journaled.start_attempt(lease, worker="w")[:2] == (LeaseStatus.DONE, 1)
    assert lost_reply.lost
    assert summaries(journaled) == ["put a", "begin a 1"]


def test_a_repeated_call_starts_no_other_attempt(journaled: Engine) -> None:
    journaled.put(QUEUE, Message(task_id="a"))
    (delivery,) = fetch(journaled)
    for _ in range(2):
        assert journaled.start_attempt(delivery.lease, worker="w", call=b"mine")[:2] == (LeaseStatus.DONE, 1)
    assert summaries(journaled) == ["put a", "begin a 1"]


def test_another_call_under_the_same_lease_starts_another_attempt(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    assert journaled.start_attempt(delivery.lease, worker="w2")[:2] == (LeaseStatus.DONE, 2)
    assert summaries(journaled)[2:] == ["lost a 1 started again", "begin a 2"]


def test_a_lost_lease_neither_starts_nor_finishes_an_attempt(journaled: Engine) -> None:
    late = put_and_start(journaled)
    move_to(journaled, LEASE_MS)
    (holder,) = fetch(journaled)
    assert journaled.start_attempt(late.lease, worker="late")[:2] == (LeaseStatus.STALE, 0)
    assert journaled.finish_attempt(late.lease, AckAction.DONE) == LeaseStatus.STALE
    assert journaled.report(late.lease, EventKind.LOG, "journaled here") == LeaseStatus.STALE
    assert journaled.check_leases([late.lease, holder.lease]) == [LeaseStatus.STALE, LeaseStatus.DONE]
    journaled.ack([holder])
    assert journaled.start_attempt(late.lease, worker="late")[:2] == (LeaseStatus.UNKNOWN, 0)
    assert summaries(journaled) == ["put a", "begin a 1", "lost a 1 lease", "ack a 1"]


def test_an_empty_token_does_not_hold_a_released_message(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    journaled.release([delivery])
    no_lease = replace(delivery.lease, token=b"")
    assert journaled.check_leases([no_lease]) == [LeaseStatus.STALE]
    assert journaled.start_attempt(no_lease, worker="w")[:2] == (LeaseStatus.STALE, 0)


def test_a_full_journal_refuses_new_tasks_but_no_continuation_and_no_outcome(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    journaled.enable_journal(QUEUE, 2)
    with pytest.raises(JournalFull) as full:
        journaled.put(QUEUE, Message(task_id="b"))
    assert (full.value.queue, full.value.unread) == (QUEUE, 2)
    put = journaled.put_many(QUEUE, [Message(task_id="a"), Message(task_id="c", key="k"), Message(task_id="d")])
    assert [result.code for result in put] == [PutCode.ACCEPTED, PutCode.JOURNAL_FULL, PutCode.JOURNAL_FULL]
    assert journaled.report(delivery.lease, EventKind.PROGRESS, "50") == LeaseStatus.DONE  # not written
    assert journaled.finish_attempt(delivery.lease, AckAction.DONE) == LeaseStatus.DONE
    assert summaries(journaled) == ["put a", "begin a 1", f"put {put[0].id}", "end a 1 done"]
    journaled.trim_journal(QUEUE, until=journaled.events(QUEUE)[-1].cursor)
    assert journaled.put(QUEUE, Message(task_id="b")) == "b"


def test_a_batch_fills_the_journal_to_its_limit_and_no_further(journaled: Engine) -> None:
    journaled.enable_journal(QUEUE, 3)
    put = journaled.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(5)])
    assert [result.code for result in put].count(PutCode.JOURNAL_FULL) == 2
    assert journaled.unread([QUEUE]) == [3]


def test_attempts_count_without_a_journal(journaled: Engine) -> None:
    journaled.enable_journal(QUEUE, None)
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.RETRY)
    journaled.ack([delivery])
    assert journaled.start_attempt(fetch(journaled)[0].lease, worker="w")[:2] == (LeaseStatus.DONE, 2)
    assert journaled.find(QUEUE, "a").attempts == 2
    assert summaries(journaled) == []


def test_a_running_task_that_is_cancelled_is_marked_and_ends_by_its_ack_action(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    for _ in range(2):
        assert journaled.cancel(QUEUE, "a").marked == 1
    assert journaled.check_leases([delivery.lease]) == [LeaseStatus.CANCELLED]
    journaled.finish_attempt(delivery.lease, AckAction.DONE)
    assert journaled.ack([delivery]) == [LeaseStatus.CANCELLED]
    assert summaries(journaled) == ["put a", "begin a 1", "mark a", "end a 1 done"]


@pytest.mark.parametrize("way", ["ack", "release", "the end of the lease"])
def test_a_cancelled_task_is_not_retried(journaled: Engine, way: str) -> None:
    delivery = put_and_start(journaled)
    journaled.cancel(QUEUE, "a")
    journaled.finish_attempt(delivery.lease, AckAction.RETRY)
    match way:
        case "ack":
            assert journaled.ack([delivery]) == [LeaseStatus.CANCELLED]
        case "release":
            assert journaled.release([delivery]) == [LeaseStatus.CANCELLED]
        case _:
            move_to(journaled, LEASE_MS)
    assert fetch(journaled) == []
    assert summaries(journaled)[2:] == ["mark a", "end a 1 retry", "cancel a"]


def test_a_task_cancelled_before_its_attempt_does_not_start(journaled: Engine) -> None:
    journaled.put(QUEUE, Message(task_id="a"))
    (delivery,) = fetch(journaled)
    journaled.cancel(QUEUE, "a")
    assert journaled.start_attempt(delivery.lease, worker="w")[:2] == (LeaseStatus.CANCELLED, 0)


def test_a_dead_letter_tells_why_and_counts_attempts_anew_when_it_is_requeued(journaled: Engine) -> None:
    journaled.bury([put_and_start(journaled)], reason="bad", error="no such thing")
    buried = journaled.events(QUEUE)[-1]
    assert (buried.reason, buried.detail, buried.attempt) == ("bad", "no such thing", 1)
    assert buried.stored is not None
    assert buried.stored.message.task_id == "a"
    journaled.requeue(QUEUE, ["a"])
    (delivery,) = fetch(journaled)
    assert journaled.start_attempt(delivery.lease, worker="w")[:2] == (LeaseStatus.DONE, 1)
    journaled.bury([delivery], reason="bad")
    journaled.discard(QUEUE, ["a"])
    assert summaries(journaled)[2:] == ["bury a 1 bad", "requeue a", "begin a 1", "bury a 1 bad", "discard a"]


def test_two_readers_see_the_same_events_and_trimming_deletes_up_to_the_cursor(journaled: Engine) -> None:
    journaled.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(6)])
    faster, slower = journaled.events(QUEUE, limit=4), journaled.events(QUEUE, limit=2)
    assert faster[:2] == slower
    journaled.trim_journal(QUEUE, until=slower[-1].cursor)
    assert journaled.events(QUEUE) == journaled.events(QUEUE, after=slower[-1].cursor)
    assert journaled.events(QUEUE, limit=2) == faster[2:]
    journaled.trim_journal(QUEUE, until=faster[-1].cursor)
    journaled.trim_journal(QUEUE, until=slower[-1].cursor)  # the slower reader: nothing more is deleted
    assert [event.message_id for event in journaled.events(QUEUE)] == ["t4", "t5"]


def test_events_attempts_and_ack_actions_survive_a_restart_of_the_server(tmp_path: Path, valkey: RunningValkey) -> None:
    server = RunningValkey(tmp_path, port=free_port())
    server.start()
    try:
        engine = Engine.from_url(server.url(0))
        engine.enable_journal(QUEUE, 10)
        delivery = put_and_start(engine)
        engine.finish_attempt(delivery.lease, AckAction.RETRY, outcome="half")
        before = engine.events(QUEUE)
        server.restart()
        assert engine.events(QUEUE) == before
        engine.ack([delivery])
        (again,) = fetch(engine)
        assert engine.start_attempt(again.lease, worker="w")[:2] == (LeaseStatus.DONE, 2)
        assert engine.events(QUEUE, after=before[-1].cursor)[0].kind is EventKind.START
        engine.close()
    finally:
        server.stop()


def test_a_deleted_queue_leaves_nothing(journaled: Engine) -> None:
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.RETRY)
    journaled.delete(QUEUE)
    assert existing_keys(journaled) == set()
    assert journaled.ack([delivery]) == [LeaseStatus.UNKNOWN]


def test_the_journal_expires_with_its_queue_and_stays_when_the_queue_does_not_expire(journaled: Engine) -> None:
    def keys_without_expiry() -> set[str]:
        times = journaled.runner.pipeline([("PTTL", journaled.keys.key(QUEUE, name)) for name in NAMES])
        return {name for name, ms in zip(NAMES, times, strict=True) if ms == -1}

    journaled.enable_journal(QUEUE, None)
    journaled.put(QUEUE, Message(task_id="b"))
    journaled.enable_journal(QUEUE, 100)
    journaled.expire(QUEUE, 60_000)
    assert (journaled.purge(QUEUE), keys_without_expiry()) == (1, set())  # the first event
    delivery = put_and_start(journaled)
    journaled.finish_attempt(delivery.lease, AckAction.RETRY)
    journaled.ack([delivery])
    assert keys_without_expiry() == set()
    journaled.expire(QUEUE, None)
    assert keys_without_expiry() == existing_keys(journaled)


def test_a_lease_survives_its_text_form(journaled: Engine) -> None:
    journaled.put("a queue, é", Message(task_id="a"))
    (delivery,) = journaled.fetch(RoundRobin({"a queue, é": 1}), 1).deliveries
    lease = Lease.parse(str(delivery.lease))
    assert lease == delivery.lease
    assert journaled.check_leases([lease]) == [LeaseStatus.DONE]


def test_a_purge_writes_one_entry_for_many_messages(journaled: Engine) -> None:
    """Else the purge of a full queue would overrun the bound of the journal, which then refuses new messages."""
    ids = [f"t{number}" for number in range(60)]
    journaled.put_many(QUEUE, [Message(task_id=id, key="k" if id == "t7" else None) for id in ids])
    last = journaled.events(QUEUE)[-1].cursor

    assert journaled.purge(QUEUE) == 60

    assert journaled.unread([QUEUE]) == [61]
    purged = journaled.events(QUEUE, after=last)
    assert {event.kind for event in purged} == {EventKind.PURGE}
    assert sorted(event.task_id for event in purged) == sorted(ids)
    journaled.put(QUEUE, Message(task_id="next"))
