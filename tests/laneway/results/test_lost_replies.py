"""Commands of the result backend whose reply is lost are sent again, and count once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery

from laneway.results.backend import ResultBackend
from tests.fixtures.lost_reply import LostReply


def body(results: list[Any]) -> list[Any]:
    return results


LoseReply = Callable[[LostReply], LostReply]


def test_a_counter_counts_once(backend: ResultBackend, server: redis.Redis, lose_reply: LoseReply) -> None:
    assert backend.incr(b"celery-count") == 1
    lost = lose_reply(LostReply(2))
    assert backend.incr(b"celery-count") == 2
    assert lost.lost
    assert backend.incr(b"celery-count") == 3
    assert server.get("celery-count") == b"3"


def test_a_chord_grows_by_one(backend: ResultBackend, server: redis.Redis, lose_reply: LoseReply) -> None:
    lost = lose_reply(LostReply(1))
    backend.add_to_chord("g", None)
    assert lost.lost
    assert server.get(backend.get_key_for_group("g", ".t")) == b"1"


@pytest.mark.parametrize("parts", [1, 2])
def test_the_part_that_completes_a_chord_starts_its_body(
    app: Celery, backend: ResultBackend, lose_reply: LoseReply, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """The lost reply said that this part may start the body: nobody else would ever start it."""
    started: list[Any] = []
    callback = app.task(name="body")(body).s()
    monkeypatch.setattr(type(callback), "delay", lambda _self, results: started.append(results))
    backend.set_chord_size("g", parts)
    requests = [
        SimpleNamespace(id=f"t{number}", group="g", group_index=number, chord=callback, errbacks=None)
        for number in range(parts)
    ]
    for request in requests[:-1]:
        backend.on_chord_part_return(request, "SUCCESS", 1)
    lost = lose_reply(LostReply([parts, None, str(parts).encode(), 1]))

    backend.on_chord_part_return(requests[-1], "SUCCESS", 1)

    assert lost.lost
    assert started == [[1] * parts]
    backend.on_chord_part_return(requests[-1], "SUCCESS", 1)
    assert len(started) == 1, "a second delivery of the part starts it no more"


def test_the_end_of_a_chord_is_not_reported_as_lost(
    app: Celery,
    backend: ResultBackend,
    lose_reply: LoseReply,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback = app.task(name="body")(body).s()
    monkeypatch.setattr(type(callback), "delay", lambda _self, _results: lose_reply(lost))
    lost = LostReply(1)
    backend.set_chord_size("g", 1)
    request = SimpleNamespace(id="t", group="g", group_index=0, chord=callback, errbacks=None)

    backend.on_chord_part_return(request, "SUCCESS", 1)

    assert lost.lost
    assert "claim" not in caplog.text
