"""Another program holds the database: requests that write get a quick answer, and the others do not notice."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from laneway.api import threads
from tests.fixtures.api_calls import Api, at_once, say
from tests.fixtures.held_database import held_by_another_program

DEADLINE = 1.5
BUSY_MACHINE = 3.0
"""Seconds that a loaded machine may add."""
WRITERS, READERS = 60, 20


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WAIT_SECONDS", DEADLINE)


def message(number: int) -> tuple[str, str, Any]:
    return "POST", "/conversations/message", {"conversation_id": f"held-{number}", "message": "Hello"}


def test_writers_are_refused_in_time_while_readers_and_liveness_go_on(api: Api) -> None:
    id = say(api, "before")
    reads = [("GET", f"/tasks/{id}", None), ("GET", "/tasks", None), ("GET", "/stats", None)]
    requests = [message(number) for number in range(WRITERS)]
    requests += [reads[number % len(reads)] for number in range(READERS)] + [("GET", "/health/live", None)] * 3

    with held_by_another_program(api.database):
        answers = at_once(api, requests)

    written, read, live = answers[:WRITERS], answers[WRITERS:-3], answers[-3:]
    assert {answer.status_code for answer, _ in written} == {503}, written[0][0].text
    assert {answer.json()["type"] for answer, _ in written} <= {
        "urn:laneway:problem:database-busy",
        "urn:laneway:problem:overloaded",
    }
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer, _ in written)
    assert max(seconds for _, seconds in written) < DEADLINE + BUSY_MACHINE
    assert {answer.status_code for answer, _ in read + live} == {200}
    assert max(seconds for _, seconds in read + live) < DEADLINE + BUSY_MACHINE / 2
    assert say(api, "after")


def test_a_holder_that_stands_still_is_no_different(api: Api) -> None:
    with held_by_another_program(api.database) as holder:
        if holder is None:
            pytest.skip("PostgreSQL holds the lock for its session, whatever the program does")
        holder.send_signal(signal.SIGSTOP)
        answers = at_once(api, [message(0), ("POST", "/tasks/no-such-task/cancel", None), ("GET", "/tasks", None)])
        holder.send_signal(signal.SIGCONT)

    assert [answer.status_code for answer, _ in answers] == [503, 404, 200]
    assert max(seconds for _, seconds in answers) < DEADLINE + BUSY_MACHINE


def test_a_short_hold_only_delays(api: Api) -> None:
    async def held_for_a_moment() -> httpx.Response:
        transport = httpx.ASGITransport(api.http.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            with held_by_another_program(api.database):
                waiting = asyncio.create_task(client.request(*message(0)[:2], json=message(0)[2]))
                _, unfinished = await asyncio.wait([waiting], timeout=DEADLINE / 5)
                assert unfinished
            return await waiting

    assert asyncio.run(held_for_a_moment()).status_code == 202
