"""Requests to hostile servers: endless, dripping and disguised responses."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from laneway.platform.errors import UpstreamError
from laneway.platform.webhooks import egress
from laneway.platform.webhooks.address_rules import AllowPrivate
from laneway.platform.webhooks.egress import MAX_BODY, ForbiddenAddress, endpoint_url
from tests.fixtures.http_peer import HttpPeer, HttpReply

Conversation = Callable[[socket.socket, threading.Event], None]
ENOUGH = 3.0
"""Seconds within which a request with a deadline of half a second ends, on a busy machine."""


def post(url: str, **options: Any) -> egress.HttpResponse:
    return egress.send(
        "POST", url, b"{}", **{"headers": {}, "timeout": 0.5, "allow_private": AllowPrivate.ALL, **options}
    )


@contextmanager
def server(talk: Conversation) -> Generator[int]:
    """Run a server that handles one connection with `talk`; yield its port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    _read_request(connection)
                    talk(connection, over)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            listening.close()
            thread.join(5)


def _read_request(connection: socket.socket) -> None:
    """Read all of a request: a connection that is closed with unread bytes is reset, and loses the response."""
    request = block = connection.recv(65_536)
    while block and request.startswith(b"POST") and not request.endswith(b"{}"):
        block = connection.recv(65_536)
        request += block


