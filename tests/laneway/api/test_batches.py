"""POST /tasks/batch: many tasks in one request."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.platform.db.models import TaskRun
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api, problem


def batch(api: Api, *tasks: dict[str, Any]) -> Any:
    """Submit the tasks as one batch."""
    return api.http.post("/tasks/batch", json={"tasks": list(tasks)})


def report(id: str, **more: Any) -> dict[str, Any]:
    """The request for one task without an ordering key."""
    return {"type": REPORT, "payload": {"hours": 1}, "id": id, **more}


def test_many_tasks_are_accepted_at_once(make_api: MakeApi) -> None:
    api = make_api(MAX_BODY_BYTES="200000")
    details = batch(api, *(report(f"r-{number}") for number in range(1000)))

    assert details.status_code == 202
    response = details.json()
    assert response["created"] == 1000
    assert [task["task_id"] for task in response["tasks"]] == [f"r-{number}" for number in range(1000)]
    assert {task["state"] for task in response["tasks"]} == {"pending"}
    assert api.count(TaskRun) == 1000
    assert api.queued() == 1000
    again = batch(api, report("r-1"), report("new", priority="high", tags=["again"])).json()
    assert [task["created"] for task in again["tasks"]] == [False, True]
    assert api.http.get("/tasks/new").json()["tags"] == ["again"]


@pytest.mark.parametrize(
    ("spoiled", "status"),
    [
        ({"type": "nothing_of_the_kind"}, 404),
        (report("bad", payload={"hours": "many"}), 422),
        (report("r-1", payload={"hours": 2}), 409),
        (report("bad", durability="disk"), 422),
        (report("bad", unique={"key": "one", "until": "until_done"}), 422),
        (report("bad", surprise=1), 422),
    ],
    ids=["unknown", "payload", "conflict", "durability", "unique", "field"],
)
def test_one_refused_task_refuses_the_whole_batch(api: Api, spoiled: dict[str, Any], status: int) -> None:
    problem(batch(api, report("r-1"), report("r-2"), spoiled), status)

    assert (api.count(TaskRun), api.queued()) == (0, 0)


def test_a_batch_that_does_not_fit_into_its_queue_is_refused(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="3")

    refused = batch(api, *(report(f"r-{number}") for number in range(4)))

    problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert api.count(TaskRun) == 0
    assert batch(api, *(report(f"r-{number}") for number in range(3))).status_code == 202


@pytest.mark.parametrize("number", [0, 1001])
def test_a_batch_has_one_to_a_thousand_tasks(make_api: MakeApi, number: int) -> None:
    api = make_api(MAX_BODY_BYTES="200000")
    problem(batch(api, *(report(f"r-{each}") for each in range(number))), 422)
