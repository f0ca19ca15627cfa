"""A task's server-sent events: complete and in order, from the follower's last event to the end of the task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import httpx
import pytest

from laneway.engine import EventKind
from laneway.platform.errors import UpstreamRefused
from laneway.platform.execution.outcomes import Raised
from tests.fixtures.api_calls import REPORT, Api, problem, submit
from tests.fixtures.platform import Platform
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import GATED, GATED_QUIETLY

FOLLOWERS = 20


@dataclass(frozen=True)
class Received:
    """One event as a browser receives it."""

    id: int
    kind: str
    data: dict[str, Any]


def parse_events(lines: Iterable[str]) -> Iterator[Received]:
    """The events in the lines of a stream, without the comments that keep the connection alive."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Received(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


def all_events(api: Api, id: str, **headers: str) -> list[Received]:
    """The complete stream of a finished task."""
    answer = api.http.get(f"/tasks/{id}/events", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(parse_events(answer.text.split("\n")))


def retried_task(api: Api, platform: Platform) -> tuple[str, list[Received]]:
    """A task that failed once and then completed, and its events."""
    id = submit(api)
    platform.work("analytics", Raised(OSError("away")), schedule=(0.0,))
    attempt = platform.start("analytics", worker="w2")
    platform.attempts.report(attempt, EventKind.PROGRESS, {"percent": 40, "message": "Grüße"})
    platform.attempts.report(attempt, EventKind.LOG, {"level": "info", "text": "line one\nline two"})
    platform.end(attempt)
    return id, all_events(api, id)


def test_the_stream_has_every_event_in_order_and_ends_with_the_task(api: Api, platform: Platform) -> None:
    _, events = retried_task(api, platform)

    assert [(event.kind, event.data["attempt"]) for event in events] == [
        ("accepted", None),
        ("put", None),
        ("begin", 1),
        ("end", 1),
        ("begin", 2),
        ("progress", 2),
        ("log", 2),
        ("end", 2),
    ]
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert all((event.data["id"], event.data["kind"]) == (event.id, event.kind) for event in events)
    _, _, _, retry, begin, progress, log, end = (event.data["data"] for event in events)
    assert (retry["outcome"], retry["error"]) == ("retry", "away")
    assert begin["worker"] == "w2"
    assert (progress["percent"], progress["message"]) == (40, "Grüße")
    assert log["text"] == "line one\nline two"
    assert (end["state"], end["outcome"]) == ("completed", "completed")


def test_a_follower_continues_after_its_last_event(api: Api, platform: Platform) -> None:
    id, events = retried_task(api, platform)

    for number, event in enumerate(events):
        assert all_events(api, id, **{"Last-Event-ID": str(event.id)}) == events[number + 1 :]


@pytest.mark.parametrize("last", ["", "x", "-1", "1.5", "0"])
def test_an_invalid_event_id_starts_the_stream_from_the_beginning(api: Api, platform: Platform, last: str) -> None:
    id, events = retried_task(api, platform)

    assert all_events(api, id, **{"Last-Event-ID": last}) == events


def test_an_unknown_task_returns_404_instead_of_a_stream(api: Api) -> None:
    problem(api.http.get("/tasks/nobody/events", headers={"Accept": "text/event-stream"}), 404)


def test_actions_of_operators_are_events_too(api: Api, platform: Platform) -> None:
    id = submit(api)
    platform.work("analytics", Raised(UpstreamRefused("model", "away")))
    api.http.post(f"/tasks/{id}/retry")
    api.http.post(f"/tasks/{id}/cancel")

    events = all_events(api, id)
    assert [event.kind for event in events] == [
        "accepted",
        "put",
        "begin",
        "end",
        "retried by hand",
        "put",
        "cancel requested",
        "cancel",
    ]
    assert events[4].data["data"] == {"was": "failed"}


def test_a_stream_contains_more_than_one_page_of_events(api: Api, platform: Platform) -> None:
    id = submit(api)
    attempt = platform.start("analytics")
    for number in range(1100):
        platform.attempts.report(attempt, EventKind.LOG, {"text": str(number)})
    platform.end(attempt)

    events = all_events(api, id)
    assert [event.data["data"]["text"] for event in events if event.kind == "log"] == [str(n) for n in range(1100)]
    assert events[-1].kind == "end"


# --- while it runs ------------------------------------------------------------------------------------------


def follow(live: Site, id: str, *, last: int = 0, until: str | None = None) -> list[Received]:
    """The events that a follower receives, up to the end of the stream or to an event of the kind `until`."""
    found: list[Received] = []
    url = f"http://127.0.0.1:{live.api_port}/tasks/{id}/events"
    with httpx.stream("GET", url, headers={"Last-Event-ID": str(last)}, timeout=60, trust_env=False) as answer:
        assert answer.status_code == 200
        for event in parse_events(answer.iter_lines()):
            found.append(event)
            if event.kind == until:
                break
    return found


def test_events_are_streamed_as_they_happen_and_none_is_lost_between_two_connections(live: Site) -> None:
    gate = live.gate()
    id = live.submit(GATED, {"gate": str(gate)})
    first = follow(live, id, until="progress")
    assert [event.kind for event in first][:3] == ["accepted", "put", "begin"], "the task waits at its gate"

    gate.open()
    rest = follow(live, id, last=first[-1].id)

    assert rest[-1].kind == "end"
    assert first + rest == follow(live, id)


def test_a_huge_event_id_is_after_every_event(live: Site) -> None:
    """With a real server, where a stream that breaks in the middle is an error."""
    id = live.post("/tasks", {"name": REPORT})["task_id"]
    live.until(id)

    assert follow(live, id, last=10**20 - 1) == []
    problem(live.http.get(f"/tasks/{id}/events", headers={"Last-Event-ID": "9" * 21}), 422)


def test_many_followers_of_one_task_each_receive_every_event(live: Site) -> None:
    gate = live.gate()
    id = live.submit(GATED_QUIETLY, {"gate": str(gate)})
    there = Barrier(FOLLOWERS + 1)

    def one(number: int) -> list[Received]:
        if number % 4 == 0:  # disconnects in the middle
            found = follow(live, id, until="begin")
            there.wait(60)
            return found
        before = follow(live, id, until="begin")
        there.wait(60)
        return before + follow(live, id, last=before[-1].id)

    with ThreadPoolExecutor(FOLLOWERS) as pool:
        followers = [pool.submit(one, number) for number in range(FOLLOWERS)]
        there.wait(60)
        gate.open()
        stories = [follower.result(60) for follower in followers]

    whole = follow(live, id)
    assert [event.kind for event in whole] == ["accepted", "put", "begin", "end"]
    assert stories == [whole[:3] if number % 4 == 0 else whole for number in range(FOLLOWERS)]


def test_a_follower_of_a_waiting_task_receives_its_cancellation(live: Site) -> None:
    task = live.post("/tasks", {"name": REPORT, "delay": 3600})["task_id"]
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(follow, live, task)
        live.post(f"/tasks/{task}/cancel")
        assert [event.kind for event in follower.result(30)][-1] == "cancel"
