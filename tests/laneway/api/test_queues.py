"""Queues and finished tasks over HTTP: the stats of a window, limits, deleting old tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.core.queues import QUEUES
from laneway.platform import clock
from laneway.platform.submission.acceptance import PAYLOAD_LIMIT
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api, change, problem, submit
from tests.fixtures.platform import Platform

WEBHOOK = "send_webhook_response_task"


def ended(api: Api, *, ago: float, state: TaskState = TaskState.COMPLETED, name: str = REPORT) -> str:
    """Create a task that ended `ago` seconds ago and ran for two seconds."""
    id = submit(api, name, {"url": "https://example.com", "event": "e", "data": {}} if name == WEBHOOK else {})
    api.services.recorder.catch_up()  # the recorder has read the events of the submit
    finished = clock.now() - timedelta(seconds=ago)
    change(
        api,
        id,
        state=state,
        finished_at=finished,
        started_at=finished - timedelta(seconds=2),
        attempts=1,
        accepted_at=finished - timedelta(seconds=5),
    )
    return id


# --- submitting: aliases of fields --------------------------------------------------------------------------


def test_the_task_name_may_be_given_as_type_but_only_once(api: Api) -> None:
    response = api.http.post("/tasks", json={"type": REPORT, "payload": {"hours": 3}, "id": "by-type"})

    assert response.status_code == 202
    assert api.http.get("/tasks/by-type").json()["name"] == REPORT
    assert api.http.post("/tasks", json={"name": REPORT, "payload": {"hours": 3}, "id": "by-type"}).status_code == 200

    for body in ({}, {"name": REPORT, "type": REPORT}, {"name": REPORT, "type": WEBHOOK}):
        assert "name the task" in str(problem(api.http.post("/tasks", json=body), 422)["errors"])


def test_a_priority_is_a_name_or_its_number(api: Api) -> None:
    for given, kept in ((0, 0), (3, 3), ("low", 0), ("critical", 3)):
        assert api.http.get(f"/tasks/{submit(api, priority=given)}").json()["priority"] == kept
    for wrong in (4, -1, 1.5, True, "urgent", "1"):
        problem(api.http.post("/tasks", json={"name": REPORT, "priority": wrong}), 422)


def test_a_payload_of_one_mebibyte_is_accepted_and_one_more_byte_is_refused(make_api: MakeApi) -> None:
    api = make_api(MAX_BODY_BYTES="4194304")
    payload: dict[str, Any] = {"url": "https://example.com", "event": "e", "data": {"text": ""}}
    frame = len('{"url":"https://example.com","event":"e","data":{"text":""}}')

    payload["data"]["text"] = "ü" * ((PAYLOAD_LIMIT - frame) // 2) + "x" * ((PAYLOAD_LIMIT - frame) % 2)
    id = submit(api, WEBHOOK, payload)
    assert api.services.tasks.current(id).payload == payload

    payload["data"]["text"] += "x"
    response_body = problem(api.http.post("/tasks", json={"name": WEBHOOK, "payload": payload, "id": "big"}), 413)
    assert response_body["detail"] == (
        f"The payload of {WEBHOOK} has 1048577 bytes of JSON, more than 1048576: store it elsewhere."
    )
    problem(api.http.get("/tasks/big"), 404)


# --- stats --------------------------------------------------------------------------------------------------


def test_stats_show_success_and_times_of_the_last_hour(api: Api) -> None:
    ended(api, ago=60)
    ended(api, ago=60, state=TaskState.FAILED, name=WEBHOOK)
    ended(api, ago=4000)

    window = api.http.get("/stats").json()["window"]

    assert (window["seconds"], window["total"]["completed"], window["total"]["failed"]) == (3600, 1, 1)
    assert window["total"]["success_rate"] == 0.5
    assert window["total"]["processing_seconds"] == {"count": 2, "mean": 2.0, "p50": 2.0, "p95": 2.0}
    assert window["total"]["waiting_seconds"]["mean"] == 3.0
    assert list(window["queues"]) == ["analytics", "webhooks"]
    assert list(window["types"]) == [REPORT, WEBHOOK]


def test_stats_can_be_limited_to_a_window_a_queue_and_a_task(api: Api) -> None:
    ended(api, ago=60)
    ended(api, ago=4000)
    ended(api, ago=60, name=WEBHOOK)

    def completed(**query: Any) -> int:
        response = api.http.get("/stats", params=query)
        assert response.status_code == 200, response.text
        return response.json()["window"]["total"]["completed"]

    assert (completed(), completed(window=7200), completed(window=10)) == (2, 3, 0)
    assert (completed(queue="webhooks"), completed(name=REPORT), completed(queue="nobody's")) == (1, 1, 0)
    wrong: list[dict[str, Any]] = [{"window": 0}, {"window": 10**9}, {"window": "nan"}, {"queue": ""}]
    for query in wrong:
        problem(api.http.get("/stats", params=query), 422)


# --- deleting old tasks -------------------------------------------------------------------------------------


def test_old_completed_tasks_are_deleted_with_their_history(api: Api) -> None:
    old, young = ended(api, ago=100), ended(api, ago=10)
    failed = ended(api, ago=100, state=TaskState.FAILED)
    waiting = submit(api)

    assert api.http.delete("/tasks", params={"older_than": 50}).json() == {"deleted": 1, "more": False}

    problem(api.http.get(f"/tasks/{old}"), 404)
    assert all(api.http.get(f"/tasks/{id}").status_code == 200 for id in (young, failed, waiting))


def test_tasks_in_other_final_states_are_deleted_on_request(api: Api) -> None:
    ids = [ended(api, ago=10, state=state) for state in (TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED)]
    kept = ended(api, ago=10)

    response = api.http.delete("/tasks", params={"older_than": 0, "state": ["failed", "cancelled", "expired"]})

    assert response.json()["deleted"] == len(ids)
    assert api.http.get(f"/tasks/{kept}").status_code == 200


def test_nothing_is_deleted_by_mistake(api: Api) -> None:
    id = ended(api, ago=10)
    wrong: list[dict[str, Any]] = [
        {},
        {"older_than": -1},
        {"older_than": "inf"},
        {"older_than": 0, "state": "dead_letter"},
        {"older_than": 0, "state": "processing"},
        {"older_than": 0, "type": "dev"},
        {"older_than": 0, "staet": "failed"},
    ]

    for query in wrong:
        problem(api.http.delete("/tasks", params=query), 422)
    assert api.http.get(f"/tasks/{id}").status_code == 200


def test_one_call_deletes_a_bounded_number_and_reports_that_more_are_left(api: Api) -> None:
    ids = [ended(api, ago=10) for _ in range(3)]
    states = [TaskState.COMPLETED]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("laneway.platform.operations.retention.BATCH", 1)
        cleared = api.services.retention.clear(states, older_than=0, limit=2)

    assert (cleared.deleted, cleared.more) == (2, True)
    assert api.services.retention.clear(states, older_than=0).model_dump() == {"deleted": 1, "more": False}
    assert [api.http.get(f"/tasks/{id}").status_code for id in ids] == [404] * 3


# --- limits of queues ---------------------------------------------------------------------------------------


def test_a_queue_is_limited_and_shown_with_its_limits(api: Api, platform: Platform) -> None:
    body = {"rate": 10, "per_seconds": 60, "max_in_flight": 2, "max_wait_seconds": 600.0, "paused": True}
    response = api.http.put("/queues/analytics/limits", json=body)

    response_body = response.json()
    assert response.status_code == 200
    assert response_body == body | {"queue": "analytics", "updated_at": response_body["updated_at"], "in_force": True}
    assert api.http.get("/queues/analytics/limits").json() == response_body
    assert [one["queue"] for one in api.http.get("/queues").json()["queues"]] == list(QUEUES)
    id = submit(api)
    assert platform.fetch("analytics") is None
    assert api.http.get(f"/tasks/{id}").json()["waiting_for"] == "its queue 'analytics' to be resumed: it is paused"

    lifted = api.http.put("/queues/analytics/limits", json={}).json()
    assert (lifted["rate"], lifted["per_seconds"], lifted["max_in_flight"], lifted["paused"]) == (None, 1, None, False)
    assert platform.fetch("analytics") is not None


def test_invalid_limits_and_unknown_queues_are_refused(api: Api) -> None:
    wrong: list[object] = [{"rate": 0}, {"rate": "5"}, {"paused": 1}, {"speed": 3}, [], {"per_seconds": 0}]
    for body in wrong:
        problem(api.http.put("/queues/analytics/limits", json=body), 422)
    for response in (api.http.get("/queues/nonsense/limits"), api.http.put("/queues/nonsense/limits", json={})):
        assert "there are conversations" in problem(response, 404)["detail"]
