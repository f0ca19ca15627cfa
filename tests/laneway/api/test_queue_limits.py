"""Limits of the API: the size of bodies, and many callers at once."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db.models import WebhookDelivery
from laneway.platform.db.models import TaskRun
from tests.fixtures.api_calls import MAX_BODY, Api, facebook, page_events, page_message, problem
from tests.fixtures.site import Site

POSTS = (
    "/conversations/message",
    "/conversations/webhook-interaction",
    "/analytics/reports",
    "/webhooks/facebook",
    "/webhooks/google",
    "/webhooks/shop",
)
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", POSTS)
def test_a_body_over_the_limit_is_refused_by_its_declared_length(api: Api, path: str) -> None:
    found = problem(api.http.post(path, content=b"x" * (MAX_BODY + 1), headers=JSON), 413)

    assert found["type"] == "urn:laneway:problem:body-too-large"
    assert str(MAX_BODY) in found["detail"]
    assert api.count(TaskRun, WebhookDelivery) == 0


@pytest.mark.parametrize("path", POSTS)
def test_a_body_over_the_limit_is_refused_as_it_arrives(api: Api, path: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY // 1000 + 1):
            yield b"x" * 1000

    found = problem(api.http.post(path, content=chunks(), headers=JSON), 413)
    assert found["type"] == "urn:laneway:problem:body-too-large"
    assert api.count(TaskRun, WebhookDelivery) == 0


def test_a_body_of_exactly_the_limit_is_read(api: Api) -> None:
    body = page_events(page_message("m_1"))
    whole = body + b" " * (MAX_BODY - len(body))

    assert api.http.post("/webhooks/facebook", content=whole, headers=facebook(whole)).status_code == 200


def test_a_chunked_body_within_the_limit_is_read(api: Api) -> None:
    body = page_events(page_message("m_1"))

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    assert api.http.post("/webhooks/facebook", content=pieces(), headers=facebook(body)).status_code == 200


@pytest.mark.parametrize("length", ["9" * 19, "9" * 20, "9" * 5000])
def test_an_absurd_content_length_is_refused(api: Api, length: str) -> None:
    problem(api.http.post("/conversations/message", content=b"{}", headers=JSON | {"Content-Length": length}), 413)


def test_an_endless_body_is_cut_off_at_the_limit(live: Site) -> None:
    head = "POST /webhooks/shop HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", live.api_port), timeout=10) as connection:
        connection.sendall(head.encode() + chunk * (MAX_BODY // 0x1000 + 1))
        response = connection.recv(65_536)

    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in response


@pytest.mark.parametrize(
    "head",
    [
        "POST /webhooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /webhooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /webhooks/shop HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: nonsense\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET /" + "a" * 100_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 20_000 + "\r\n",
    ],
    ids=["negative length", "two lengths", "unknown coding", "no HTTP", "long path", "many headers"],
)
def test_a_request_that_is_not_http_closes_its_connection_only(live: Site, head: str) -> None:
    with socket.create_connection(("127.0.0.1", live.api_port), timeout=10) as connection:
        try:
            connection.sendall(head.encode())
            connection.shutdown(socket.SHUT_WR)
            response = connection.recv(1000)
        except ConnectionError:
            response = b""

    assert b" 500 " not in response.split(b"\r\n")[0]
    assert live.get("/health/live") == {"status": "ok"}


def test_fifty_callers_at_once_are_all_served(live: Site) -> None:
    def say(number: int) -> int:
        body = {"conversation_id": f"crowd-{number}", "message": "Hello"}
        return live.http.post("/conversations/message", content=json.dumps(body), headers=JSON).status_code

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(say, range(100))) == {202}
