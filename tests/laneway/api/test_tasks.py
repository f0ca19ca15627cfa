"""The task routes under /conversations: status, queue figures, cancel."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.core.queues import QUEUES
from laneway.platform import clock
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import workers
from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api, change, problem, unfinished
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import GATED_QUIETLY
from tests.fixtures.waiting import wait_until


def test_the_status_of_a_waiting_task_is_complete(api: Api) -> None:
    task = api.say("conv-7", priority="HIGH").json()["task_id"]

    status = api.http.get(f"/conversations/tasks/{task}/status").json()
    assert (status["task_id"], status["status"], status["progress"], status["attempts"]) == (task, "pending", 0, 0)
    assert (status["name"], status["queue"]) == ("process_conversation_message_task", "conversations")
    assert (status["priority"], status["max_retries"], status["key"]) == (2, 3, "conversation_id:conv-7")
    assert status["waiting_for"] == "a worker: none serves the queue 'conversations'"
    assert status["result"] is status["error"] is status["started_at"] is status["finished_at"] is None
    assert status["accepted_at"]


def test_the_status_of_a_task_behind_another_names_the_other(api: Api) -> None:
    first, second = (api.say("conv-7").json()["task_id"] for _ in range(2))
    later = api.say("conv-8").json()["task_id"]

    status = api.http.get(f"/conversations/tasks/{second}/status").json()
    assert (status["status"], status["waiting_for"]) == (
        "pending",
        f"an earlier task of conversation_id:conv-7 (task {first})",
    )
    assert api.http.post(f"/conversations/tasks/{first}/cancel").json()["cancelled"]
    free = "a worker: none serves the queue 'conversations'"
    assert [api.http.get(f"/conversations/tasks/{id}/status").json()["waiting_for"] for id in (second, later)] == [
        free
    ] * 2


def test_why_a_task_waits_is_said_with_every_cause(api: Api) -> None:
    first, second = (api.say("conv-7").json()["task_id"] for _ in range(2))
    why = api.http.get(f"/tasks/{second}/why").json()

    assert [cause["kind"] for cause in why["causes"]] == ["key", "no_worker", "line"]
    assert why["causes"][0]["task_id"] == first
    assert (why["status"], why["forecast"]) == ("pending", None)
    assert why["no_forecast"] == f"It waits for an earlier task of conversation_id:conv-7 (task {first})."


def test_a_submission_is_answered_with_a_forecast_if_it_asks_for_one(api: Api) -> None:
    now = clock.now()
    with api.database.transaction() as session:
        workers.report(session, "w1", id="w1", queues=["maintenance"], started_at=now, now=now)
    body = {"name": "cleanup_old_data_task", "payload": {}}
    first = api.http.post("/tasks", json=body).json()
    assert "forecast" not in first
    assert api.http.post(f"/tasks/{first['task_id']}/cancel").json()["cancelled"]
    change(api, first["task_id"], state=TaskState.COMPLETED, started_at=now - timedelta(seconds=7), finished_at=now)

    forecast = api.http.post("/tasks?forecast=true", json=body).json()["forecast"]
    assert (forecast["rate"], forecast["starts"]) == (None, 0)
    starts, ends = (datetime.fromisoformat(forecast[name]) for name in ("starts_p50", "ends_p50"))
    assert ends - starts == timedelta(seconds=7)


@pytest.mark.parametrize("id", ["nobody", "a%2Fb", "a%0Ab", "%ff", "%F0%9F%9A%B2", "'%20OR%201=1", "x" * 155, "%25"])
def test_an_unknown_task_id_returns_404(api: Api, id: str) -> None:
    for response in (
        api.http.get(f"/conversations/tasks/{id}/status"),
        api.http.post(f"/conversations/tasks/{id}/cancel"),
    ):
        problem(response, 404)


@ONE_DATABASE
@pytest.mark.parametrize("id", ["%00", "a%00b", "x" * 156])
def test_an_impossible_task_id_is_refused(api: Api, id: str) -> None:
    problem(api.http.get(f"/conversations/tasks/{id}/status"), 422)
    problem(api.http.post(f"/conversations/tasks/{id}/cancel"), 422)


def test_a_status_expires_a_day_after_the_end(api: Api) -> None:
    old, recent = (api.say(name).json()["task_id"] for name in ("old", "recent"))
    _set(api, old, state=TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=24, seconds=5))
    _set(api, recent, state=TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=23))

    gone = problem(api.http.get(f"/conversations/tasks/{old}/status"), 410)
    assert gone["detail"] == f"Task '{old}' finished more than 24 hours ago; its status has expired."
    assert api.http.get(f"/conversations/tasks/{recent}/status").status_code == 200


def test_a_waiting_task_is_cancelled_and_never_runs(api: Api) -> None:
    task = api.say().json()["task_id"]
    response = api.http.post(f"/conversations/tasks/{task}/cancel")

    assert (response.status_code, response.json()) == (200, {"task_id": task, "status": "cancelled", "cancelled": True})
    assert api.http.get(f"/conversations/tasks/{task}/status").json()["status"] == "cancelled"
    problem(api.http.post(f"/conversations/tasks/{task}/cancel"), 409)


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER])
def test_a_finished_task_cannot_be_cancelled(api: Api, state: TaskState) -> None:
    task = api.say().json()["task_id"]
    _set(api, task, state=state, finished_at=clock.now())

    found = problem(api.http.post(f"/conversations/tasks/{task}/cancel"), 409)
    assert found["detail"] == f"Task '{task}' is {state.value}; it cannot be cancelled."


def test_a_running_task_is_listed_and_interrupted(live: Site) -> None:
    wait_until(lambda: unfinished(live) == 0, seconds=120)  # tasks of other tests
    gate = live.gate()
    task = live.submit(GATED_QUIETLY, {"gate": str(gate)})
    live.until(task, TaskState.PROCESSING)
    active = live.get("/conversations/tasks/active")
    figures = live.get("/conversations/tasks/queues/status")["queues"]["conversations"]

    assert active["count"] == len(active["tasks"]) == 1
    assert (active["tasks"][0]["task_id"], active["tasks"][0]["status"]) == (task, "processing")
    assert (figures["active"], figures["workers"]) == (1, 1)
    response = live.post(f"/conversations/tasks/{task}/cancel")
    assert response == {"task_id": task, "status": "processing", "cancelled": False}
    assert live.until(task, seconds=15).state == TaskState.CANCELLED
    wait_until(lambda: live.get("/conversations/tasks/active")["count"] == 0, seconds=10)
    assert "ended" not in [event for event, *_ in live.events(task)]


def test_a_cancelled_message_is_not_answered_and_the_next_one_is(live: Site) -> None:
    gate = live.gate()
    for _ in range(2):  # both processes of the worker are busy
        live.submit(GATED_QUIETLY, {"gate": str(gate)})
    first, second = (
        live.post("/conversations/message", {"conversation_id": "cancel-1", "message": text})["task_id"]
        for text in ("Never mind", "What about refunds?")
    )
    assert live.post(f"/conversations/tasks/{first}/cancel")["cancelled"] is True
    gate.open()
    live.until(second, TaskState.COMPLETED)

    history = live.get("/conversations/cancel-1")
    assert [turn["message"] for turn in history["messages"] if turn["role"] == "customer"] == ["What about refunds?"]
    assert live.row(first).attempts == 0


def test_the_figures_include_every_queue(api: Api) -> None:
    tasks = [api.say(f"c-{number}").json()["task_id"] for number in range(4)]
    _set(api, tasks[0], state=TaskState.DEAD_LETTER, finished_at=clock.now())
    _set(api, tasks[1], state=TaskState.SCHEDULED, due_at=clock.now() + timedelta(hours=1))
    _set(api, tasks[2], state=TaskState.PROCESSING, started_at=clock.now())

    response = api.http.get("/conversations/tasks/queues/status").json()
    assert list(response["queues"]) == list(QUEUES)
    assert response["queues"]["conversations"] == {
        "lane": "high",
        "paused": False,
        "active": 1,
        "accepted": 0,
        "pending": 1,
        "scheduled": 1,
        "dead": 1,
        "workers": 0,
    }
    assert response["timestamp"]


@ONE_DATABASE
@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "1.5"])
def test_an_invalid_limit_of_a_list_is_refused(api: Api, limit: str) -> None:
    problem(api.http.get(f"/conversations/tasks/active?limit={limit}"), 422)


def test_the_list_of_active_tasks_respects_its_limit(api: Api) -> None:
    for number in range(3):
        _set(api, api.say(f"c-{number}").json()["task_id"], state=TaskState.PROCESSING, started_at=clock.now())

    response = api.http.get("/conversations/tasks/active?limit=2").json()
    assert [task["key"] for task in response["tasks"]] == ["conversation_id:c-2", "conversation_id:c-1"]


def test_no_status_shows_a_traceback(api: Api) -> None:
    task = api.say().json()["task_id"]
    _set(
        api,
        task,
        state=TaskState.FAILED,
        finished_at=clock.now(),
        error="No such model",
        error_type="UpstreamRefused",
        traceback='Traceback (most recent call last):\n  File "x.py"',
    )

    response = api.http.get(f"/conversations/tasks/{task}/status")
    assert response.json()["error"] == "No such model"
    assert "Traceback" not in response.text


def _set(api: Api, task: str, **values: Any) -> None:
    with api.database.transaction() as session:
        session.execute(update(TaskRun).where(TaskRun.id == task).values(**values))
