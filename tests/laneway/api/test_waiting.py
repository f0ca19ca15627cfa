"""Event streams and waiting requests are limited, by client and in all."""

from __future__ import annotations

import threading

import httpx
import pytest

from laneway.api.waiting import TooManyWaiting, WaitingRequests
from laneway.platform.settings import ConnectionSettings
from laneway.testing.api_server import ApiServer
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import problem, submit
from tests.fixtures.waiting import wait_until


def settings(most: int, per_client: int) -> ConnectionSettings:
    return ConnectionSettings(_env_file=None, max_waiting=most, max_waiting_per_client=per_client)  # pyright: ignore


def test_places_are_counted_by_client_and_given_back() -> None:
    waiting = WaitingRequests(settings(3, 2))
    with waiting.place("a"), waiting.place("a"), waiting.place("b"):
        for client in ("a", "c"):
            with pytest.raises(TooManyWaiting), waiting.place(client):
                pass
    with pytest.raises(RuntimeError), waiting.place("a"):
        raise RuntimeError

    assert waiting.number == 0


def test_a_stream_too_many_is_refused_and_a_closed_one_makes_room(
    make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(API_MAX_STREAMS_PER_CLIENT="2")
    id = submit(api)
    app = api.http.app
    waiting = WaitingRequests(api.services.settings.connections)
    monkeypatch.setattr(app.state, "waiting", waiting)  # pyright: ignore[reportAttributeAccessIssue]
    server = ApiServer(app)
    try:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as http:
            with http.stream("GET", f"/tasks/{id}/events") as first, http.stream("GET", f"/tasks/{id}/events"):
                assert first.status_code == 200
                wait_until(lambda: waiting.number == 2, seconds=10)
                for path in (f"/tasks/{id}/events", f"/tasks/{id}?wait=5"):
                    refused = http.get(path)
                    assert "retry-after" in refused.headers
                    assert "limit" in problem(refused, 429)["detail"]
                assert http.get(f"/tasks/{id}").status_code == 200
            wait_until(lambda: waiting.number == 0, seconds=20)
            waited = threading.Thread(target=http.get, args=(f"/tasks/{id}?wait=1",))
            waited.start()
            wait_until(lambda: waiting.number == 1, seconds=10)
            waited.join(20)
            wait_until(lambda: waiting.number == 0, seconds=10)
    finally:
        server.close()
