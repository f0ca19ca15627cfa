"""`GET /events`: selections, bounds of tokens, resuming, limits, slow readers."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn

from laneway.api import limited_protocol
from laneway.api.limited_protocol import LimitedProtocol
from laneway.api.waiting import WaitingRequests
from laneway.engine import EventKind
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries import task_events
from laneway.schemas.choices import EventKindName
from laneway.testing.api_server import ApiServer
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api, problem, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until
from tests.laneway.api.test_access import bearer
from tests.laneway.api.test_bound_tokens import message

EVERYTHING = {"after": 0, "follow": False}


def events_in(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream, each with the id of its frame as `frame_id`, without those that say where it is."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            event = {**json.loads(fields["data"]), "frame_id": fields.get("id")}
            assert event["kind"] == fields["event"]
            if event["kind"] != "position":
                yield event
            fields = {}


def read(api: Api, headers: dict[str, str] | None = None, **params: Any) -> list[dict[str, Any]]:
    """The events that exist now."""
    answer = api.http.get("/events", params={**EVERYTHING, **params}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(events_in(answer.text.split("\n")))


def tasks_in(events: list[dict[str, Any]]) -> set[str]:
    return {event["task_id"] for event in events}


def test_a_feed_has_the_events_of_the_selected_tasks_in_order(api: Api, platform: Platform) -> None:
    report = submit(api)
    chat = api.http.post("/tasks", json=message(tags=["vip"])).json()["task_id"]
    platform.end(platform.start("analytics"))
    api.http.get(f"/tasks/{report}")

    whole = read(api)
    assert [event["id"] for event in whole] == sorted({event["id"] for event in whole})
    assert [event["kind"] for event in whole if event["task_id"] == report] == ["accepted", "put", "begin", "end"]
    assert {event["frame_id"] for event in whole} == {str(event["id"]) for event in whole}
    first = whole[0]
    assert (first["name"], first["queue"], first["tags"], first["workflow"]) == (REPORT, "analytics", [], None)
    assert tasks_in(read(api, queue="analytics")) == tasks_in(read(api, name=REPORT)) == {report}
    assert tasks_in(read(api, tag="vip")) == {chat}
    assert read(api, tag="vip", queue="analytics") == read(api, workflow="no-such-run") == []
    assert [event["kind"] for event in read(api, kind=["end", "begin"])] == ["begin", "end"]
    newest = api.http.get("/events", params={"last": 2, "follow": False}).text
    assert [event["id"] for event in events_in(newest.split("\n"))] == [event["id"] for event in whole[-2:]]


def test_a_reader_continues_after_its_last_event(api: Api) -> None:
    for _ in range(3):
        submit(api)
    whole = read(api)

    for number, event in enumerate(whole):
        assert read(api, after=event["id"]) == whole[number + 1 :]
        assert read(api, {"Last-Event-ID": event["frame_id"]}) == whole[number + 1 :]
    assert read(api, {"Last-Event-ID": "no number"}) == whole


def test_a_reader_learns_that_events_were_deleted(api: Api) -> None:
    gone, kept = submit(api), submit(api)
    before = read(api)
    api.http.post(f"/tasks/{gone}/cancel")
    assert api.http.delete(f"/tasks/{gone}").status_code == 204

    told, *rest = read(api, after=before[0]["id"])
    assert (told["kind"], told["frame_id"], told["task_id"]) == ("gone", None, None)
    assert "deleted" in told["data"]["reason"]
    assert tasks_in(rest) == {kept}
    assert [event["kind"] for event in read(api, after=told["data"]["before"])][:1] != ["gone"]
    restored = read(api, after=10**9)
    assert [event["kind"] for event in restored] == ["gone"]
    assert restored[0]["frame_id"] == str(restored[0]["id"])


def test_a_token_sees_only_its_own_events(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    admin = bearer(api, Scope.ADMIN)
    acme = bearer(api, Scope.SUBMIT, Scope.READ, tenant="acme")
    own = api.http.post("/tasks", json=message("own"), headers=acme).json()["task_id"]
    foreign = api.http.post("/tasks", json=message("foreign"), headers=admin).json()["task_id"]
    report = api.http.post("/tasks", json={"name": REPORT, "payload": {}}, headers=admin).json()["task_id"]
    queued = bearer(api, Scope.READ, queues=frozenset({"analytics"}))
    named = bearer(api, Scope.READ, names=frozenset({REPORT}))

    assert tasks_in(read(api, admin)) == {own, foreign, report}
    for more in ({}, {"queue": "conversations"}, {"name": message()["name"]}):
        assert tasks_in(read(api, acme, **more)) == {own}
    for headers in (queued, named):
        assert tasks_in(read(api, headers)) == {report}
        assert read(api, headers, queue="conversations") == []
    assert api.http.get("/events", params=EVERYTHING, headers=bearer(api, Scope.SUBMIT)).status_code == 403
    assert api.http.get("/events", params=EVERYTHING).status_code == 401


@ONE_DATABASE
def test_what_cannot_be_selected_is_refused(api: Api) -> None:
    assert "conversations" in problem(api.http.get("/events", params={"queue": "conversation"}), 404)["detail"]
    for wrong in ({"kind": "ended"}, {"after": -1}, {"qeue": "crm"}, {"last": 1001}, {"tag": "\x00"}):
        problem(api.http.get("/events", params=wrong), 422)


def test_every_kind_of_event_has_a_name() -> None:
    assert {kind.value for kind in EventKind} - {"unreadable"} <= {kind.value for kind in EventKindName}


def test_open_feeds_get_what_comes_are_limited_and_end_when_the_api_stops(
    make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(API_MAX_STREAMS_PER_CLIENT="2")
    app: Any = api.http.app
    monkeypatch.setattr(app.state, "waiting", WaitingRequests(api.services.settings.connections))
    server = ApiServer(app)
    found: list[list[dict[str, Any]]] = [[], []]

    def follow(number: int) -> None:
        with httpx.stream("GET", f"{server.url}/events", timeout=30, trust_env=False) as answer:
            found[number].extend([{}])
            for event in events_in(answer.iter_lines()):
                found[number].append(event)

    threads = [Thread(target=follow, args=(number,)) for number in range(2)]
    try:
        for thread in threads:
            thread.start()
        wait_until(lambda: all(found) and app.state.waiting.number == 2, seconds=10)
        refused = httpx.get(f"{server.url}/events", trust_env=False)
        assert "limit" in problem(refused, 429)["detail"]
        wait_until(lambda: api.services.event_feed._newest is not None, seconds=10)  # pyright: ignore[reportPrivateUsage]
        id = submit(api)
        for events in found:
            wait_until(lambda events=events: len(events) == 3, seconds=10)
        assert [(event["kind"], event["task_id"]) for event in found[0][1:]] == [("accepted", id), ("put", id)]
        api.services.event_feed.stop()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        server.close()


@ONE_DATABASE
def test_a_slow_reader_is_dropped_and_continues_without_a_loss(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_protocol, "STUCK_SECONDS", 0.5)
    task, number = submit(api), 3000
    with api.database.transaction() as session:
        rows = [{"task_id": task, "at": clock.now(), "kind": "log", "attempt": None} for _ in range(number)]
        task_events.add_events(session, [{**row, "data": {"n": n, "text": "x" * 4000}} for n, row in enumerate(rows)])
    with serving(api.http.app) as port, socket.create_connection(("127.0.0.1", port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.sendall(b"GET /events?after=0&follow=false&kind=log HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow.settimeout(20)
        got = slow.recv(1000)
        waiting = api.http.app.state.waiting  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
        wait_until(lambda: waiting.number == 0, seconds=20)  # dropped: it holds no place any more
        try:
            while part := slow.recv(65_536):
                got += part
        except ConnectionResetError:
            pass
    frames = got.split(b"\r\n\r\n", 1)[1].decode(errors="replace").split("\n\n")[1:-1]
    ids = [int(line.partition(": ")[2]) for frame in frames for line in frame.split("\n") if line.startswith("id: ")]
    assert 0 < len(ids) < number, "the reader was not dropped"
    rest = read(api, {"Last-Event-ID": str(ids[-1])}, kind="log")

    assert [event["data"]["n"] for event in rest] == list(range(number))[-len(rest) :]
    assert rest[0]["id"] == ids[-1] + 1


@contextmanager
def serving(app: Any) -> Generator[int]:
    """Serve an application with the limits of the real API on this port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, http=LimitedProtocol)
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started, seconds=10)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
