"""The clients when the platform is away, busy, refuses them, or is another program."""

from __future__ import annotations

import time
from typing import Any

import pytest

from laneway.client import (
    Client,
    Forbidden,
    ServerError,
    TooManyRequests,
    Unauthorized,
    UnexpectedResponse,
    Unreachable,
    task_request,
)
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.valkey import free_port
from tests.laneway.client.conftest import MakeClient

HANDLE = {"task_id": "t", "state": "pending", "created": True}


def problem(status: int, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": "No", "status": status, "detail": "Not now.", "instance": "/tasks", **more}


def refusal(status: int, **headers: str) -> HttpReply:
    return HttpReply(status, headers, problem(status))


def test_a_request_is_repeated_with_the_same_key_while_the_platform_is_away_or_full(
    make_client: MakeClient, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(
        refusal(503),
        HttpReply(hang_up=True),
        refusal(429, **{"Retry-After": "1"}),
        HttpReply(502, body="<html>Bad gateway</html>"),
    )
    http_peer.always = HttpReply(202, body=HANDLE)
    client = make_client(http_peer.url)
    began = time.monotonic()
    assert client.submit("a", {"n": 1}).task_id == "t"
    assert client.submit("a", {"n": 2}).task_id == "t"

    *first, last = [request.json()["idempotency_key"] for request in http_peer.requests]
    assert len(first) == 5
    assert len({*first}) == 1
    assert last not in first
    assert time.monotonic() - began >= 1, "Retry-After is kept"


def test_repeats_end_in_time_with_the_last_error(make_client: MakeClient, http_peer: HttpPeer) -> None:
    http_peer.always = refusal(503)
    with pytest.raises(ServerError, match="Not now") as raised:
        make_client(http_peer.url, retry_seconds=0.5).get("t")
    assert raised.value.status == 503
    assert 2 <= len(http_peer.requests) <= 5

    http_peer.always = refusal(429, **{"Retry-After": "3600"})
    with pytest.raises(TooManyRequests) as busy:
        make_client(http_peer.url, retry_seconds=5).submit("a")
    assert busy.value.retry_after == 3600
    with pytest.raises(Unreachable, match="cannot be reached"):
        make_client(f"http://127.0.0.1:{free_port()}", retry_seconds=0).get("t")


def test_an_answer_that_does_not_come_is_an_error_in_time(make_client: MakeClient, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(200, delay=30)
    with pytest.raises(Unreachable, match="did not answer in time"):
        make_client(http_peer.url, timeout=0.3, retry_seconds=0).get("t")


def test_what_a_repeat_could_do_twice_is_not_repeated(make_client: MakeClient, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(hang_up=True)
    with pytest.raises(Unreachable):
        make_client(http_peer.url).retry("t")
    assert len(http_peer.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        HttpReply(200, {"Content-Type": "text/html"}, "<html>Hello</html>"),
        HttpReply(200, body={"status": "ok"}),
        HttpReply(301, {"Location": "https://example.org/"}),
        HttpReply(404, body={"message": "Not here"}),
        HttpReply(200, body=b"\xff\xfe"),
    ],
)
def test_another_program_is_recognized(make_client: MakeClient, http_peer: HttpPeer, reply: HttpReply) -> None:
    http_peer.always = reply
    with pytest.raises(UnexpectedResponse, match="Check the URL"):
        make_client(http_peer.url, retry_seconds=0).get("t")


def test_a_newer_platform_may_say_more(make_client: MakeClient, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(202, body={**HANDLE, "estimate": {"start": 3}})
    assert make_client(http_peer.url).submit("a").task_id == "t"


def test_the_token_is_sent_and_not_shown(
    make_client: MakeClient, http_peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_peer.reply_with(refusal(401), refusal(403))
    http_peer.always = HttpReply(202, body=HANDLE)
    client = make_client(http_peer.url, token="lw_secret")
    with pytest.raises(Unauthorized) as refused:
        client.get("t")
    with pytest.raises(Forbidden):
        client.get("t")
    monkeypatch.setenv("LANEWAY_TOKEN", "lw_other")
    monkeypatch.setenv("LANEWAY_URL", http_peer.url + "/")
    Client().submit("a")

    tokens = [request.headers["authorization"] for request in http_peer.requests]
    assert tokens == ["Bearer lw_secret", "Bearer lw_secret", "Bearer lw_other"]
    assert http_peer.requests[-1].path == "/tasks"
    assert "lw_secret" not in f"{refused.value!r} {vars(client)}"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1", "http://", "laneway"])
def test_a_url_that_is_none_is_refused(make_client: MakeClient, url: str) -> None:
    with pytest.raises(ValueError, match="the URL of a platform"):
        make_client(url)


def test_ids_from_outside_stay_in_their_place(make_client: MakeClient, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(404, body=problem(404))
    client = make_client(http_peer.url)
    for id in ("../health/live", "a/b?c#d", "%2e%2e"):
        with pytest.raises(Exception, match="Not now"):
            client.get(id)
    with pytest.raises(ValueError, match="not empty"):
        client.get("")

    assert [request.path for request in http_peer.requests] == [
        "/tasks/..%2Fhealth%2Flive",
        "/tasks/a%2Fb%3Fc%23d",
        "/tasks/%252e%252e",
    ]


@pytest.mark.parametrize("options", [{"delay": -1}, {"priority": "urgent"}, {"tags": ["no spaces"]}, {"id": "/"}])
def test_wrong_options_are_refused_before_anything_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        task_request("a", **options)
