"""The output of a running task: grouped, complete, in order, limited."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from laneway.engine import EventKind
from laneway.platform.errors import BrokerUnavailable, TaskCancelled
from laneway.platform.execution import output
from laneway.platform.execution.outcomes import AttemptSignal
from laneway.platform.execution.output import CHUNK_LIMIT, OUTPUT_LIMIT, OutputTooLarge, OutputWriter
from laneway.platform.history.event_stream import EventStream
from laneway.platform.history.task_views import describe_event
from laneway.schemas.feed import chunks_of
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until


class Sent:
    """Takes the groups that a writer sends."""

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = []
        self.signal = AttemptSignal.CONTINUE
        self.error: Exception | None = None

    def __call__(self, data: dict[str, Any]) -> AttemptSignal:
        if self.error is not None:
            raise self.error
        self.groups.append(data)
        return self.signal

    @property
    def chunks(self) -> list[Any]:
        return [chunk for group in self.groups for chunk in group["chunks"]]


def test_many_tokens_make_few_round_trips_and_keep_their_order() -> None:
    sent = Sent()
    writer, began = OutputWriter(sent), monotonic()
    for number in range(3000):
        writer.write(f"{number} ")
    writer.close()

    seconds = monotonic() - began
    assert "".join(sent.chunks) == "".join(f"{number} " for number in range(3000))
    assert len(sent.groups) <= 4 + seconds / output.GROUP_SECONDS
    assert [group["first"] for group in sent.groups] == [
        sum(len(group["chunks"]) for group in sent.groups[:index]) for index in range(len(sent.groups))
    ]


def test_a_chunk_is_sent_although_the_task_writes_nothing_further() -> None:
    sent = Sent()
    writer = OutputWriter(sent)
    writer.write("first")
    writer.write("second")

    wait_until(lambda: sent.chunks == ["first", "second"], seconds=5)
    writer.write({"n": 1})
    writer.write([None])
    wait_until(lambda: sent.chunks[2:] == [{"n": 1}, [None]], seconds=5)
    writer.close()


def test_a_chunk_is_kept_as_it_was_written() -> None:
    sent, rows = Sent(), [1]
    writer = OutputWriter(sent)
    writer.write("")
    for _ in range(2):
        writer.write(rows)
        rows.append(2)
    writer.close()

    assert sent.chunks == [[1], [1, 2]]


def test_what_is_too_large_or_no_json_is_refused_and_the_rest_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "CHARACTERS_PER_SECOND", 1e9)
    sent = Sent()
    writer = OutputWriter(sent)
    writer.write("x" * (CHUNK_LIMIT - 2))
    with pytest.raises(OutputTooLarge, match="chunk of the output has 64001 characters of JSON, more than 64000"):
        writer.write("x" * (CHUNK_LIMIT - 1))
    for bad in (object(), {1, 2}):
        with pytest.raises(TypeError):
            writer.write(bad)
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.write(float("nan"))
    with pytest.raises(OutputTooLarge, match="output of this attempt"):
        for _ in range(OUTPUT_LIMIT // CHUNK_LIMIT + 1):
            writer.write("x" * (CHUNK_LIMIT - 2))
    writer.write("end")
    writer.close()

    assert len(sent.chunks) == OUTPUT_LIMIT // CHUNK_LIMIT + 1
    assert sent.chunks[-1] == "end"


def test_a_writer_that_is_too_fast_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "CHARACTERS_PER_SECOND", 160_000)
    writer, began = OutputWriter(Sent()), monotonic()
    for _ in range(4):
        writer.write("x" * 16_000)
    assert monotonic() - began >= 0.28
    writer.close()


def test_nothing_is_lost_while_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "AGAIN_SECONDS", 0.01)
    sent = Sent()
    writer = OutputWriter(sent)
    writer.write("a")
    sent.error = BrokerUnavailable("away")
    writer.write("b")
    wait_until(lambda: monotonic() - writer._sent_at > output.GROUP_SECONDS, seconds=5)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(BrokerUnavailable):
        writer.write("c")
    sent.error = None

    wait_until(lambda: sent.chunks == ["a", "b", "c"], seconds=5)
    writer.close()


def test_a_cancelled_task_stops_at_the_next_chunk() -> None:
    sent = Sent()
    sent.signal = AttemptSignal.CANCEL
    writer = OutputWriter(sent)
    with pytest.raises(TaskCancelled):
        writer.write("a")
    writer.close()


def test_the_output_is_recorded_as_events_that_show_it_unchanged(platform: Platform) -> None:
    id = platform.chore()
    attempt = platform.start("maintenance")
    hostile = ["\x00 \ud800 é", {"token": "Hello", "password": "is no secret here"}, None]
    data = {"first": 0, "chunks": hostile}
    assert platform.attempts.report(attempt, EventKind.OUTPUT, data) is AttemptSignal.CONTINUE
    platform.end(attempt)
    platform.recorder.catch_up()

    events = [describe_event(event) for event in stream_of(platform).events(id)]
    assert [event.kind for event in events] == ["accepted", "put", "begin", "output", "end"]
    chunks = chunks_of(events[3])
    assert [chunk.value for chunk in chunks] == hostile
    assert [(chunk.attempt, chunk.number, chunk.event_id) for chunk in chunks] == [
        (1, number, events[3].id) for number in range(3)
    ]


def stream_of(platform: Platform) -> EventStream:
    return EventStream(platform.database, platform.recorder, platform.tasks)
