"""Requests to real servers on this machine: where the connection goes, and when it ends."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from laneway.platform.errors import UpstreamError
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.address_rules import AllowPrivate
from laneway.platform.webhooks.egress import MAX_BODY, ForbiddenAddress
from tests.fixtures.certificates import self_signed
from tests.fixtures.http_peer import HttpPeer, HttpReply


def post(url: str, **options: Any) -> egress.HttpResponse:
    return egress.send(
        "POST", url, b"{}", **{"headers": {}, "timeout": 5, "allow_private": AllowPrivate.ALL, **options}
    )


def took(started: float) -> float:
    return time.monotonic() - started


def test_a_post_arrives_as_it_was_given(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(202, {"X-Note": "fine"}, "done"))
    answer = post(http_peer.at("localhost") + "/hook?a=1&b=%20", headers={"X-Sent": "yes"})

    (asked,) = http_peer.requests
    assert (asked.method, asked.path, asked.body) == ("POST", "/hook?a=1&b=%20", b"{}")
    assert asked.headers["host"] == f"localhost:{http_peer.port}"
    assert asked.headers["x-sent"] == "yes"
    assert (answer.status, answer.headers["x-note"], answer.body) == (202, "fine", b"done")
    assert answer.duration_ms >= 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "[64:ff9b::7f00:1]",
    ],
)
def test_no_spelling_of_this_machine_is_called(http_peer: HttpPeer, host: str) -> None:
    with pytest.raises(ForbiddenAddress):
        post(http_peer.at(host), allow_private=AllowPrivate.NONE)

    assert http_peer.requests == []


def test_a_name_with_one_forbidden_address_is_refused_altogether(http_peer: HttpPeer) -> None:
    with pytest.raises(ForbiddenAddress, match="metadata"):
        post(http_peer.at("hooks.example"), resolve=lambda *_: ["127.0.0.1", "169.254.169.254"])

    assert http_peer.requests == []


def test_the_name_is_resolved_once_and_the_checked_address_is_connected_to(http_peer: HttpPeer) -> None:
    answers = [["127.0.0.1"], ["169.254.169.254"]]
    asked: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return answers.pop(0)

    post(http_peer.at("hooks.example"), resolve=rebinding)

    assert asked == [("hooks.example", http_peer.port)]
    assert http_peer.requests[0].headers["host"] == f"hooks.example:{http_peer.port}"


def test_the_next_address_is_tried_when_one_does_not_answer(http_peer: HttpPeer) -> None:
    assert post(http_peer.at("hooks.example"), resolve=lambda *_: ["127.0.0.9", "127.0.0.1"]).status == 200


def test_an_address_that_never_answers_leaves_time_for_the_others(http_peer: HttpPeer) -> None:
    with socket.create_server(("127.0.0.9", http_peer.port), backlog=0), ExitStack() as waiting:
        for _ in range(3):  # the backlog is full: a further connection is not even refused
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.9", http_peer.port))

        answer = post(http_peer.at("hooks.example"), timeout=4, resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])

    assert answer.status == 200
    assert answer.duration_ms >= 1000


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/",
        "http://",
        "http:///x",
        "//127.0.0.1/",
        "x",
        "",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1\r\nHost: evil/",
        "http://[::1/",
    ],
)
def test_other_urls_than_plain_http_are_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(ForbiddenAddress) as refused:
        post(url)

    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("header", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
def test_a_header_cannot_be_split(http_peer: HttpPeer, header: str) -> None:
    with pytest.raises(ForbiddenAddress, match="not be valid HTTP"):
        post(http_peer.url, headers={"X-A": header})

    assert http_peer.requests == []


def test_redirects_are_not_followed(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(307, {"Location": http_peer.url + "/elsewhere"}))

    assert post(http_peer.url).status == 307
    assert len(http_peer.requests) == 1


def test_proxies_of_the_environment_are_not_used(http_peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpPeer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        post(http_peer.url)

        assert proxy.requests == []
    assert len(http_peer.requests) == 1


def test_a_huge_response_is_cut_and_its_rest_is_not_awaited(http_peer: HttpPeer) -> None:
    http_peer.reply_with(
        HttpReply(200, {}, b"x" * 20_000_000), HttpReply(200, {}, b"x" * 20_000_000, stall_after=MAX_BODY)
    )

    assert post(http_peer.url).body == b"x" * MAX_BODY
    assert post(http_peer.url, timeout=2).body == b"x" * MAX_BODY


def test_a_compressed_response_is_not_decompressed(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(200, {"Content-Encoding": "gzip"}, b"not gzip at all"))

    assert post(http_peer.url).body == b"not gzip at all"
    assert http_peer.requests[0].headers["accept-encoding"] == "identity"


def test_silence_ends_at_the_deadline(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(delay=30))
    started = time.monotonic()
    with pytest.raises(UpstreamError, match=r"no answer within 0\.3 s"):
        post(http_peer.url, timeout=0.3)

    assert 0.25 < took(started) < 3


def test_a_response_that_drips_ends_at_the_same_deadline_and_its_status_counts(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(202, {}, "x" * 1000, drip=0.05))
    started = time.monotonic()
    answer = post(http_peer.url, timeout=0.5)

    assert took(started) < 3
    assert (answer.status, answer.broken) == (202, "its body did not end in time")
    assert 0 < len(answer.body) < 1000


def test_a_lookup_that_hangs_ends_at_the_deadline() -> None:
    def slow(host: str, port: int) -> list[str]:
        deadline = time.monotonic() + 2
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as never:
            never.settimeout(deadline - time.monotonic())
            never.bind(("127.0.0.1", 0))
            never.recv(1)  # nothing comes: a resolver that does not answer, for two seconds
        return []

    started = time.monotonic()
    with pytest.raises(UpstreamError, match="no answer within"):
        post("http://hooks.example/", timeout=0.2, resolve=slow)

    assert took(started) < 1.5


def test_a_receiver_that_does_not_read_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        started = time.monotonic()
        with pytest.raises(UpstreamError, match="no answer within"):
            egress.send(
                "POST",
                f"http://127.0.0.1:{deaf.getsockname()[1]}/",
                b"x" * 30_000_000,
                headers={},
                timeout=0.5,
                allow_private=AllowPrivate.ALL,
            )

    assert took(started) < 3


def test_a_closed_port_and_an_unknown_name_are_upstream_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UpstreamError, match="refused"):
        post(f"http://127.0.0.1:{port}/?token=hidden")

    def unknown(host: str, port: int) -> list[str]:
        return egress.resolve_by_system("no-such-name.invalid", port)

    with pytest.raises(UpstreamError, match="cannot be resolved"):
        post("http://no-such-name.invalid/", resolve=unknown)


def test_hanging_up_is_an_upstream_error(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(hang_up=True))
    with pytest.raises(UpstreamError, match="hung up"):
        post(http_peer.url)


# TLS, with a certificate made for this run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return self_signed(tmp_path_factory.mktemp("tls"), name="hooks.example", alternative="DNS:hooks.example")


@pytest.fixture
def tls_peer(certificate: tuple[str, str]) -> Iterator[HttpPeer]:
    with HttpPeer(certificate=certificate) as peer:
        yield peer


def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def test_the_certificate_is_checked_against_the_name_and_not_the_address(
    tls_peer: HttpPeer, certificate: tuple[str, str]
) -> None:
    trusting = ssl.create_default_context(cafile=certificate[0])

    assert post(tls_peer.at("hooks.example"), tls=trusting, resolve=here).status == 200
    with pytest.raises(UpstreamError, match="certificate cannot be trusted"):
        post(tls_peer.at("other.example"), tls=trusting, resolve=here)
    with pytest.raises(UpstreamError, match="certificate cannot be trusted"):
        post(tls_peer.at("127.0.0.1"), tls=trusting)


def test_an_unknown_certificate_is_not_trusted(tls_peer: HttpPeer) -> None:
    with pytest.raises(UpstreamError, match="certificate cannot be trusted"):
        post(tls_peer.at("hooks.example"), resolve=here)

    assert tls_peer.requests == []


def test_plain_http_instead_of_tls_is_an_upstream_error(http_peer: HttpPeer) -> None:
    with pytest.raises(UpstreamError, match="TLS handshake"):
        post(http_peer.url.replace("http:", "https:"))
