"""Every error has one form and a request id; responses, logs and stores reveal no internals and no secrets."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text

from laneway.api.errors import platform_problem, public_detail
from laneway.api.middleware import LONGEST_PATH
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.scopes import Scope
from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, PlatformError
from laneway.platform.logging import configure_logging
from laneway.platform.webhooks.signing import sign_hub
from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import (
    APP_SECRET,
    SECRETS,
    Api,
    facebook,
    google_lead,
    page_events,
    page_message,
    problem,
    signed,
)
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.logs import log_plainly
from tests.fixtures.site import Node, Site
from tests.fixtures.waiting import wait_until

REQUEST_ID = re.compile(r"[0-9a-f]{32}")
JSON = {"Content-Type": "application/json"}
GOOD = b'{"conversation_id": "c", "message": "Hello"}'


@pytest.fixture
def restore_logging() -> Iterator[None]:
    """Undo the test's changes to logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    log_plainly()


@ONE_DATABASE
@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/conversations",
        "/conversations/",
        "/conversations/message/",
        "/webhooks",
        "/webhooks/a/b",
        "/analytics",
        "/%2e%2e/etc/passwd",
        "/a%0Ab",
        "/docs/",
        "/conversations/tasks",
        "/ü",
    ],
)
def test_an_unknown_path_returns_a_problem(api: Api, path: str) -> None:
    found = problem(api.http.get(path, follow_redirects=False), 404)

    assert found["instance"].isascii() and found["instance"].startswith("/")


@ONE_DATABASE
@pytest.mark.parametrize("path", ["/nothing/", "/tasks/", "/conversations/", "/api/documents/"])
def test_a_path_that_is_longer_than_that_of_any_route_is_refused(api: Api, path: str) -> None:
    problem(api.http.get(path + "1" * (LONGEST_PATH + 1 - len(path))), 414)
    assert api.http.get(path + "1" * (LONGEST_PATH - len(path))).status_code in (404, 422)


@ONE_DATABASE
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/conversations/webhook-interaction/x", None),
        ("DELETE", "/conversations/message", "GET, POST"),
        ("POST", "/conversations/conv-1", "GET"),
        ("PUT", "/webhooks/facebook", "GET, POST"),
        ("GET", "/webhooks/google", "POST"),
        ("PATCH", "/webhooks/shop", "POST"),
        ("POST", "/conversations/tasks/active", "GET"),
        ("GET", "/conversations/tasks/t-1/cancel", "POST"),
        ("DELETE", "/analytics/reports", "GET, POST"),
        ("POST", "/health/live", "GET"),
        ("TRACE", "/health/live", "GET"),
        ("OPTIONS", "/conversations/message", "GET, POST"),
        ("BREW", "/health/live", "GET"),
    ],
)
def test_an_unsupported_method_returns_a_problem_that_names_the_supported_ones(
    api: Api, method: str, path: str, allowed: str | None
) -> None:
    response = api.http.request(method, path)
    if allowed is None:
        problem(response, 404)
        return

    problem(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize("given", ["order-4711", "a", "A.b_c:d-1", "x" * 64])
def test_a_request_id_is_returned_and_bound_to_the_task(api: Api, given: str) -> None:
    response = api.http.post("/conversations/message", content=GOOD, headers=JSON | {"X-Request-ID": given})

    assert response.headers["x-request-id"] == given
    assert api.services.tasks.current(response.json()["task_id"]).request_id == given
    assert problem(api.http.get("/nothing", headers={"X-Request-ID": given}), 404)["request_id"] == given


@ONE_DATABASE
@pytest.mark.parametrize("given", [b"", b"x" * 65, b"a b", b"a\tb", b"<script>", b"\xff\xfe", b"{}", b"a;b"])
def test_a_request_id_that_could_harm_a_log_is_replaced(api: Api, given: bytes) -> None:
    response = api.http.get("/health/live", headers=[(b"X-Request-ID", given)])

    assert REQUEST_ID.fullmatch(response.headers["x-request-id"])


@ONE_DATABASE
def test_each_request_has_its_own_id(api: Api) -> None:
    ids = {api.http.get("/health/live").headers["x-request-id"] for _ in range(5)}

    assert len(ids) == 5 and all(REQUEST_ID.fullmatch(id) for id in ids)


@ONE_DATABASE
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe{}",
        b'{"conversation_id": "c", "message": "\xff"}',
        b'{"conversation_id": "c", "message": "\\ud800"}',
        b'{"conversation_id": "c", "message": "Hello", "\\ud800": 1}',
        b'{"conversation_id": "c", "message": "a\\u0000b"}',
        b'{"conversation_id": "c", "message": NaN}',
        b'{"conversation_id": "c", "message": Infinity}',
        b'{"conversation_id": "c", "message": 1e999}',
        b'{"conversation_id": "c", "message": ' + b"9" * 5000 + b"}",
        b'{"conversation_id": "c", "message": "Hello", "n": ' + b"9" * 5000 + b"}",
        b"[" * 15_000,
        b'{"a":' * 3_000,
        b'{"conversation_id": "c", "message": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_an_invalid_body_returns_a_problem(api: Api, body: bytes) -> None:
    found = problem(api.http.post("/conversations/message", content=body, headers=JSON), 422)

    assert found["type"] == "urn:laneway:problem:invalid-request"
    assert found["errors"]
    assert len(json.dumps(found)) < 20_000


@ONE_DATABASE
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
)
def test_a_body_of_another_content_type_is_refused(api: Api, kind: str) -> None:
    problem(api.http.post("/conversations/message", content=GOOD, headers={"Content-Type": kind}), 422)


