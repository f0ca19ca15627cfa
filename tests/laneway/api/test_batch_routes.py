"""Batches over the API."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api
from tests.fixtures.platform import Platform

TASK = {"name": "cleanup_old_data_task"}
CALLBACK = {"name": "generate_performance_report_task", "payload": {"hours": 2}}


def make(api: Api, tasks: int = 1, **fields: Any) -> Any:
    body = {"tasks": [TASK] * tasks, **fields}
    answer = api.http.post("/batches", json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json() | {"status": answer.status_code}


def show(api: Api, id: str) -> Any:
    answer = api.http.get(f"/batches/{id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_batch_goes_from_its_request_to_its_callback(api: Api, platform: Platform) -> None:
    made = make(api, 2, id="april", description="Invoices of April", on_success=CALLBACK)
    assert (made["status"], made["batch_id"], made["created"], len(made["tasks"])) == (201, "april", True, 2)
    assert make(api, 2, id="april", description="Invoices of April", on_success=CALLBACK) == {
        "status": 200,
        "batch_id": "april",
        "created": False,
        "tasks": [],
    }
    assert api.http.post("/batches", json={"id": "april"}).status_code == 409
    view = show(api, "april")
    assert (view["state"], view["total"], view["percent"]) == ("running", 2, 0)
    assert view["callbacks"] == [
        {"event": "success", "name": CALLBACK["name"], "task_id": "batch:success:april", "submitted_at": None}
    ]
    listed = api.http.get("/tasks", params={"batch": "april"}).json()["tasks"]
    assert {task["task_id"] for task in listed} == {task["task_id"] for task in made["tasks"]}
    assert all(task["batch_id"] == "april" for task in listed)

    added = api.http.post("/batches/april/tasks", json={"tasks": [TASK | {"id": "third"}]})
    assert (added.status_code, added.json()["created"]) == (202, 1)
    for _ in range(3):
        platform.work("maintenance")
    platform.recorder.catch_up()
    api.services.tasks.outbox.relay()
    view = show(api, "april")
    assert (view["state"], view["completed"], view["percent"]) == ("completed", 3, 100)
    assert api.http.get("/tasks/batch:success:april").json()["payload"]["hours"] == 2
    late = api.http.post("/batches/april/tasks", json={"tasks": [TASK]})
    assert (late.status_code, late.json()["title"]) == (409, "Batch over")


def test_an_idempotency_key_makes_one_batch(api: Api) -> None:
    first, second = (make(api, idempotency_key="k", keep_open=True) for _ in range(2))
    other = make(api, keep_open=True)

    assert (first["created"], second["created"]) == (True, False)
    assert first["batch_id"] == second["batch_id"] != other["batch_id"]
    assert len(api.http.get("/tasks").json()["tasks"]) == 2


def test_an_open_batch_is_closed_and_a_running_one_cancelled(api: Api) -> None:
    id = make(api, 2, keep_open=True)["batch_id"]
    assert show(api, id)["state"] == "open"
    assert api.http.post(f"/batches/{id}/close").json()["state"] == "running"
    outcome = api.http.post(f"/batches/{id}/cancel").json()
    assert (outcome["cancelled"], outcome["left"]) == (2, 0)
    view = show(api, id)

    assert (view["state"], view["cancelled"], view["waiting"]) == ("cancelled", 2, 0)
    (entry, *_) = api.http.get("/audit-log", params={"action": "batch.cancel"}).json()["entries"]
    assert entry["object_id"] == id


def test_the_list_has_pages_and_a_filter(api: Api) -> None:
    open_one, running = make(api, 0, keep_open=True)["batch_id"], make(api)["batch_id"]
    ended = make(api, 0)["batch_id"]
    api.services.tasks.outbox.relay()
    page = api.http.get("/batches", params={"limit": 2}).json()
    rest = api.http.get("/batches", params={"limit": 2, "before": page["next"]}).json()
    assert [each["batch_id"] for each in page["batches"] + rest["batches"]] == [ended, running, open_one]
    assert rest["next"] is None
    unfinished = api.http.get("/batches", params={"unfinished": True}).json()["batches"]
    assert [each["batch_id"] for each in unfinished] == [running, open_one]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"on_success": {"name": "no_such_task"}}, 404),
        ({"on_success": {"name": "generate_performance_report_task", "payload": {"no": 1}}}, 422),
        ({"on_succes": CALLBACK}, 422),
        ({"tasks": [TASK, {"name": "no_such_task"}]}, 404),
        ({"tasks": [TASK | {"unique": {"key": "k"}}]}, 422),
        ({"id": "a", "idempotency_key": "b"}, 422),
        ({"description": "x" * 201}, 422),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(api: Api, body: dict[str, Any], status: int) -> None:
    assert api.http.post("/batches", json=body).status_code == status
    assert api.http.get("/batches").json()["batches"] == []
    assert api.http.get("/tasks").json()["tasks"] == []


def test_an_unknown_batch_is_not_found(api: Api) -> None:
    assert api.http.get("/batches/none").status_code == 404
    assert api.http.post("/batches/none/tasks", json={"tasks": [TASK]}).status_code == 404
    assert api.http.post("/batches/none/close").status_code == 404
    assert api.http.post("/batches/none/cancel").status_code == 404


def test_many_tasks_of_a_batch_are_selected(api: Api, platform: Platform) -> None:
    id = make(api)["batch_id"]
    other = platform.chore()
    done = api.http.post("/tasks/cancel", json={"batch": id}).json()

    assert done["done"] == 1
    assert platform.state(other) is TaskState.PENDING
