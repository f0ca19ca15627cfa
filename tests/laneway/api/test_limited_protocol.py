"""The limits of the API's connections, with real sockets: silent, slow and many clients."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from laneway.api.limited_protocol import MAX_HEAD, LimitedProtocol
from tests.fixtures.waiting import wait_until

LIMIT = 1.0
"""Seconds that a request may take to arrive in these tests."""
HELLO = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
OTHER = "127.0.0.2"
"""A second address of this machine: another client."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body; `/endless` never ends its answer, `/large` fills every buffer."""
    length, more = 0, True
    while more and scope["method"] == "POST":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/large":
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
    if scope["path"] == "/endless":
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": json.dumps(length).encode()})


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, app: Any = application, **settings: str) -> Generator[int]:
    """Serve the application with these settings; yields the port."""
    for name, value in {"API_REQUEST_TIMEOUT_SECONDS": str(LIMIT), **settings}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, http=LimitedProtocol, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        wait_until(lambda: server.started, seconds=10)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with serving(monkeypatch) as number:
        yield number


def connect(port: int, *, source: str = "127.0.0.1") -> socket.socket:
    """A connection from this address."""
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def answer(port: int, request: bytes = HELLO, *, source: str = "127.0.0.1") -> bytes:
    """What the server answers until it closes, or until its answer is complete."""
    with connect(port, source=source) as connection:
        connection.sendall(request)
        return connection.recv(65_536)


def until_closed(connection: socket.socket) -> tuple[bytes, float]:
    """What a server sends before it closes, and after how many seconds it does."""
    began, received = time.monotonic(), b""
    while block := connection.recv(65_536):
        received += block
    return received, time.monotonic() - began


def test_a_silent_connection_and_a_slow_head_are_closed(port: int) -> None:
    with connect(port) as silent, connect(port) as slow:
        slow.sendall(b"GET /hello HTTP/1.1\r\nHost: loc")
        said, seconds = until_closed(silent)
        refused, _ = until_closed(slow)

    assert said == b"" and LIMIT * 0.8 < seconds < LIMIT + 5
    assert refused.startswith(b"HTTP/1.1 408 ")


def test_a_head_that_comes_byte_by_byte_does_not_extend_its_time(port: int) -> None:
    with connect(port) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < LIMIT + 8:
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - began < LIMIT + 5


def test_a_slow_body_is_closed_and_a_complete_one_is_answered(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
    assert answer(port, head + b"0123456789").endswith(b"10\r\n0\r\n\r\n")
    with connect(port) as slow:
        slow.sendall(head + b"01234")
        refused, seconds = until_closed(slow)

    assert refused.startswith(b"HTTP/1.1 408 ") and LIMIT * 0.8 < seconds < LIMIT + 5


def test_a_large_body_gets_more_time(port: int) -> None:
    size = 4 * 65_536
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(8):  # 1.6 s in all
            connection.sendall(b"x" * (size // 8))
            time.sleep(LIMIT / 5)
        assert b"200 OK" in connection.recv(65_536)


def test_a_further_request_on_a_connection_has_the_same_limits(port: int) -> None:
    with connect(port) as connection:
        for _ in range(2):
            connection.sendall(HELLO)
            assert b"200 OK" in connection.recv(65_536)
        connection.sendall(b"GET /hello HTTP/1.1\r\n")
        refused, seconds = until_closed(connection)

    assert refused.startswith(b"HTTP/1.1 408 ") and seconds < LIMIT + 5


def test_an_answer_may_take_longer_than_a_request(port: int) -> None:
    with connect(port) as connection:
        connection.settimeout(2 * LIMIT)
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(65_536)
        with pytest.raises(TimeoutError):
            connection.recv(1)


@pytest.mark.parametrize("takes", [False, True])
def test_a_client_that_takes_nothing_of_its_answer_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    monkeypatch.setattr("laneway.api.limited_protocol.STUCK_SECONDS", LIMIT)
    ended = threading.Event()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)
        ended.set()

    with serving(monkeypatch, noting) as port, connect(port) as client:
        began, received = time.monotonic(), 0
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while takes and (block := client.recv(1 << 20)):
            received += len(block)
        assert ended.wait(LIMIT + 8)
        assert takes or time.monotonic() - began > LIMIT * 0.8
        if not takes:
            received = len(until_closed(client)[0])

    assert (received > 1000 * 65_536) == takes


def test_a_head_that_is_too_large_is_refused(port: int) -> None:
    for request in (
        HELLO.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"a" * MAX_HEAD + b"\r\n\r\n"),
        b"GET /" + b"a" * 2 * MAX_HEAD,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEAD,
    ):
        assert answer(port, request).startswith(b"HTTP/1.1 431 ")
    assert b"200 OK" in answer(port)


def test_an_upgrade_to_a_websocket_is_not_made(port: int) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert not answer(port, HELLO[:-2] + upgrade).startswith(b"HTTP/1.1 101")


def test_silent_connections_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"API_MAX_CONNECTIONS": "40", "API_MAX_CONNECTIONS_PER_CLIENT": "30", "API_REQUEST_TIMEOUT_SECONDS": "60"}
    with serving(monkeypatch, **limits) as port, ExitStack() as stack:
        silent = [stack.enter_context(connect(port, source=f"127.0.0.{1 + number % 3}")) for number in range(100)]

        for source in ("127.0.0.1", OTHER, "127.0.0.9"):
            assert b"200 OK" in answer(port, source=source)
        closed = sum(_is_closed(each) for each in silent)
        assert closed >= 60, "the oldest ones"


def test_connections_that_are_answered_are_kept_and_further_ones_of_that_client_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(monkeypatch, API_MAX_CONNECTIONS_PER_CLIENT="4") as port, ExitStack() as stack:
        streams = [stack.enter_context(connect(port)) for _ in range(4)]
        for each in streams:
            each.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in each.recv(65_536)

        refused = answer(port)
        assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after" in refused
        assert b"200 OK" in answer(port, source=OTHER)
        streams[0].close()
        wait_until(lambda: b"200 OK" in answer(port), seconds=10)
        assert not any(_is_closed(each) for each in streams[1:])


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(10)