@ONE_DATABASE
def test_a_problem_repeats_a_bounded_part_of_the_request(api: Api) -> None:
    body = {"conversation_id": "c", "message": "Hello", **{f"{number}-{'x' * 150}": 1 for number in range(100)}}
    found = problem(api.http.post("/conversations/message", json=body), 422)
    one = problem(api.http.post("/conversations/message", json={"k" * 15_000: 1}), 422)

    assert len(found["errors"]) == 50
    assert max(len(item["field"]) for item in one["errors"]) <= 200


def test_an_unexpected_error_is_hidden_from_the_caller_and_logged_in_full(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restore_logging: None
) -> None:
    configure_logging(api.services.settings.operation, json=True)

    def fail() -> None:
        raise RuntimeError("the boiler is on fire")

    monkeypatch.setattr(api.services.tasks, "queues", fail)
    response = api.http.get("/conversations/tasks/queues/status", headers={"X-Request-ID": "fire-1"})

    found = problem(response, 500)
    assert (found["title"], response.headers["x-request-id"]) == ("Internal error", "fire-1")
    assert "boiler" not in response.text
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "boiler" in line]
    assert (line["level"], line["request_id"]) == ("error", "fire-1")
    assert "RuntimeError: the boiler is on fire" in line["exception"]


def kinds_of(*bases: type[PlatformError]) -> list[type[PlatformError]]:
    """These classes and all that derive from them."""
    return [each for base in bases for each in (base, *kinds_of(*base.__subclasses__()))]


@pytest.mark.parametrize("kind", kinds_of(BrokerUnavailable, DatabaseUnavailable), ids=lambda kind: kind.__name__)
def test_an_error_of_a_server_names_it_only_to_the_user_of_this_machine(kind: Any) -> None:
    error = kind("nobody answers at db.internal:5432")
    with acting_as(Caller(kind="token", name="shop", scopes=frozenset({Scope.ADMIN}))):
        assert "db.internal" not in public_detail(error)
        assert b"db.internal" not in platform_problem("/tasks", error).body
    with acting_as(Caller(kind="command", name="root")):
        assert "db.internal:5432" in public_detail(error)


