"""Many tasks over the API: selected, counted, changed in parts, and taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from laneway.platform import clock
from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api, change, found, problem, say
from tests.fixtures.emptied import ONE_DATABASE


def post(api: Api, path: str, **body: Any) -> Any:
    answer = api.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(api: Api, hours_ago: float) -> str:
    """A task that failed so many hours ago."""
    id = say(api, f"c-{hours_ago}")
    api.services.broker.remove_message("conversations", id)
    api.services.recorder.catch_up()
    change(api, id, state=TaskState.FAILED, finished_at=clock.now() - timedelta(hours=hours_ago))
    return id


def at(hours_ago: float) -> str:
    return (clock.now() - timedelta(hours=hours_ago)).isoformat()


def test_tasks_are_selected_by_when_they_ended(api: Api) -> None:
    old, middle, new = ended(api, 9), ended(api, 5), ended(api, 1)
    assert found(api, ended_since=at(6)) == [new, middle]
    assert found(api, ended_since=at(6), ended_until=at(2)) == [middle]
    trial = post(api, "/tasks/retry", ended_since=at(6), ended_until=at(2), dry_run=True)
    assert (trial["matched"], trial["total"], trial["samples"], trial["done"]) == (1, 1, [middle], 0)
    done = post(api, "/tasks/retry", ended_until=at(2))

    assert (sorted(done["ids"]), done["action"], done["undo_until"]) == (sorted([old, middle]), None, None)


def test_an_action_goes_on_in_parts_and_is_undone_as_a_whole(api: Api) -> None:
    ids = [say(api, f"c-{number}") for number in range(3)]
    trial = post(api, "/tasks/cancel", queue="conversations", most=2, dry_run=True)
    assert (trial["matched"], trial["total"], trial["more"]) == (2, 3, True)
    first = post(api, "/tasks/cancel", queue="conversations", most=2)
    then = post(api, "/tasks/cancel", queue="conversations", before=first["next"], action=first["action"])
    assert (first["ids"], then["ids"], then["next"]) == (ids[:0:-1], ids[:1], None)
    (listed,) = api.http.get("/bulk-actions").json()["actions"]
    assert (listed["action"], listed["kind"], listed["tasks"], listed["undoable"]) == (first["action"], "cancel", 3, 3)
    undone = post(api, f"/bulk-actions/{first['action']}/undo")

    assert (undone["done"], undone["refused"], undone["more"]) == (3, {}, False)
    assert found(api, state="pending") == ids[::-1]


def test_waiting_tasks_get_another_priority(api: Api) -> None:
    id = say(api, "c-1")
    assert post(api, "/tasks/reprioritise", ids=[id], priority="critical")["done"] == 1
    assert api.http.get(f"/tasks/{id}").json()["priority"] == 3
    assert post(api, "/tasks/reprioritise", ids=[id], priority=0)["done"] == 1
    assert api.http.get(f"/tasks/{id}").json()["priority"] == 0


def test_a_replay_returns_the_ids_of_the_copies(api: Api) -> None:
    id = ended(api, 1)
    done = post(api, "/tasks/replay", ids=[id])

    copy = done["copies"][id]
    assert (done["done"], done["ids"]) == (1, [id])
    assert api.http.get(f"/tasks/{copy}").json()["status"] == "pending"
    assert api.http.get(f"/tasks/{id}").json()["status"] == "failed"


@ONE_DATABASE
@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/tasks/cancel", {"most": 5}, 422, "select by ids"),
        ("/tasks/cancel", {"everything": True, "most": 1001}, 422, "less than or equal to 1000"),
        ("/tasks/cancel", {"everything": True, "ended_before": at(1)}, 422, "ended_before"),
        ("/tasks/reprioritise", {"everything": True}, 422, "priority"),
        ("/tasks/reprioritise", {"everything": True, "priority": True}, 422, "priority"),
        ("/tasks/reprioritise", {"everything": True, "priority": "urgent"}, 422, "priority"),
        ("/bulk-actions/nothing/undo", {}, 404, "No action 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_said(api: Api, path: str, body: dict[str, Any], status: int, words: str) -> None:
    say(api, "c-1")
    answer = api.http.post(path, json=body)

    assert problem(answer, status)
    assert words in answer.text
    assert found(api, state="pending")


def test_retention_is_previewed(api: Api) -> None:
    id = ended(api, 31 * 24)
    plan = api.http.get("/retention").json()
    rule = next(rule for rule in plan["tasks"] if rule["state"] == "failed")

    assert (rule["days"], rule["setting"], rule["expired"]) == (30, "RETENTION_DAYS_TASKS=30", 1)
    assert api.http.get("/retention", params={"tasks_older_than": 60}).json()["tasks"][0]["expired"] == 1
    assert found(api) == [id]


@pytest.mark.parametrize("action", ["cancel", "retry", "replay", "reprioritise"])
def test_states_to_which_an_action_does_not_apply_select_nothing(api: Api, action: str) -> None:
    state = "expired" if action in ("cancel", "reprioritise") else "pending"
    body = {"state": [state], "dry_run": True} | ({"priority": "low"} if action == "reprioritise" else {})
    answer = api.http.post(f"/tasks/{action}", json=body)
    assert (answer.status_code, answer.json()["total"], answer.json()["more"]) == (200, 0, False)
