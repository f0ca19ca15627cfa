"""POST /tasks: tasks of any name, with every option, accepted or refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from laneway.engine import MessageState
from laneway.platform import clock
from laneway.platform.db.models import TaskEvent, TaskRun, TaskTag
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import MESSAGE, REPORT, Api, found, problem, say, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import GATED_QUIETLY
from tests.fixtures.waiting import wait_until

# --- submit -------------------------------------------------------------------------------------------------


def test_a_task_of_any_name_is_accepted_and_its_status_is_shown(api: Api, platform: Platform) -> None:
    response = api.http.post("/tasks", json={"name": REPORT, "payload": {"hours": 3}})

    handle = response.json()
    assert (response.status_code, handle["state"], handle["created"]) == (202, "pending", True)
    status = api.http.get(f"/tasks/{handle['task_id']}").json()
    assert (status["name"], status["queue"], status["status"], status["priority"]) == (
        REPORT,
        "analytics",
        "pending",
        1,
    )
    assert (status["tags"], status["expires_at"], status["due_at"]) == ([], None, None)
    assert platform.sent("analytics") == [handle["task_id"]]


def test_the_error_for_an_unknown_task_name_lists_the_registered_names(api: Api) -> None:
    details = problem(api.http.post("/tasks", json={"type": "deployy"}), 404)

    assert details["detail"].startswith(
        "No task is registered as 'deployy' (did you mean 'deploy'?); registered are batch_conversation_analysis_task, "
    )
    assert " deploy," in details["detail"]


def test_a_misspelt_filter_is_refused(api: Api) -> None:
    details = problem(api.http.get("/tasks", params={"tpye": "dev", "limit": 5}), 422)

    assert details["errors"][0]["field"] == "query.tpye"
    assert "the parameters are state, name, type, queue," in details["detail"]
    problem(api.http.get("/api/leads", params={"status": "failed"}), 422)
    problem(api.http.get("/stats", params={"state": "failed"}), 422)


def test_an_earlier_name_is_accepted_and_answered_with_the_present_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_spec(monkeypatch, replace(registry[REPORT], aliases=("old_report",)))
    monkeypatch.setattr(registry, "_aliases", {"old_report": REPORT})
    one = api.http.post("/tasks", json={"name": "old_report", "payload": {"hours": 3}}).json()
    many = api.http.post("/tasks/batch", json={"tasks": [{"name": name} for name in ("old_report", REPORT)]}).json()

    assert one["renamed_to"] == REPORT
    assert [task.get("renamed_to") for task in many["tasks"]] == [REPORT, None]
    assert api.http.get(f"/tasks/{one['task_id']}").json()["name"] == REPORT


def test_a_repeated_id_returns_the_same_task(api: Api, platform: Platform) -> None:
    body = {"name": REPORT, "payload": {"hours": 3}, "id": "report-1"}
    first, again = api.http.post("/tasks", json=body), api.http.post("/tasks", json=body)

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == {"task_id": "report-1", "state": "pending", "created": True}
    assert again.json() == {"task_id": "report-1", "state": "pending", "created": False}
    assert platform.sent("analytics") == ["report-1"]


def test_a_repeated_idempotency_key_returns_the_same_task_and_its_state(api: Api, platform: Platform) -> None:
    body = {"name": REPORT, "payload": {"hours": 3}, "idempotency_key": "caller 7/ü"}
    first, again = api.http.post("/tasks", json=body), api.http.post("/tasks", json=body)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json() | {"created": False}
    assert platform.work("analytics") == first.json()["task_id"]
    last = api.http.post("/tasks", json=body)
    assert (last.status_code, last.json()) == (200, again.json() | {"state": "completed"})
    assert platform.places("analytics") == {}


@pytest.mark.parametrize("identity", [{"id": "one"}, {"idempotency_key": "one"}])
@pytest.mark.parametrize("other", [{"payload": {"hours": 4}}, {"name": "generate_conversation_analytics_task"}])
def test_an_id_or_key_of_another_task_is_a_conflict(
    api: Api, platform: Platform, identity: dict[str, str], other: dict[str, Any]
) -> None:
    body = {"name": REPORT, "payload": {"hours": 3}, **identity}
    id = api.http.post("/tasks", json=body).json()["task_id"]

    details = problem(api.http.post("/tasks", json=body | other), 409)

    assert details["type"] == "urn:laneway:problem:conflict"
    assert id in details["detail"]
    assert platform.sent("analytics") == [id]


def test_two_idempotency_keys_make_two_tasks(api: Api) -> None:
    assert len({submit(api, idempotency_key=key) for key in ("a", "b", "A")}) == 3


def test_the_task_of_higher_priority_is_delivered_first(api: Api, platform: Platform) -> None:
    ids = {name: submit(api, priority=name) for name in ("low", "critical", "normal", "high")}

    assert platform.sent("analytics") == [ids[name] for name in ("critical", "high", "normal", "low")]
    assert [api.http.get(f"/tasks/{ids[name]}").json()["priority"] for name in ids] == [0, 3, 1, 2]


def test_tasks_with_the_key_of_their_submission_run_one_at_a_time(api: Api, platform: Platform) -> None:
    first = submit(api, key="ada")
    (second,) = api.http.post("/tasks/batch", json={"tasks": [{"name": REPORT, "key": "ada"}]}).json()["tasks"]

    assert api.http.get(f"/tasks/{second['task_id']}").json()["key"] == "ada"
    assert platform.places("analytics") == {first: MessageState.READY, second["task_id"]: MessageState.HELD}
    for key in ("", "x" * 201, 7, "a\x00b"):
        assert (
            problem(api.http.post("/tasks", json={"name": REPORT, "key": key}), 422)["errors"][0]["field"] == "body.key"
        )


def test_a_delayed_task_is_scheduled(api: Api, platform: Platform) -> None:
    before = clock.now()
    id = submit(api, delay=90)

    status = api.http.get(f"/tasks/{id}").json()
    assert (status["status"], status["waiting_for"]) == ("scheduled", "its due time")
    assert 89 < (datetime.fromisoformat(status["due_at"]) - before).total_seconds() < 100
    assert platform.places("analytics") == {id: MessageState.SCHEDULED}


def test_the_expiry_of_a_task_is_shown_and_sent_with_its_message(api: Api, platform: Platform) -> None:
    before = clock.now()
    id = submit(api, expires=90)

    expires = datetime.fromisoformat(api.http.get(f"/tasks/{id}").json()["expires_at"])
    assert 89 < (expires - before).total_seconds() < 100
    assert platform.take("analytics") == id


def test_a_task_that_is_not_started_in_time_expires_and_never_runs(live: Site) -> None:
    gate = live.gate()
    gated = [live.submit(GATED_QUIETLY, {"gate": str(gate)}) for _ in range(2)]  # all processes are busy
    for id in gated:
        live.until_event("began", id)
    id = live.post("/tasks", {"name": REPORT, "expires": 0.2})["task_id"]
    in_time = live.post("/tasks", {"name": REPORT, "expires": 3600})["task_id"]
    expires = datetime.fromisoformat(live.get(f"/tasks/{id}")["expires_at"])
    wait_until(lambda: clock.now() > expires, seconds=10)
    gate.open()

    assert live.until(id, seconds=60).state == TaskState.EXPIRED
    assert live.until(in_time, seconds=60).state == TaskState.COMPLETED
    details = live.get(f"/tasks/{id}")
    assert (details["status"], details["attempts"], details["started_at"]) == ("expired", 0, None)
    assert details["finished_at"] and details["error"]


# --- uniqueness ---------------------------------------------------------------------------------------------


def test_a_second_task_with_a_uniqueness_key_is_refused_with_the_id_of_the_first(api: Api, platform: Platform) -> None:
    first = submit(api, unique={"key": "nightly"})
    details = problem(api.http.post("/tasks", json={"name": REPORT, "unique": {"key": "nightly"}, "id": "second"}), 409)

    assert details["type"] == "urn:laneway:problem:duplicate-task"
    assert details["detail"] == f"The same work is already queued or running as task {first!r}."
    problem(api.http.get("/tasks/second"), 404)
    assert platform.sent("analytics") == [first]
    assert submit(api, unique={"key": "hourly"})


def test_a_repeated_submit_of_the_holder_of_a_uniqueness_key_is_accepted(api: Api) -> None:
    body = {"name": REPORT, "unique": {"key": "nightly"}, "idempotency_key": "tonight"}
    first, again = api.http.post("/tasks", json=body), api.http.post("/tasks", json=body)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["task_id"] == first.json()["task_id"]


@pytest.mark.parametrize("until", ["until_start", "until_done"])
def test_a_uniqueness_key_is_released_at_the_requested_moment(api: Api, platform: Platform, until: str) -> None:
    unique = {"key": "nightly", "until": until}
    submit(api, unique=unique)
    attempt = platform.start("analytics")

    if until == "until_done":
        problem(api.http.post("/tasks", json={"name": REPORT, "unique": unique}), 409)
        platform.end(attempt)

    assert submit(api, unique=unique)


def test_a_uniqueness_key_for_a_time_is_kept_after_the_end_of_the_task(api: Api, platform: Platform) -> None:
    unique = {"key": "nightly", "until": "for_time", "seconds": 60}
    id = submit(api, unique=unique)
    assert platform.work("analytics") == id

    assert id in problem(api.http.post("/tasks", json={"name": REPORT, "unique": unique}), 409)["detail"]


# --- durability and refusals --------------------------------------------------------------------------------


def test_a_task_with_durability_disk_survives_a_kill_of_the_broker(api: Api, platform: Platform) -> None:
    id = submit(api, durability="disk")
    platform.valkey.kill()
    platform.valkey.start()

    assert platform.sent("analytics") == [id]


def test_a_missing_confirmation_by_a_replica_is_reported_and_a_repeat_is_safe(api: Api, platform: Platform) -> None:
    body = {"name": REPORT, "id": "once", "durability": "replica"}
    for _ in range(2):
        details = api.http.post("/tasks", json=body)
        assert problem(details, 503)["type"] == "urn:laneway:problem:not-durable"
        assert details.headers["retry-after"]

    assert platform.sent("analytics") == ["once"]


def test_options_that_the_broker_does_not_support_are_refused(make_api: MakeApi) -> None:
    api = make_api(BROKER_TRANSPORT="celery")

    for option in ({"unique": {"key": "a"}}, {"durability": "disk"}):
        details = problem(api.http.post("/tasks", json={"name": REPORT, **option}), 422)
        assert details["type"] == "urn:laneway:problem:unsupported"
    assert api.count(TaskRun, TaskEvent) == 0


@ONE_DATABASE
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": REPORT, "surprise": 1},
        {"name": REPORT, "payload": []},
        {"name": REPORT, "id": "a/b"},
        {"name": REPORT, "id": "a", "idempotency_key": "b"},
        {"name": REPORT, "idempotency_key": ""},
        {"name": REPORT, "idempotency_key": "a\x00"},
        {"name": REPORT, "idempotency_key": "x" * 201},
        {"name": REPORT, "priority": "urgent"},
        {"name": REPORT, "delay": -1},
        {"name": REPORT, "delay": "5"},
        {"name": REPORT, "expires": True},
        {"name": REPORT, "delay": 1e10},
        {"name": REPORT, "expires": 0},
        {"name": REPORT, "unique": {"key": "a", "until": "for_time"}},
        {"name": REPORT, "unique": "a"},
        {"name": REPORT, "unique": {"key": "a", "seconds": -1}},
        {"name": REPORT, "tags": ["a b"]},
        {"name": REPORT, "tags": [""]},
        {"name": REPORT, "tags": ["x" * 65]},
        {"name": REPORT, "tags": ["t"] * 21},
        {"name": REPORT, "durability": "paper"},
        {"name": REPORT, "payload": {"hours": 0}},
        {"name": REPORT, "payload": {"surprise": 1}},
        {"name": MESSAGE, "payload": {}},
    ],
)
def test_an_invalid_request_is_refused_and_nothing_is_queued(api: Api, body: dict[str, Any]) -> None:
    problem(api.http.post("/tasks", json=body), 422)

    assert (api.queued(), api.count(TaskRun, TaskEvent, TaskTag)) == (0, 0)


def test_an_unknown_task_name_is_refused(api: Api) -> None:
    details = problem(api.http.post("/tasks", json={"name": "no_such_task"}), 404)

    assert "'no_such_task'" in details["detail"]
    assert api.count(TaskRun) == 0


def test_a_full_queue_refuses_a_task_and_stores_nothing(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="1")
    submit(api, tags=["first"])
    response = api.http.post("/tasks", json={"name": REPORT, "tags": ["second"]})

    problem(response, 429)
    assert response.headers["retry-after"]
    assert (api.queued(), api.count(TaskRun), api.count(TaskTag)) == (1, 1, 1)
    assert found(api, tag="second") == []


def test_no_task_is_accepted_while_the_history_is_too_far_behind(make_api: MakeApi) -> None:
    """The journal of one queue holds MAX_UNREAD_EVENTS unrecorded events; other queues still accept tasks."""
    api = make_api(MAX_UNREAD_EVENTS="100")
    for _ in range(100):
        submit(api)
    response = api.http.post("/tasks", json={"name": REPORT, "id": "too-much"})

    assert problem(response, 503)["type"] == "urn:laneway:problem:history-behind"
    assert response.headers["retry-after"]
    assert api.count(TaskRun) == 100
    assert say(api, "c-1")
    assert api.http.get("/stats").json()["unread_events"] == 0, "who looks brings it up to date"
    assert submit(api, id="too-much") == "too-much"
