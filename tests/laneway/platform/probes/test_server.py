"""The server for probes: it answers anybody, is bounded, and leaves its port with its process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.probes import server as module
from laneway.platform.probes.server import MAX_REQUESTS, ProbeServer
from tests.fixtures.no_threads import no_threads
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until


@pytest.fixture
def problems() -> list[str]:
    """What is wrong with the process."""
    return []


@pytest.fixture
def server(problems: list[str]) -> Iterator[ProbeServer]:
    """A server that answers."""
    server = ProbeServer("127.0.0.1", free_port(), live=lambda: problems[:1], ready=lambda: problems)
    server.start()
    yield server
    server.shutdown()
    server.server_close()


def port_of(server: ProbeServer) -> int:
    return int(server.server_address[1])


def ask(server: ProbeServer, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port_of(server), timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.mark.parametrize("path", ["/live", "/livez", "/healthz", "/health/live", "/", "/any/folder/live/?verbose"])
def test_the_last_part_of_a_path_asks_whether_it_lives(server: ProbeServer, path: str) -> None:
    assert ask(server, path) == (200, '{"status": "live", "problems": []}')


@pytest.mark.parametrize("path", ["/ready", "/readyz", "/health/ready", "/-/ready"])
def test_the_last_part_of_a_path_asks_whether_it_is_ready(server: ProbeServer, path: str, problems: list[str]) -> None:
    assert ask(server, path) == (200, '{"status": "ready", "problems": []}')
    problems += ["It stops.", "Broker unavailable."]
    assert ask(server, path) == (503, '{"status": "not ready", "problems": ["It stops.", "Broker unavailable."]}')
    assert ask(server, "/live")[0] == 503


def test_other_requests_learn_nothing(server: ProbeServer) -> None:
    assert ask(server, "/metrics")[0] == 404
    assert ask(server, "/live", method="HEAD") == (200, "")
    assert ask(server, "/live", method="POST")[0] == 501
    assert ask(server, "/live", Host="evil.example:1")[0] == 200
    with pytest.raises(OSError):
        ask(server, "/" + "x" * 10_000)
    with socket.create_connection(("127.0.0.1", port_of(server))) as rubbish:
        rubbish.sendall(b"\x16\x03\x01\x00\xff\r\n\r\n")
        rubbish.shutdown(socket.SHUT_WR)
        said = rubbish.recv(1000)
    assert b"Python" not in said and b"Traceback" not in said
    assert ask(server, "/live")[0] == 200


def test_clients_that_send_nothing_hold_it_up_for_a_limited_time(
    server: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 2.0)
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server)))) for _ in range(MAX_REQUESTS)
        ]
        for each in silent:
            each.sendall(b"GET /live HTTP/1.1\r\nX: ")
        with pytest.raises(OSError):
            ask(server, "/live")

        def answers() -> bool:
            try:
                return ask(server, "/live")[0] == 200
            except OSError:
                return False

        wait_until(answers, seconds=10)


def test_requests_that_get_no_thread_leave_room_for_later_ones(server: ProbeServer) -> None:
    with no_threads():
        for _ in range(MAX_REQUESTS):
            with pytest.raises(OSError):
                ask(server, "/live")

    assert ask(server, "/live")[0] == 200


def test_a_taken_port_is_an_error_that_names_the_settings(server: ProbeServer) -> None:
    with pytest.raises(ConfigError, match=rf"PROBE_PORT={port_of(server)}: Address already in use"):
        ProbeServer("127.0.0.1", port_of(server), live=list, ready=list)
    with pytest.raises(ConfigError, match=r"PROBE_HOST=no\.such\.host\.invalid"):
        ProbeServer("no.such.host.invalid", 1, live=list, ready=list)


def test_a_forked_child_does_not_keep_the_port(server: ProbeServer) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"%d" % server.socket.fileno())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"-1"
    for descriptor in (reading, writing):
        os.close(descriptor)
    assert server.socket.fileno() > 0
