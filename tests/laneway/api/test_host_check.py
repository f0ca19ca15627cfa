"""Requests that a page of another site makes a browser send."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.api.host_check import check
from laneway.platform.access.errors import ForeignOrigin, OpenNetwork, UnknownHost
from laneway.platform.settings import AccessSettings, Settings, load_settings
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.platform import Environment

AUTHENTICATED = AccessSettings.model_validate({"AUTHENTICATION": "on"})
SUBMISSION: dict[str, Any] = {"name": "generate_performance_report_task", "payload": {}}


def test_a_rebinding_page_reads_and_submits_nothing(make_api: MakeApi) -> None:
    api = make_api(ALLOWED_HOSTS="tasks.example.com")
    rebound = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"}

    answers = [
        api.http.get("/tasks", headers={"Host": "evil.example:8000"}),
        api.http.post("/tasks", json=SUBMISSION, headers=rebound),
        api.http.delete("/tasks?older_than=0", headers=rebound),
        api.http.get("/health/live", headers={"Host": "evil.example"}),
    ]

    assert [answer.status_code for answer in answers] == [421] * 4
    assert answers[0].json()["type"] == "urn:laneway:problem:unknown-host"
    assert "X-Request-ID" in answers[0].headers
    assert api.http.get("/tasks").json()["tasks"] == []
    assert api.http.get("/tasks", headers={"Host": "tasks.example.com"}).status_code == 200


def test_a_foreign_page_writes_nothing(api: Api) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    id = api.http.post("/tasks", json=SUBMISSION).json()["task_id"]

    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ):
        refused = api.http.post(f"/tasks/{id}/cancel", headers={**form, **headers})
        assert (refused.status_code, refused.json()["title"]) == (403, "Foreign origin"), headers
    assert api.http.get(f"/tasks/{id}", headers={"Sec-Fetch-Site": "cross-site"}).json()["status"] == "pending"
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert api.http.post(f"/tasks/{id}/cancel", headers=own).status_code == 200


@pytest.fixture
def settings(environment: Environment) -> Settings:
    """Settings with further hosts."""
    environment(ALLOWED_HOSTS="tasks.example.com, *.apps.example.com,10.0.0.7")
    return load_settings(Settings)


def request(host: str, *more: tuple[str, str], server: str = "127.0.0.1", method: str = "POST") -> dict[str, object]:
    """An ASGI scope."""
    headers = [("host", host), *more]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": method, "path": "/", "server": (server, 8000), "headers": encoded}


def test_which_hosts_are_ours(settings: Settings) -> None:
    ours = ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "a.localhost", "tasks.example.com"]
    ours += ["x.apps.example.com:443", "a.b.apps.example.com", "10.0.0.7:80", "tasks.example.com."]
    foreign = [
        "",
        "evil.example",
        "apps.example.com",
        "xapps.example.com",
        "evilapps.example.com",
        "tasks.example.com.evil.example",
    ]
    foreign += ["10.0.0.8", "127.0.0.1.evil.example", "localhost@evil.example", "evil.example#localhost", "[", "a b"]
    foreign += ["localhost:99999", "localhost:x", "tasks.example.com/", "ü", "x" * 3000, "evil.example\\localhost"]

    for host in ours:
        check(request(host), settings)
    for host in foreign:
        with pytest.raises(UnknownHost):
            check(request(host), settings)
    with pytest.raises(UnknownHost):
        check(request("localhost", ("host", "localhost")), settings)
    check(request("10.0.0.9:8000", server="10.0.0.9"), settings.model_copy(update={"access": AUTHENTICATED}))


def test_the_origin_is_compared_with_its_port(settings: Settings) -> None:
    for host, origin in (
        ("localhost:8000", "http://localhost:8000"),
        ("tasks.example.com", "https://tasks.example.com"),
        ("tasks.example.com:443", "https://tasks.example.com"),
        ("[::1]:8000", "http://[::1]:8000"),
    ):
        check(request(host, ("origin", origin)), settings)
    for host, origin in (
        ("localhost:8000", "http://localhost"),
        ("tasks.example.com", "https://tasks.example.com:8443"),
        ("tasks.example.com", "file://tasks.example.com"),
        ("tasks.example.com", "https://[tasks.example.com"),
        ("localhost:8000", ""),
    ):
        with pytest.raises(ForeignOrigin):
            check(request(host, ("origin", origin)), settings)


def test_without_authentication_only_loopback_is_answered(environment: Environment) -> None:
    environment(ALLOWED_HOSTS="10.0.0.7")
    arrived = request("10.0.0.7", server="10.0.0.7")
    with pytest.raises(OpenNetwork, match="AUTHENTICATION=on"):
        check(arrived, load_settings(Settings))
    environment(AUTHENTICATION="on")
    check(arrived, load_settings(Settings))
