"""The socket of commands: nobody learns its key, and every request of a command is answered."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event
from time import monotonic
from typing import Any

import pytest
import structlog.testing

from laneway._command_socket import KEY_FILE, address_of, new_nonce, proof, read_key
from laneway.api import command_socket
from laneway.api.command_socket import STOP_SECONDS, TAKEN, answering_commands
from laneway.cli.missing import forget_missing, report_missing
from laneway.cli.own_api import OwnApi
from laneway.client import operator_calls
from laneway.client.calls import Call
from laneway.client.errors import ServerError
from laneway.platform.errors import Overloaded
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import MESSAGE, Api

pytestmark = pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
STATS: Call[Any] = operator_calls.stats(window=60.0, queue=None, name=None)


def key_of(api: Api) -> str:
    key = read_key(api.services.settings.storage.folder)
    assert key is not None
    return key


@contextmanager
def listening(api: Api) -> Iterator[str]:
    """The application with its socket for commands; gives the key."""
    portal = api.http.portal
    assert portal is not None
    with portal.wrap_async_context_manager(answering_commands(api.http.app)):  # pyright: ignore[reportArgumentType]
        yield key_of(api)


def connected(key: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(address_of(key))
    return connection


@contextmanager
def asking(key: str) -> Iterator[OwnApi]:
    """A command that asks the API."""
    with closing(OwnApi(connected(key))) as own:
        own.greet(key)
        yield own


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    """The application, and nothing that the command before could not show."""
    forget_missing()
    return make_api()


def test_the_api_proves_first_and_neither_side_sends_the_key(api: Api) -> None:
    with listening(api) as key, connected(key) as connection, connection.makefile("rb") as lines:
        nonce = new_nonce()
        connection.sendall(json.dumps({"nonce": nonce}).encode() + b"\n")
        line = lines.readline()
        answer = json.loads(line)
        expected = proof(key, "api", command=nonce, api=answer["nonce"])
        assert answer["proof"] == expected and key.encode() not in line
        assert answer["proof"] != proof("x" * 32, "api", command=nonce, api=answer["nonce"])

        connection.sendall(json.dumps({"proof": answer["proof"]}).encode() + b"\n")
        assert lines.readline() == b"", "its own proof, sent back, is none of a command"


@pytest.mark.parametrize("opening", [{"nonce": "n"}, {"nonce": None}, {"key": "k"}, [], "x", 1])
def test_a_message_without_a_nonce_is_not_answered(api: Api, opening: object) -> None:
    with listening(api) as key, connected(key) as connection:
        connection.sendall(json.dumps(opening).encode() + b"\n")
        assert connection.recv(100) == b""


def test_an_old_proof_is_of_no_use(api: Api) -> None:
    with listening(api) as key:
        sent = list[bytes]()
        for _ in range(2):
            with connected(key) as connection, connection.makefile("rb") as lines:
                nonce = "0" * 64
                connection.sendall(json.dumps({"nonce": nonce}).encode() + b"\n")
                theirs = json.loads(lines.readline())["nonce"]
                sent.append(json.dumps({"proof": proof(key, "command", command=nonce, api=theirs)}).encode() + b"\n")
                connection.sendall(sent[0])
                assert (b"greeting" if b"project" in lines.readline() else b"") == (b"greeting", b"")[len(sent) - 1]


def test_a_name_that_another_process_has_is_a_warning_that_says_what_to_do(api: Api) -> None:
    with listening(api) as key:
        pass
    with socket.socket(socket.AF_UNIX) as thief, structlog.testing.capture_logs() as logged:
        thief.bind(address_of(key))
        thief.listen()
        with listening(api):
            pass

    (warning,) = [line for line in logged if line["log_level"] == "warning"]
    assert (warning["event"], warning["process"]) == (TAKEN, os.getpid())
    assert KEY_FILE in TAKEN


def test_alerts_that_cannot_be_looked_for_are_missing_and_the_rest_is_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_socket, "sweep_now", refuse(Overloaded(1.0)))
    with listening(api) as key, asking(key) as own:
        own.send(STATS, sweep=True)

    assert report_missing() == 1
    assert "The alerts are those of the last sweep. No thread was free" in capsys.readouterr().err


def test_a_wrong_setting_of_alerts_is_named(make_api: MakeApi) -> None:
    api = make_api(ALERT_SEVERITIES='{"no_such_kind": "off"}')
    with (
        listening(api) as key,
        asking(key) as own,
        pytest.raises(ServerError, match="ALERT_SEVERITIES: there is no kind of alert 'no_such_kind'"),
    ):
        own.send(STATS, sweep=True)


def refuse(error: Exception) -> Callable[[object], None]:
    """A sweep that fails."""

    def sweep(_: object) -> None:
        raise error

    return sweep


def test_an_error_that_nobody_expects_is_logged_and_answered(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_socket, "sweep_now", refuse(LookupError("of the test")))
    with listening(api) as key, asking(key) as own, structlog.testing.capture_logs() as logged:
        with pytest.raises(ServerError, match="An error of the platform"):
            own.send(STATS, sweep=True)
        own.send(STATS)

    assert [str(line["exc_info"]) for line in logged if line["log_level"] == "error"] == ["of the test"]


def test_a_body_counts_as_long_as_over_http(api: Api) -> None:
    text = "é" * 7900  # 15800 bytes of UTF-8, or 47400 as escapes, where MAX_BODY is 20000
    body = {"name": MESSAGE, "payload": {"conversation_id": "c", "message": text}}
    over_http = api.http.post("/tasks", json=body)
    with listening(api) as key, asking(key) as own:
        answer = own._exchange("POST", "/tasks", body)  # pyright: ignore[reportPrivateUsage]

    assert (answer["status"], over_http.status_code) == (202, 202), answer


def test_the_api_stops_as_soon_as_no_request_is_in_work(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = Event(), Event()

    def sweep(_: object) -> None:
        begun.set()
        gate.wait(20)

    monkeypatch.setattr(command_socket, "sweep_now", sweep)
    with ThreadPoolExecutor() as threads:
        with listening(api) as key:
            own = OwnApi(connected(key))
            own.greet(key)
            asked = threads.submit(own.send, STATS, sweep=True)
            assert begun.wait(20)
            threads.submit(lambda: gate.wait(0.2) or gate.set())
            began = monotonic()
        took = monotonic() - began
        asked.result(20)  # the request in work is answered
        own.close()

    assert 0.2 <= took < STOP_SECONDS - 1
