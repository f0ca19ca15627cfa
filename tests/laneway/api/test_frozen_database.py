"""A PostgreSQL server that takes connections and answers nothing: requests and probes get an answer all the same."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.fixtures.api_calls import REPORT, Api
from tests.fixtures.databases import PostgresServer
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)

READERS = 30
"""More than there are threads."""
Timed = tuple[httpx.Response, float]


def ready(api: Api) -> tuple[int, dict[str, Any]]:
    answer = api.http.get("/health/ready")
    return answer.status_code, answer.json()


def at_once(api: Api, requests: list[tuple[str, str, Any]]) -> list[Timed]:
    """Send all requests at the same moment; returns each response, and the seconds until it came."""

    async def send(client: httpx.AsyncClient, method: str, path: str, body: Any) -> Timed:
        began = monotonic()
        response = await client.request(method, path, json=body)
        return response, monotonic() - began

    async def send_all() -> list[Timed]:
        transport = httpx.ASGITransport(api.http.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            return await asyncio.gather(*(send(client, *request) for request in requests))

    return asyncio.run(send_all())


def test_a_frozen_server_is_named_and_keeps_no_request_waiting(api: Api, postgresql_server: PostgresServer) -> None:
    submission = ("POST", "/tasks", {"name": REPORT, "payload": {}})
    requests = [*[("GET", "/tasks", None)] * READERS, submission, ("GET", "/health/ready", None)]
    assert ready(api)[0] == 200
    with postgresql_server.frozen():
        answers = at_once(api, requests)

    probe, seconds = answers[-1]
    assert probe.status_code == 503
    assert (probe.json()["status"], probe.json()["database"]) == ("not ready", "Database unavailable")
    assert "The database cannot be reached" in probe.json()["degraded"][0]["problem"]
    assert seconds < 5
    assert {answer.status_code for answer, _ in answers} == {503}
    assert max(seconds for _, seconds in answers) < 10
    wait_until(lambda: ready(api)[0] == 200, seconds=10)
    assert api.http.get("/tasks").status_code == 200


def test_a_server_whose_disk_stands_still_is_named_at_once_the_second_time(
    api: Api, postgresql_server: PostgresServer
) -> None:
    assert ready(api)[0] == 200
    with postgresql_server.frozen(takes_new=True):
        began = monotonic()
        first = ready(api)
        known = monotonic()
        second = ready(api)
        ended = monotonic()

    for status, body in (first, second):
        assert (status, body["status"]) == (503, "not ready")
        assert [each["part"] for each in body["degraded"]] == ["database"]
    assert known - began < 5
    assert ended - known < 1
    wait_until(lambda: ready(api)[0] == 200, seconds=10)
