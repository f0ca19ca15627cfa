"""A PostgreSQL server that takes connections and answers nothing: requests and probes get an answer all the same."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from tests.fixtures.api_calls import REPORT, Api, at_once
from tests.fixtures.databases import PostgresServer
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)

BUSY_MACHINE = 3.0
"""Seconds that a loaded machine may add."""
READERS = 30
"""More than there are threads."""


def ready(api: Api) -> tuple[int, dict[str, Any]]:
    answer = api.http.get("/health/ready")
    return answer.status_code, answer.json()


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
    assert seconds < 5 + BUSY_MACHINE
    assert {answer.status_code for answer, _ in answers} == {503}
    assert max(seconds for _, seconds in answers) < 10 + BUSY_MACHINE
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
