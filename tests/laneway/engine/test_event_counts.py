"""The counters of recorded events: each part of a journal counts once, and labels are bounded."""

from __future__ import annotations

import pytest

from laneway.engine import Engine, Message, RoundRobin
from laneway.engine import event_counts as module
from laneway.engine.event_counts import IF_KNOWN, OTHER, EventCounts
from tests.fixtures.waiting import wait_until

QUEUE, START = "crm", "0-0"


@pytest.fixture
def counts(engine: Engine) -> EventCounts:
    """The counters of an empty database."""
    return EventCounts(engine)


def test_a_part_of_the_journal_is_counted_once(counts: EventCounts) -> None:
    assert counts.add(QUEUE, {("a", "started"): 2}, after=START, until="5-0") == START
    assert counts.add(QUEUE, {("a", "started"): 2}, after=START, until="5-0") == "5-0", "the same call again"
    assert counts.add(QUEUE, {("a", "started"): 3, ("b", "started"): 1}, after="5-0", until="9-1") == "5-0"
    assert counts.add(QUEUE, {("a", "started"): 9}, after="4-0", until="10-0") == "9-1", "it does not follow"

    assert counts.read([QUEUE, "other"]) == [{("a", "started"): 5, ("b", "started"): 1}, {}]


def test_further_labels_are_counted_together(counts: EventCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LABELS", 2)
    counts.add(QUEUE, {(name, "started"): 1 for name in ("a", "b", "c", "d", OTHER)}, after=START, until="1-0")
    counts.add(QUEUE, {(name, "started"): 1 for name in ("d", "b")}, after="1-0", until="2-0")

    assert counts.read([QUEUE]) == [{("a", "started"): 1, ("b", "started"): 2, (OTHER, "started"): 4}]


def test_a_label_that_the_caller_does_not_know_counts_if_the_queue_has_it(counts: EventCounts) -> None:
    counts.add(QUEUE, {(IF_KNOWN + "a", "started"): 1}, after=START, until="1-0")
    counts.add(QUEUE, {("a", "started"): 1}, after="1-0", until="2-0")
    counts.add(QUEUE, {(IF_KNOWN + "a", "started"): 1, (IF_KNOWN + "b", "started"): 1}, after="2-0", until="3-0")

    assert counts.read([QUEUE]) == [{(OTHER, "started"): 2, ("a", "started"): 2}]


@pytest.mark.parametrize("field", ["counted", "labels", "started\0a"])
def test_what_somebody_else_wrote_stops_nothing(counts: EventCounts, engine: Engine, field: str) -> None:
    counts.add(QUEUE, {("a", "started"): 1}, after=START, until="1-0")
    key = engine.keys.key(QUEUE, "event_counts")
    engine.runner.call("HSET", key, field, "garbage")
    assert counts.add(QUEUE, {("a", "started"): 1, ("b", "started"): 1}, after="1-0", until="2-0") == "1-0"
    assert counts.read([QUEUE])[0]["b", "started"] == 1

    engine.runner.call("SET", key, "garbage")
    assert counts.read([QUEUE]) == [{}]
    assert counts.add(QUEUE, {("a", "started"): 7}, after="2-0", until="3-0") == "2-0"
    assert counts.read([QUEUE]) == [{("a", "started"): 7}]


def test_counters_go_with_their_queue(counts: EventCounts, engine: Engine) -> None:
    counts.add(QUEUE, {("a", "started"): 1}, after=START, until="1-0")
    engine.delete(QUEUE)
    assert counts.read([QUEUE]) == [{}]


def test_a_full_server_counts(counts: EventCounts, engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="a"))
    engine.runner.call("CONFIG", "SET", "maxmemory", "1")
    try:
        assert counts.add(QUEUE, {("a", "started"): 1}, after=START, until="1-0") == START
    finally:
        engine.runner.call("CONFIG", "SET", "maxmemory", "0")
    assert counts.read([QUEUE]) == [{("a", "started"): 1}]


# --- lags ---------------------------------------------------------------------------------------------------


def test_the_oldest_ready_message_is_found_whatever_its_priority(counts: EventCounts, engine: Engine) -> None:
    assert counts.lags([QUEUE])[0].ready_since is None
    before = engine.time() * 1000
    engine.put(QUEUE, Message(task_id="low", priority=0))
    between = engine.time() * 1000
    engine.put(QUEUE, Message(task_id="high", priority=9))

    since = counts.lags([QUEUE])[0].ready_since
    assert since is not None
    assert int(before) <= since <= between
    assert [held.id for held in engine.fetch(RoundRobin({QUEUE: 1}), 1).deliveries] == ["high"]


def test_a_scheduled_message_waits_since_it_was_due(counts: EventCounts, engine: Engine) -> None:
    due = int(engine.time() * 1000) + 30
    engine.put(QUEUE, Message(task_id="a", eta_ms=due))
    engine.put(QUEUE, Message(task_id="b"))
    engine.pause(QUEUE)
    wait_until(lambda: engine.time() * 1000 > due, seconds=10)
    engine.fetch(RoundRobin({QUEUE: 1}), 1)
    engine.runner.call("ZREM", engine.keys.key(QUEUE, "ready"), "b")

    assert counts.lags([QUEUE])[0].ready_since == due


def test_the_first_unread_event_is_found(counts: EventCounts, engine: Engine) -> None:
    engine.enable_journal(QUEUE, 100)
    assert (counts.lags([QUEUE])[0].unread, counts.lags([QUEUE])[0].unread_since) == (0, None)
    for id in ("a", "b"):
        engine.put(QUEUE, Message(task_id=id))

    lags = counts.lags([QUEUE])[0]
    assert (lags.unread, lags.unread_since) == (2, engine.events(QUEUE)[0].at)


def test_a_damaged_queue_hides_no_other_one(counts: EventCounts, engine: Engine) -> None:
    engine.put("sound", Message(task_id="a"))
    engine.runner.call("SET", engine.keys.key(QUEUE, "ready"), "garbage")

    damaged, sound = counts.lags([QUEUE, "sound"])
    assert damaged.ready_since is None
    assert sound.ready_since is not None