def repeat(piece: bytes, *, first: bytes = b"", pause: float = 0) -> Conversation:
    """Send the same piece until the connection is closed."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        while not over.wait(pause):
            connection.sendall(piece)

    return talk


def failure(talk: Conversation, *, scheme: str = "http") -> str:
    """Return the error of a POST to such a server; it must not take long."""
    with server(talk) as port:
        started = time.monotonic()
        with pytest.raises(UpstreamError) as failed:
            post(f"{scheme}://127.0.0.1:{port}/")
        assert time.monotonic() - started < ENOUGH
    return str(failed.value)


def test_endless_headers_are_refused() -> None:
    assert "did not speak HTTP" in failure(repeat(b"X-A: " + b"a" * 10_000 + b"\r\n", first=b"HTTP/1.1 200 OK\r\n"))
    assert "did not speak HTTP" in failure(repeat(b"a" * 10_000, first=b"HTTP/1.1 200 OK\r\nX-A: "))


def test_dripping_headers_end_at_the_deadline() -> None:
    assert "no answer within" in failure(repeat(b"a", first=b"HTTP/1.1 200 OK\r\nX-A: ", pause=0.02))


def test_endless_continue_responses_end_at_the_deadline() -> None:
    assert "no answer within" in failure(repeat(b"HTTP/1.1 100 Continue\r\n\r\n"))


def test_a_dripping_handshake_ends_at_the_deadline() -> None:
    drops = repeat(b"\x00", first=b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", pause=0.02)

    assert "no answer within" in failure(drops, scheme="https")


def test_an_endless_body_is_cut(http_peer: HttpPeer) -> None:
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    for endless in (
        repeat(chunk, first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        repeat(b"x" * 4096, first=b"HTTP/1.1 200 OK\r\n\r\n"),
    ):
        with server(endless) as port:
            answer = post(f"http://127.0.0.1:{port}/", timeout=5)
        assert (answer.body, answer.broken) == (b"x" * MAX_BODY, None), "it is not read until the deadline"


def test_a_body_in_chunks_of_one_byte_ends_at_the_deadline() -> None:
    chunks = repeat(b"1\r\nx\r\n", first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", pause=0.01)
    with server(chunks) as port:
        started = time.monotonic()
        answer = post(f"http://127.0.0.1:{port}/")

    assert time.monotonic() - started < ENOUGH
    assert (answer.status, answer.broken) == (200, "its body did not end in time")
    assert set(answer.body) == {ord("x")}


def once(content: bytes) -> Conversation:
    """Send this and close the connection."""
    return lambda connection, _: connection.sendall(content)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 100\r\n", b"cut"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhel"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\nnonsense\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"no chunk at all"),
    ],
)
def test_a_body_that_is_cut_or_broken_does_not_cost_the_response(head: bytes, body: bytes) -> None:
    with server(once(b"HTTP/1.1 200 OK\r\nX-A: b\r\n" + head + b"\r\n" + body)) as port:
        answer = post(f"http://127.0.0.1:{port}/", timeout=5)

    assert (answer.status, answer.headers["x-a"]) == (200, "b")
    assert answer.broken == "its body is cut or broken"
    assert answer.body in (b"cut", b"hel", b"hello", b"")


@pytest.mark.parametrize(
    "odd",
    [
        b"X Frame Options: DENY",
        b"X-Control: a\x01b\x7f",
        b"no colon",
        b": no name",
        b"X-Folded: a\r\n b",
        b"\xff\xfe: x",
        b"X-Latin: Gr\xfc\xdfe",
        b"Content-Length: eleven",
        b"Content-Length: 4\r\nContent-Length: 4",
        b"Content-Length: 4\r\nContent-Length: 5",
        b"Content-Length: -1",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked",
    ],
)
def test_an_odd_header_costs_only_itself(odd: bytes) -> None:
    with server(once(b"HTTP/1.1 503 Busy\r\n" + odd + b"\r\nRetry-After: 7\r\n\r\nbusy")) as port:
        answer = post(f"http://127.0.0.1:{port}/", timeout=5)

    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "7", b"busy")


def test_a_head_that_comes_byte_by_byte_after_interim_ones_is_read() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX B: c\r\n\r\n"
    content = interim + b"HTTP/1.1 204 \r\nA B: c\r\nX-D: e\r\n\r\n"

    def talk(connection: socket.socket, _: threading.Event) -> None:
        for byte in content:
            connection.sendall(bytes([byte]))

    with server(talk) as port:
        answer = post(f"http://127.0.0.1:{port}/", timeout=5)

    assert (answer.status, answer.headers) == (204, {"x-d": "e"})


@pytest.mark.parametrize("content", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX-A: b", b"HTTP/1.1 2\r\n\r\n"])
def test_what_is_no_complete_head_is_no_response(content: bytes) -> None:
    assert "hung up or did not speak HTTP" in failure(once(content))


def test_a_decompression_bomb_is_not_decompressed(http_peer: HttpPeer) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    http_peer.reply_with(HttpReply(200, {"Content-Encoding": "gzip"}, bomb))
    tracemalloc.start()
    try:
        answer = post(http_peer.url, timeout=5)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.body == bomb[:MAX_BODY]
    assert most < 5_000_000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_forbidden_address_is_only_a_response(http_peer: HttpPeer, status: int) -> None:
    http_peer.reply_with(HttpReply(status, {"Location": "http://169.254.169.254/latest/meta-data/"}))

    assert post(http_peer.url, timeout=5).status == status
    assert len(http_peer.requests) == 1


@pytest.mark.parametrize(
    "host",
    [
        "[::]",
        "0",
        "0x7f000001",
        "017700000001",
        "127.000.000.001",
        "127.0.1",
        "127。0。0。1",
        "localhost.",
        "LOCALHOST",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::ffff:0:0]",
        "[::ffff:0:7f00:1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::1]",
        "[64:ff9b:1::7f00:1]",
        "[fe80::1]",
        "[ff02::1]",
    ],
)
def test_a_disguised_address_of_this_machine_is_not_called(http_peer: HttpPeer, host: str) -> None:
    with pytest.raises((ForbiddenAddress, UpstreamError)) as refused:
        post(http_peer.at(host), allow_private=AllowPrivate.NONE)

    assert isinstance(refused.value, ForbiddenAddress) or "resolved" in str(refused.value)
    assert http_peer.requests == []


@pytest.mark.parametrize("host", ["１２７.0.0.1", "ⓛocalhost", "local\u00adhost", "127.0.0.1\u2024evil", "a\\@b"])
def test_a_host_in_lookalike_letters_is_not_called(http_peer: HttpPeer, host: str) -> None:
    with pytest.raises((ForbiddenAddress, UpstreamError)):
        post(http_peer.at(host), allow_private=AllowPrivate.NONE)

    assert http_peer.requests == []


def test_a_name_beyond_ascii_is_resolved_and_sent_as_idna(http_peer: HttpPeer) -> None:
    names: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        names.append(host)
        return ["127.0.0.1"]

    post(http_peer.at("Bücher.example"), timeout=5, resolve=resolve)

    assert names == ["xn--bcher-kva.example"]
    assert http_peer.requests[0].headers["host"] == f"xn--bcher-kva.example:{http_peer.port}"


@pytest.mark.parametrize("nonsense", [[], ["127.0.0.1", "::ffff:169.254.169.254"], ["0.0.0.0"]])
def test_a_resolver_cannot_return_forbidden_addresses(http_peer: HttpPeer, nonsense: list[str]) -> None:
    with pytest.raises((ForbiddenAddress, UpstreamError)):
        post(http_peer.at("hooks.example"), resolve=lambda *_: nonsense)

    assert http_peer.requests == []


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTPS://Example.COM:443/A/../b?x=1#f", "https://example.com/b"),
        ("http://example.com", "http://example.com/"),
        ("http://example.com./h", "http://example.com/h"),
        ("http://example.com:8080/h?token=1", "http://example.com:8080/h"),
        ("http://例え.jp/a b", "http://xn--r8jz45g.jp/a%20b"),
    ],
)
def test_an_endpoint_has_one_url(url: str, same: str) -> None:
    assert endpoint_url(url) == same
    assert endpoint_url(same) == same
