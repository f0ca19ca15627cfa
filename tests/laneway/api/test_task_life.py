"""Tasks of any name over HTTP: search, status, cancel, retry, delete and stats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from app.core.queues import QUEUES
from laneway.platform import clock
from laneway.platform.db.models import TaskAttempt, TaskEvent, TaskRun, TaskTag
from laneway.platform.errors import UpstreamRefused
from laneway.platform.execution.outcomes import Raised
from laneway.schemas.task import FINISHED, TaskState
from tests.fixtures.api_calls import REPORT, Api, change, found, problem, say, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import GATED_QUIETLY

# --- search -------------------------------------------------------------------------------------------------


def test_tasks_are_found_by_each_filter_and_by_all_together(api: Api) -> None:
    report = submit(api, tags=["nightly", "team:a"])
    first, second = say(api, "c-1", tags=["nightly"]), say(api, "c-2")
    change(api, second, state=TaskState.FAILED, finished_at=clock.now(), error="100%_sure: No such Model")

    assert found(api) == [second, first, report]
    assert found(api, state="pending") == [first, report]
    assert found(api, state=["pending", "failed"]) == [second, first, report]
    assert found(api, state="completed") == []
    assert found(api, name=REPORT) == found(api, type=REPORT) == [report]
    assert found(api, queue="conversations") == [second, first]
    assert found(api, key="conversation_id:c-1") == [first]
    assert found(api, tag="nightly") == [first, report]
    assert found(api, tag="night") == []
    assert found(api, tag="team:a") == [report]
    assert found(api, error="no such model") == [second]
    assert found(api, error="100%_") == [second]
    assert found(api, error="1%e") == []
    assert found(api, tag="nightly", queue="conversations", state="pending", key="conversation_id:c-1") == [first]
    assert found(api, tag="nightly", queue="conversations", state="failed") == []


def test_tasks_are_found_by_the_time_of_their_acceptance(api: Api) -> None:
    ids = [submit(api) for _ in range(3)]
    for number, id in enumerate(ids):
        change(api, id, accepted_at=datetime(2026, 3, 1, 12 + number, tzinfo=UTC))

    assert found(api, since="2026-03-01T13:00:00Z") == [ids[2], ids[1]]
    assert found(api, until="2026-03-01T13:00:00Z") == [ids[0]]
    assert found(api, since="2026-03-01T14:00:00+01:00", until="2026-03-01T14:00:00") == [ids[1]]


def test_a_search_includes_the_newest_events(api: Api, platform: Platform) -> None:
    id = submit(api)
    platform.work("analytics", Raised(UpstreamRefused("model", "no such model")))

    assert found(api, state="failed", error="no such model") == [id]


def test_pages_have_no_gaps_and_no_repeats_while_tasks_come_and_go(api: Api) -> None:
    ids = [submit(api, tags=["paged"] if number % 2 else []) for number in range(25)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 7}
    while True:
        page = api.http.get("/tasks", params=query).json()
        seen += [task["task_id"] for task in page["tasks"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
        submit(api)  # new tasks are at the front
    assert seen == ids[::-1]

    tagged = api.http.get("/tasks", params={"tag": "paged", "limit": 12}).json()
    rest = api.http.get("/tasks", params={"tag": "paged", "limit": 12, "before": tagged["next"]}).json()
    assert [task["task_id"] for task in tagged["tasks"]] == ids[1::2][::-1]
    assert (rest["tasks"], rest["next"]) == ([], None)


@ONE_DATABASE
@pytest.mark.parametrize(
    "query",
    [
        "state=done",
        "limit=0",
        "limit=501",
        "before=-1",
        "before=x",
        f"before={2**63}",
        "since=soon",
        "since=0.5",
        "until=1767225600",
        "name=",
        "type=",
        "tag=a%00",
        "error=" + "x" * 201,
    ],
)
def test_a_search_with_invalid_parameters_is_refused(api: Api, query: str) -> None:
    problem(api.http.get(f"/tasks?{query}"), 422)


# --- one task -----------------------------------------------------------------------------------------------

UNKNOWN = (
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("GET", "/attempts"),
    ("GET", "/why"),
    ("GET", "/events"),
)


@pytest.mark.parametrize("id", ["nobody", "a%2Fb", "%ff", "x" * 155])
def test_an_unknown_task_id_returns_404(api: Api, id: str) -> None:
    for method, path in UNKNOWN:
        problem(api.http.request(method, f"/tasks/{id}{path}"), 404)


@pytest.mark.parametrize("id", ["%00", "x" * 156])
def test_an_impossible_task_id_is_refused(api: Api, id: str) -> None:
    for method, path in UNKNOWN:
        problem(api.http.request(method, f"/tasks/{id}{path}"), 422)


def test_a_waiting_task_is_cancelled_and_never_runs(api: Api, platform: Platform) -> None:
    id = submit(api)
    response = api.http.post(f"/tasks/{id}/cancel")

    assert (response.status_code, response.json()) == (200, {"task_id": id, "status": "cancelled", "cancelled": True})
    problem(api.http.post(f"/tasks/{id}/cancel"), 409)
    assert platform.places("analytics") == {}


def test_a_running_task_is_asked_to_stop_and_interrupted(live: Site) -> None:
    gate = live.gate()
    id = live.submit(GATED_QUIETLY, {"gate": str(gate)})
    live.until_event("began", id)

    assert live.post(f"/tasks/{id}/cancel") == {"task_id": id, "status": "processing", "cancelled": False}
    assert live.get(f"/tasks/{id}")["cancel_requested"] is True
    assert live.until(id, seconds=20).state == TaskState.CANCELLED
    (attempt,) = live.http.get(f"/tasks/{id}/attempts").json()
    assert (attempt["number"], attempt["outcome"]) == (1, "cancelled")


def test_a_task_is_shown_with_its_payload_and_without_secrets(api: Api) -> None:
    payload = {"url": "https://user:pw-1@example.com/hook", "event": "paid", "data": {"sum": 5, "api_key": "pw-2"}}
    id = submit(api, "send_webhook_response_task", payload)
    shown = api.http.get(f"/tasks/{id}").json()

    assert (shown["name"], shown["status"]) == ("send_webhook_response_task", "pending")
    assert shown["payload"]["data"] == {"sum": 5, "api_key": "[redacted]"}
    assert "pw-" not in str(shown)
    assert "payload" not in api.http.get("/tasks").json()["tasks"][0]


def test_a_finished_task_is_retried_and_its_attempts_are_numbered_on(api: Api, platform: Platform) -> None:
    id = submit(api)
    problem(api.http.post(f"/tasks/{id}/retry"), 409)
    platform.work("analytics", Raised(UpstreamRefused("model", "away")), worker="w1")
    again = api.http.post(f"/tasks/{id}/retry")

    assert (again.status_code, again.json()) == (202, {"task_id": id, "state": "pending", "created": True})
    assert platform.work("analytics", worker="w2") == id
    assert api.http.get(f"/tasks/{id}").json()["attempts"] == 2
    first, second = api.http.get(f"/tasks/{id}/attempts").json()
    assert (first["number"], first["worker"], first["outcome"], first["error_type"]) == (
        1,
        "w1",
        "failed",
        "UpstreamRefused",
    )
    assert (second["number"], second["worker"], second["outcome"], second["error"]) == (2, "w2", "completed", None)
    times = [datetime.fromisoformat(each[name]) for each in (first, second) for name in ("started_at", "ended_at")]
    assert times == sorted(times)


def test_each_attempt_is_shown_with_its_delay(api: Api, platform: Platform) -> None:
    id = submit(api)
    assert api.http.get(f"/tasks/{id}/attempts").json() == []
    platform.work("analytics", Raised(OSError("away")), schedule=(0.0,))
    platform.work("analytics", Raised(OSError("still away")), schedule=(0.0, 30.0))
    first, second = api.http.get(f"/tasks/{id}/attempts").json()

    assert [(one["outcome"], one["error"]) for one in (first, second)] == [("retry", "away"), ("retry", "still away")]
    assert (first["delay"], second["delay"]) == (0, pytest.approx(30, rel=0.2)), "seconds, and a little at random"
    status = api.http.get(f"/tasks/{id}").json()
    assert (status["status"], status["error"]) == ("scheduled", "still away")


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_task_is_deleted_with_its_history(api: Api, platform: Platform, state: TaskState) -> None:
    id = platform.brought_to(state)
    say(api, "c-2", tags=["stays"])
    assert api.http.delete(f"/tasks/{id}").status_code == 204

    problem(api.http.get(f"/tasks/{id}"), 404)
    for table in (TaskAttempt, TaskEvent):
        with api.database.reading() as session:
            assert session.scalar(select(func.count()).select_from(table).where(table.task_id == id)) == 0
    problem(api.http.delete(f"/tasks/{id}"), 404)
    assert len(found(api)) == api.count(TaskTag) == 1


@pytest.mark.parametrize("delay", [0, 60])
def test_a_waiting_task_is_cancelled_and_deleted(api: Api, platform: Platform, delay: float) -> None:
    id = submit(api, delay=delay, tags=["gone"])

    assert api.http.delete(f"/tasks/{id}").status_code == 204
    assert platform.places("analytics") == {}
    assert api.count(TaskRun, TaskEvent, TaskTag) == 0
    assert api.http.get("/stats").json()["unread_events"] == 0
    problem(api.http.get(f"/tasks/{id}"), 404)


def test_a_running_task_is_not_deleted(api: Api, platform: Platform) -> None:
    id = submit(api)
    attempt = platform.start("analytics")
    details = problem(api.http.delete(f"/tasks/{id}"), 409)

    assert details["detail"] == f"Task '{id}' is processing; it cannot be deleted before it is over."
    platform.end(attempt)
    assert api.http.delete(f"/tasks/{id}").status_code == 204


def test_the_id_of_a_deleted_task_can_be_used_again(api: Api, platform: Platform) -> None:
    submit(api, id="again")
    platform.work("analytics")
    api.http.delete("/tasks/again")

    assert submit(api, payload={"hours": 2}, id="again") == "again"
    assert platform.work("analytics") == "again"
    assert len(api.http.get("/tasks/again/attempts").json()) == 1


def test_a_status_expires_a_day_after_the_end(api: Api) -> None:
    id = submit(api)
    change(api, id, state=TaskState.COMPLETED, finished_at=clock.now() - timedelta(hours=24, seconds=5))

    problem(api.http.get(f"/tasks/{id}"), 410)


# --- stats --------------------------------------------------------------------------------------------------


def test_stats_show_queues_states_workers_and_unrecorded_events(api: Api, platform: Platform) -> None:
    for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.PROCESSING):
        platform.brought_to(state, conversation=f"c-{state}")
    submit(api)
    platform.alive("w@here")
    stats = api.http.get("/stats").json()

    assert list(stats["queues"]) == list(QUEUES)
    assert stats["queues"]["conversations"] == {
        "lane": "high",
        "paused": False,
        "active": 1,
        "accepted": 0,
        "pending": 0,
        "scheduled": 0,
        "dead": 1,
        "workers": 1,
    }
    assert stats["queues"]["analytics"]["pending"] == 1
    assert stats["tasks"] == {"completed": 1, "failed": 1, "dead_letter": 1, "processing": 1, "pending": 1}
    assert (stats["workers"], stats["unread_events"], stats["unread_limit"]) == (1, 0, 100_000)
    assert stats["timestamp"]


def test_without_a_broker_tasks_are_accepted_and_finished_ones_are_shown(api: Api, platform: Platform) -> None:
    id = platform.brought_to(TaskState.COMPLETED)
    platform.valkey.stop()

    details = api.http.post("/tasks", json={"name": REPORT, "id": "later"})
    assert (details.status_code, details.json()["state"]) == (202, "accepted")
    assert api.http.get("/tasks/later").json()["status"] == "accepted"
    assert api.http.get(f"/tasks/{id}").json()["status"] == "completed"
    assert found(api) == ["later", id]
    assert found(api, state="accepted") == ["later"]
    unique = {"key": "one", "until": "until_done"}
    refused = api.http.post("/tasks", json={"name": REPORT, "id": "unique", "unique": unique})
    assert problem(refused, 503)["type"] == "urn:laneway:problem:broker-unavailable"
    assert int(refused.headers["retry-after"]) >= 1


def test_a_wait_for_the_end_of_a_task_has_bounds(api: Api) -> None:
    id = submit(api, delay=60)

    assert api.http.get(f"/tasks/{id}?wait=0.2").json()["status"] == "scheduled"
    assert api.http.post(f"/tasks/{id}/cancel").json()["cancelled"]
    assert api.http.get(f"/tasks/{id}?wait=60").json()["status"] == "cancelled", "it answers at once"
    problem(api.http.get("/tasks/nobody?wait=1"), 404)
    for wrong in ("61", "-1", "nan", "soon"):
        problem(api.http.get(f"/tasks/{id}?wait={wrong}"), 422)
