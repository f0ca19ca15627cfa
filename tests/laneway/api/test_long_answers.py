"""Answers that take long: the caller is kept waiting by spaces, and work that nobody waits for stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from time import monotonic

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from laneway.api import errors, long_answers
from laneway.api.command_socket import answering_commands
from laneway.api.long_answers import Between, CallerGone, answer_when_done
from laneway.api.waiting import WaitingRequests
from laneway.cli.own_api import OwnApi
from laneway.client.call_parts import adapter
from laneway.client.calls import Call
from laneway.client.client import Client
from laneway.client.errors import ClientError, NotFound, ServerError
from laneway.platform.flow.queue_limits import NoSuchQueue
from laneway.schemas.maintenance import TakeInResponse
from laneway.testing.api_server import ApiServer
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.waiting import wait_until
from tests.laneway.api.test_command_socket import connected, key_of

pytestmark = pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
WORK: Call[TakeInResponse] = Call("POST", "/work", adapter(TakeInResponse), is_long=True, repeatable=False)
DEADLINE = 20.0


@dataclass
class Work:
    """Work that goes on until it is let go, or until nobody waits for it."""

    done: Event = field(default_factory=Event)
    begun: Event = field(default_factory=Event)
    stopped: Event = field(default_factory=Event)
    error: Exception | None = None

    def __call__(self, between: Between) -> BaseModel:
        self.begun.set()
        ends = monotonic() + DEADLINE
        try:
            while not self.done.wait(0.01):
                assert monotonic() < ends
                between()
        except CallerGone:
            self.stopped.set()
            raise
        if self.error is not None:
            raise self.error
        return TakeInResponse(taken=7)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.done.set()


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()


@pytest.fixture
def app(api: Api, work: Work, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """An application with one route, which begins its answer soon."""
    monkeypatch.setattr(long_answers, "AT_ONCE_SECONDS", 0.1)
    monkeypatch.setattr(long_answers, "BEAT_SECONDS", 0.05)
    app = FastAPI()
    app.state.services = api.services
    app.state.waiting = WaitingRequests(api.services.settings.connections)
    errors.install(app)

    @app.post("/work")
    async def do_work(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return await answer_when_done(request, work)

    return app


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    server = ApiServer(app)
    yield server.url
    server.close()


def ask(url: str) -> TakeInResponse:
    with Client(url, retry_seconds=0) as client:
        return client.send(WORK)


def test_work_that_is_done_soon_is_answered_as_usual(url: str, work: Work) -> None:
    work.done.set()
    answer = httpx.post(f"{url}/work")
    work.error = NoSuchQueue("x", ["crm"])
    refused = httpx.post(f"{url}/work")

    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, '{"taken":7}', "application/json")
    assert (refused.status_code, refused.json()["status"]) == (404, 404)


def test_spaces_come_before_an_answer_that_takes_long(url: str, work: Work) -> None:
    with httpx.stream("POST", f"{url}/work", timeout=DEADLINE) as answer:
        parts = answer.iter_text()
        assert next(parts).strip() == next(parts).strip() == ""
        work.done.set()
        rest = "".join(parts)

    assert (answer.status_code, rest.strip()) == (200, '{"taken":7}')


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [(NoSuchQueue("x", ["crm"]), NotFound, "no queue 'x'"), (RuntimeError("inside"), ServerError, "500")],
)
def test_an_error_that_comes_late_is_an_error_of_the_client(
    url: str, app: FastAPI, work: Work, error: Exception, kind: type[ClientError], words: str
) -> None:
    work.error = error
    with pytest.raises(kind, match=words) as raised:
        _ask_and(url, app, work.done.set)
    assert "inside" not in str(raised.value)


def _ask_and(url: str, app: FastAPI, then: Callable[[], None]) -> TakeInResponse:
    """Ask, and do something after the answer has begun."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, url)
        wait_until(lambda: app.state.waiting.number == 1, seconds=DEADLINE)
        then()
        return asked.result(DEADLINE)


def test_the_work_stops_when_the_caller_goes_away(url: str, app: FastAPI, work: Work) -> None:
    with httpx.stream("POST", f"{url}/work", timeout=DEADLINE) as answer:
        parts = answer.iter_text()
        assert next(parts).strip() == ""
        assert app.state.waiting.number == 1

    assert work.stopped.wait(DEADLINE)
    wait_until(lambda: app.state.waiting.number == 0, seconds=DEADLINE)


def test_the_work_stops_when_the_api_stops(url: str, app: FastAPI, api: Api, work: Work) -> None:
    with pytest.raises(ServerError, match="repeat it when the API runs again"):
        _ask_and(url, app, api.services.event_stream.stop)
    assert work.stopped.wait(DEADLINE)


def test_the_work_stops_when_the_command_goes_away(api: Api, app: FastAPI, work: Work) -> None:
    portal = api.http.portal
    assert portal is not None
    with portal.wrap_async_context_manager(answering_commands(app)):
        key = key_of(api)
        with closing(OwnApi(connected(key))) as command:
            command.greet(key)
            work.done.set()
            assert [command.send(WORK).taken for _ in range(2)] == [7, 7], "the connection stays usable"
        work.done.clear()
        work.begun.clear()
        connection = connected(key)
        command = OwnApi(connection)
        command.greet(key)
        connection.sendall(b'{"method":"POST","target":"/work","body":null}\n')
        assert work.begun.wait(DEADLINE)
        command.close()

        assert work.stopped.wait(DEADLINE)
