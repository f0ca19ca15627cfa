"""Large messages: no call and no read of the journal is without a bound in bytes."""

from __future__ import annotations

from laneway.engine import Engine, EventKind, Message, MessageState, PutCode, RoundRobin
from laneway.engine.admin import EVENT_BYTES
from laneway.engine.engine import CHUNK_BYTES

QUEUE = "large"
BODY = b"x" * 100_000


def put_calls(engine: Engine) -> int:
    """How many script calls the server has run since the statistics were reset."""
    raw: bytes = engine.runner.call("INFO", "commandstats")
    lines = dict(line.split(":", 1) for line in raw.decode().splitlines() if ":" in line)
    return int(lines.get("cmdstat_evalsha", "calls=0,").partition("=")[2].partition(",")[0])


def journal_bytes(engine: Engine) -> int:
    entries = engine.runner.call("XRANGE", engine.keys.key(QUEUE, "journal"), "-", "+")
    return sum(len(value) for _, fields in entries for value in fields)


def test_a_bulk_of_large_messages_is_put_in_calls_that_are_bounded_by_bytes(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="first"))
    engine.runner.call("CONFIG", "RESETSTAT")
    results = engine.put_many(QUEUE, [Message(task_id=f"t{number}", body=BODY) for number in range(25)])

    assert [(result.code, result.id) for result in results] == [(PutCode.ACCEPTED, f"t{n}") for n in range(25)]
    assert put_calls(engine) == -(-25 // (CHUNK_BYTES // (len(BODY) + 10)))
    fetched = engine.fetch(RoundRobin({QUEUE: 1}), 3).deliveries
    assert [held.id for held in fetched] == ["first", "t0", "t1"]


def test_the_journal_leaves_out_a_body_that_its_reader_has(engine: Engine) -> None:
    engine.enable_journal(QUEUE, 100)
    plain = Message(task_id="plain", name="app.work", body=BODY, body_known=True)
    special = Message(task_id="special", name="app.work", body=BODY, body_known=True, key="k", eta_ms=1, priority=3)
    again = Message(task_id="plain", name="app.work", body=BODY, body_known=True)
    for message in (plain, special, again):
        engine.put(QUEUE, message)
    engine.bury(engine.fetch(RoundRobin({QUEUE: 1}), 5).deliveries, reason="test")

    assert journal_bytes(engine) < 2_000
    events = engine.events(QUEUE)
    assert [event.kind for event in events] == [EventKind.PUT] * 3 + [EventKind.BURY] * 3
    for event in events:
        assert event.stored is not None
        message = event.stored.message
        assert (message.name, message.body, message.body_known) == ("app.work", b"", True)
    stored = events[1].stored
    assert stored is not None
    assert (stored.message.key, stored.message.eta_ms, stored.message.priority) == ("k", 1, 3)
    assert engine.find(QUEUE, "special").stored.message.body == BODY, "the message itself is whole"


def test_the_journal_keeps_a_body_that_its_reader_may_not_have(engine: Engine) -> None:
    engine.enable_journal(QUEUE, 100)
    engine.put(QUEUE, Message(task_id="beat", name="app.work", body=BODY))
    (event,) = engine.events(QUEUE)
    assert event.stored is not None
    assert event.stored.message.body == BODY


def test_a_read_of_the_journal_is_bounded_by_bytes_and_misses_nothing(engine: Engine) -> None:
    engine.enable_journal(QUEUE, 1_000)
    for number in range(60):
        engine.put(QUEUE, Message(task_id=f"t{number}", body=BODY if 10 <= number < 50 else b""))

    cursor, read, pages = "0-0", list[str](), list[int]()
    while events := engine.events(QUEUE, after=cursor, limit=500):
        pages.append(sum(len(event.stored.message.body) for event in events if event.stored))
        read += [event.task_id for event in events]
        cursor = events[-1].cursor

    assert read == [f"t{number}" for number in range(60)]
    assert max(pages) < EVENT_BYTES + len(BODY)


def test_an_event_that_is_larger_than_a_read_is_read_alone(engine: Engine) -> None:
    engine.enable_journal(QUEUE, 10)
    engine.put(QUEUE, Message(task_id="huge", body=b"x" * (EVENT_BYTES + 1)))
    engine.put(QUEUE, Message(task_id="next"))

    assert [event.task_id for event in engine.events(QUEUE)] == ["huge"]


def test_a_read_of_the_journal_returns_as_many_entries_as_were_asked_for(engine: Engine) -> None:
    engine.enable_journal(QUEUE, 100)
    engine.put_many(QUEUE, [Message(task_id=f"t{number}") for number in range(30)])
    for limit in (1, 7, 8, 9, 16, 17, 30, 31):
        assert len(engine.events(QUEUE, limit=limit)) == min(limit, 30)


def test_looking_for_messages_can_leave_out_their_bodies(engine: Engine) -> None:
    engine.put(QUEUE, Message(task_id="plain", name="app.work", body=BODY))
    engine.put(QUEUE, Message(task_id="special", name="app.work", body=BODY, key="k", priority=3))
    for found in (
        *engine.peek(QUEUE, MessageState.READY, bodies=False),
        *engine.find_many(QUEUE, ["special", "plain"], bodies=False),
    ):
        assert found is not None
        message = found.stored.message
        assert (message.name, message.body, message.key) == (
            "app.work",
            b"",
            None if message.task_id == "plain" else "k",
        )
    assert [found.stored.message.body for found in engine.peek(QUEUE, MessageState.READY)] == [BODY, BODY]