@pytest.mark.parametrize("host", ["[", "a b", "ü", "127.0.0.1:99999", "x" * 3000, "evil.example"])
def test_an_odd_host_header_does_no_harm(live: Site, host: str) -> None:
    for path in ("/health/live", "/nothing", "/conversations/tasks/active/"):
        response = _raw(live, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert response.split(b" ")[1] in (b"421", b"400")
        assert b"evil.example" not in response


def test_a_caller_who_disconnects_causes_no_error(live: Site) -> None:
    before = _api(live).output().count("Traceback")
    for path in ("/webhooks/facebook", "/webhooks/google", "/webhooks/shop", "/conversations/message"):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
        with socket.create_connection(("127.0.0.1", live.api_port)) as connection:
            connection.sendall(head.encode() + b'{"half":')
    wait_until(lambda: all(f"path={path}" in _api(live).output() for path in ("/webhooks/shop",)), seconds=10)

    assert live.get("/health/live") == {"status": "ok"}
    assert _api(live).output().count("Traceback") == before


def test_control_characters_in_a_path_do_not_reach_the_log(live: Site) -> None:
    live.http.get("/log-1%1b%5b2J")
    live.http.get("/log-2%0A2026 forged line")
    wait_until(lambda: "/log-2" in _api(live).output(), seconds=10)

    assert "\x1b[2J" not in _api(live).output()
    assert "\n2026 forged" not in _api(live).output()


def test_no_secret_is_in_any_response_log_or_store(live: Site) -> None:
    event, odd = page_events(page_message("secret_1", sender="secret")), b'{"id": "evt-secret", "text": "Hello"}'
    responses = [
        live.http.post("/webhooks/facebook", content=event, headers=facebook(event)),
        live.http.post("/webhooks/facebook", content=event, headers=facebook(event, secret="wrong")),
        live.http.post("/webhooks/google", json=google_lead("lead-secret")),
        live.http.post("/webhooks/google", json=google_lead("lead-secret", user_column_data="wrong")),
        live.http.post("/webhooks/google", json=google_lead("") | {"lead_id": None}),
        live.http.post("/webhooks/shop", content=odd, headers=signed(odd)),
        live.http.get(
            "/webhooks/facebook", params={"hub.mode": "subscribe", "hub.verify_token": SECRETS[1], "hub.challenge": "1"}
        ),
    ]
    for response in responses:
        if response.status_code == 200 and "task_id" in response.text:
            live.until(response.json()["task_id"])
    signatures = [
        sign_hub(event, SecretStr(APP_SECRET)).removeprefix("sha256="),
        *(h[7:] for h in signed(odd).values() if h.startswith("sha256=")),
    ]
    hidden = [*SECRETS, *signatures]

    assert [response.status_code for response in responses] == [200, 401, 200, 200, 200, 200, 200]
    for place, found in {
        "responses": "".join(response.text for response in responses),
        "logs": _logs(live),
        "database": _database(live),
        "broker": _redis(live),
    }.items():
        assert found, place
        assert [word for word in hidden if word in found] == [], place
    assert live.row(responses[0].json()["task_id"]).state == TaskState.COMPLETED


@ONE_DATABASE
def test_the_documentation_works_without_internet(api: Api) -> None:
    page, document = api.http.get("/docs").text, api.http.get("/openapi.json").json()

    assert [word for word in ("<script", "src=", "<link", "@import", "url(") if word in page] == []
    assert document["info"]["title"] == "Laneway"
    assert len(document["paths"]) > 50
    assert [path for path in document["paths"] if f"<code>{path}</code>" not in page] == []
    assert api.http.get("/redoc").status_code == 404, "its script would come from elsewhere"


@ONE_DATABASE
def test_invalid_json_is_reported_with_its_position(api: Api) -> None:
    response = api.http.post("/tasks", content='{"name": }', headers={"Content-Type": "application/json"})

    assert response.status_code == 422
    assert response.json()["detail"] == "body: It is not valid JSON at character 9: Expecting value"


def _api(live: Site) -> Node:
    return next(node for node in live.nodes if node.name == "api")


def _logs(live: Site) -> str:
    return "".join(node.output() for node in live.nodes)


def _database(live: Site) -> str:
    """Every value of every table; on SQLite also the files, including free pages and the write-ahead log."""
    database = live.services.database
    with database.reading() as session:
        if database.is_sqlite:
            names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        else:
            names = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        rows: list[Any] = [row for name in names for row in session.execute(text(f'SELECT * FROM "{name}"'))]
    files = live.folder.rglob("laneway.db*") if database.is_sqlite else ()
    return "\n".join(map(str, rows)) + "".join(file.read_bytes().decode("latin-1") for file in files)


def _redis(live: Site) -> str:
    """Every key and value of every database of the broker."""
    found: list[str] = []
    for number in range(3):
        with redis.Redis.from_url(live.valkey.url(number)) as client:
            for key in client.scan_iter():
                found.append(f"{key!r} {client.dump(key)!r}")
    return "\n".join(found)


def _raw(live: Site, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", live.api_port), timeout=10) as connection:
        connection.sendall(request)
        parts: list[bytes] = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)
