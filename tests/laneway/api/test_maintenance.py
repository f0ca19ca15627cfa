"""Flush, take in, clean up and audit over the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from laneway.platform import clock
from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api, change, problem, say
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform


def states(api: Api, *ids: str) -> list[str]:
    return [api.http.get(f"/tasks/{id}").json()["status"] for id in ids]


def test_a_queue_is_counted_and_flushed(api: Api) -> None:
    ids = [say(api, f"conv-{number}") for number in range(3)]
    counted = api.http.post("/queues/flush", json={"queue": "conversations", "dry_run": True})
    before = states(api, *ids)
    flushed = api.http.post("/queues/flush", json={"queue": "conversations"})
    again = api.http.post("/queues/flush", json={"queue": "conversations"})

    same = {"queue": "conversations"}
    assert counted.json() == {**same, "waiting": 3, "cancelled": 0, "dry_run": True}
    assert flushed.json() == {**same, "waiting": 3, "cancelled": 3, "dry_run": False}
    assert again.json() == {**same, "waiting": 0, "cancelled": 0, "dry_run": False}
    assert (before, states(api, *ids)) == (["pending"] * 3, ["cancelled"] * 3)


@ONE_DATABASE
@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/queues/flush", {"queue": "conversation"}, 404, "did you mean 'conversations'"),
        ("/queues/flush", {"queue": ""}, 422, "queue"),
        ("/queues/flush", {"queue": "x\0"}, 422, "queue"),
        ("/queues/flush", {"queue": "conversations", "dry-run": True}, 422, "dry-run"),
        ("/queues/flush", {"queue": "conversations", "dry_run": "true"}, 422, "dry_run"),
        ("/queues/take-in", {}, 422, "queue"),
        ("/cleanup", {"tasks_older_than": -1}, 422, "tasks_older_than"),
        ("/cleanup", {"tasks_older_than": False}, 422, "tasks_older_than"),
        ("/cleanup", {"tasks_older_than": "0"}, 422, "tasks_older_than"),
        ("/cleanup", {"tasks_older_than": 1e300}, 422, "tasks_older_than"),
        ("/cleanup", {"older_than": 1}, 422, "older_than"),
    ],
)
def test_what_cannot_be_done_is_refused(api: Api, path: str, body: Any, status: int, words: str) -> None:
    id = say(api, "conv-1")
    refused = problem(api.http.post(path, json=body), status)

    assert words in str(refused)
    assert states(api, id) == ["pending"]


@ONE_DATABASE
def test_tasks_of_a_foreign_queue_are_taken_in_or_flushed(api: Api) -> None:
    broker = api.services.settings.redis.broker_url
    with Celery("shop", broker=broker, set_as_current=False) as stranger, stranger.connection_for_write() as wire:
        stranger.send_task("cleanup_old_data_task", queue="maint/e nance", connection=wire)
    taken = [api.http.post("/queues/take-in", json={"queue": "maint/e nance"}).json() for _ in range(2)]
    flushed = api.http.post("/queues/flush", json={"queue": "maintenance"}).json()

    assert taken == [{"taken": 1}, {"taken": 0}]
    assert flushed["cancelled"] == 1


def test_old_data_is_cleaned_up(api: Api) -> None:
    old, young = (say(api, f"conv-{number}") for number in range(2))
    for id, hours in ((old, 3), (young, 1)):
        api.services.broker.remove_message("conversations", id)
        api.services.recorder.catch_up()
        change(api, id, state=TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=hours))

    assert api.http.post("/cleanup", json={"tasks_older_than": 7200}).json()["deleted"]["tasks"] == 1
    assert api.http.get(f"/tasks/{old}").status_code == 404
    assert api.http.post("/cleanup", json={}).json()["deleted"]["tasks"] == 0
    assert states(api, young) == ["completed"]


def test_a_lost_task_is_named_and_repaired(api: Api, platform: Platform) -> None:
    id = say(api, "conv-1")
    platform.lose("conversations")
    say(api, "conv-2")
    change(api, id, published_at=clock.now() - timedelta(seconds=10))
    found = api.http.get("/audit").json()
    repaired = api.http.post("/audit/repair").json()
    after = api.http.get("/audit").json()

    assert [(each["task_id"], each["why"]) for each in found["unaccounted"]] == [(id, "the engine does not have it")]
    assert (found["accepted"], found["open"], found["balanced"], found["not_listed"]) == (2, 1, False, 0)
    assert found["engine"]["conversations"]["waiting"] == 1
    assert (repaired["open"], repaired["repaired"]) == (0, 1)
    assert (after["open"], after["balanced"], after["by_state"]["pending"]) == (0, True, 2)


@ONE_DATABASE
def test_an_audit_takes_no_parameters(api: Api) -> None:
    assert api.http.get("/audit", params={"repair": "true"}).status_code == 422
