"""Tokens that are bound to a tenant, to queues or to names of tasks: what they submit, see and change."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.platform.access.scopes import Scope
from laneway.platform.execution.outcomes import Raised
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.platform import Platform
from tests.laneway.api.test_access import bearer

MESSAGE = "process_conversation_message_task"
REPORT = "generate_performance_report_task"
USER = (Scope.SUBMIT, Scope.READ, Scope.OPERATE, Scope.DELETE, Scope.DEAD, Scope.QUEUES)


@pytest.fixture
def guarded(make_api: MakeApi) -> Api:
    """The API with authentication."""
    return make_api(AUTHENTICATION="on")


def message(id: str | None = None, **more: Any) -> dict[str, Any]:
    """The body of a submission."""
    payload = {"conversation_id": "c-1", "message": "Hello"}
    return {"name": MESSAGE, "payload": payload, **({"id": id} if id else {}), **more}


def test_the_ids_of_a_tenant_stay_within_it(guarded: Api) -> None:
    acme, other = (bearer(guarded, *USER, tenant=tenant) for tenant in ("acme", "other"))
    first = guarded.http.post("/tasks", json=message("order-1"), headers=acme)
    again = guarded.http.post("/tasks", json=message("tenant:acme:order-1"), headers=acme)
    theirs = guarded.http.post("/tasks", json={**message("order-1"), "name": REPORT, "payload": {}}, headers=other)
    keyed = guarded.http.post("/tasks", json=message(idempotency_key="k"), headers=acme).json()["task_id"]

    assert (first.status_code, first.json()["task_id"]) == (202, "tenant:acme:order-1")
    assert (again.status_code, again.json()["task_id"]) == (200, "tenant:acme:order-1")
    assert (theirs.status_code, theirs.json()["task_id"]) == (202, "tenant:other:order-1")
    assert keyed.startswith("tenant:acme:")
    assert guarded.services.tasks.current("tenant:acme:order-1").key == "tenant:acme:conversation_id:c-1"
    assert guarded.http.post("/tasks", json=message("tenant:acme:order-2"), headers=other).status_code == 422


def test_uniqueness_keys_of_tenants_do_not_meet(guarded: Api) -> None:
    acme, other = (bearer(guarded, *USER, tenant=tenant) for tenant in ("acme", "other"))
    unique = {"key": "nightly"}

    assert guarded.http.post("/tasks", json=message(unique=unique), headers=acme).status_code == 202
    assert guarded.http.post("/tasks", json=message(unique=unique), headers=other).status_code == 202
    assert guarded.http.post("/tasks", json=message(unique=unique), headers=acme).status_code == 409


def test_a_tenant_sees_and_changes_its_own_tasks_only(guarded: Api, platform: Platform) -> None:
    acme, admin = bearer(guarded, *USER, tenant="acme"), bearer(guarded, Scope.ADMIN)
    own = guarded.http.post("/tasks", json=message("own"), headers=acme).json()["task_id"]
    foreign = guarded.http.post("/tasks", json=message("foreign"), headers=admin).json()["task_id"]

    def seen(path: str) -> list[str]:
        return [task["task_id"] for task in guarded.http.get(path, headers=acme).json()["tasks"]]

    assert (seen("/tasks"), seen("/tasks?name=" + MESSAGE)) == ([own], [own])
    assert guarded.http.get(f"/tasks/{own}", headers=acme).status_code == 200
    for method, path in (
        ("GET", "/tasks/{id}"),
        ("GET", "/tasks/{id}?wait=0.1"),
        ("GET", "/tasks/{id}/attempts"),
        ("GET", "/tasks/{id}/events?follow=false"),
        ("POST", "/tasks/{id}/cancel"),
        ("POST", "/tasks/{id}/retry"),
        ("DELETE", "/tasks/{id}"),
        ("GET", "/dead-letters/{id}"),
    ):
        there = guarded.http.request(method, path.format(id=foreign), headers=acme)
        nowhere = guarded.http.request(method, path.format(id="nowhere"), headers=acme)
        assert (there.status_code, nowhere.status_code) == (404, 404), path
    assert platform.tasks.current(foreign).state == TaskState.PENDING
    assert guarded.http.post(f"/tasks/{own}/cancel", headers=acme).status_code == 200


def test_dead_letters_of_others_stay_out_of_reach(guarded: Api, platform: Platform) -> None:
    acme, admin = bearer(guarded, *USER, tenant="acme"), bearer(guarded, Scope.ADMIN)
    for id, who in (("own", acme), ("foreign", admin)):
        guarded.http.post("/tasks", json=message(id), headers=who)
        attempt = platform.start()
        attempt.max_retries = 0
        platform.end(attempt, Raised(OSError("away")))

    listed = guarded.http.get("/dead-letters", headers=acme).json()["dead_letters"]
    everything = guarded.http.post("/dead-letters/discard", json={"everything": True}, headers=acme)
    by_id = guarded.http.post("/dead-letters/discard", json={"ids": ["foreign"]}, headers=acme).json()

    assert [each["task_id"] for each in listed] == ["tenant:acme:own"]
    assert everything.json()["matched"] == 1
    assert (by_id["matched"], list(by_id["refused"])) == (0, ["foreign"])
    assert "known here" in by_id["refused"]["foreign"]
    assert platform.tasks.current("foreign").trashed_at is None


def test_a_token_for_names_and_queues_submits_nothing_else(guarded: Api) -> None:
    single = bearer(guarded, f"{Scope.SUBMIT}:{REPORT}")
    queued = bearer(guarded, *USER, queues=frozenset({"analytics"}))
    named = bearer(guarded, *USER, names=frozenset({REPORT}))
    report: dict[str, Any] = {"name": REPORT, "payload": {}}

    for headers in (single, queued, named):
        assert guarded.http.post("/tasks", json=report, headers=headers).status_code == 202
        assert guarded.http.post("/tasks", json=message("m-1"), headers=headers).status_code == 403
        batch = guarded.http.post("/tasks/batch", json={"tasks": [report, message("m-1")]}, headers=headers)
        assert batch.status_code == 403
    assert guarded.http.get("/tasks/m-1", headers=bearer(guarded, Scope.ADMIN)).status_code == 404, "a row was left"
    assert len(guarded.http.get("/tasks", headers=queued).json()["tasks"]) == 3, "a refused batch leaves no row"
    assert guarded.http.get("/tasks", headers=single).status_code == 403
    guarded.http.post("/tasks", json=message("foreign"), headers=bearer(guarded, Scope.ADMIN))
    for headers in (queued, named):
        for method, path in (
            ("GET", "/tasks/foreign"),
            ("POST", "/tasks/foreign/cancel"),
            ("DELETE", "/tasks/foreign"),
        ):
            assert guarded.http.request(method, path, headers=headers).status_code == 404, path


def test_a_token_for_a_queue_operates_that_queue_only(guarded: Api) -> None:
    headers = bearer(guarded, Scope.READ, Scope.QUEUES, queues=frozenset({"analytics"}))

    assert guarded.http.put("/queues/analytics/limits", json={"rate": 5}, headers=headers).status_code == 200
    assert guarded.http.put("/queues/crm/limits", json={"rate": 5}, headers=headers).status_code == 403
    assert guarded.http.get("/queues", headers=headers).status_code == 403, "it shows all queues"
    tenant = bearer(guarded, Scope.QUEUES, tenant="acme")
    assert guarded.http.put("/queues/analytics/limits", json={"paused": True}, headers=tenant).status_code == 403


@pytest.mark.parametrize(
    "bound",
    [{"tenant": "acme"}, {"queues": frozenset({"analytics"})}, {"names": frozenset({REPORT})}],
    ids=lambda bound: next(iter(bound)),
)
def test_a_bound_token_is_refused_where_nothing_keeps_it_within_its_bounds(guarded: Api, bound: dict[str, Any]) -> None:
    everything = bearer(guarded, Scope.ADMIN, **bound)

    for path in (
        "/stats",
        "/workers",
        "/queues",
        "/api/workflows",
        "/api/leads",
        "/conversations/c-1",
        "/api/documents",
    ):
        assert guarded.http.get(path, headers=everything).status_code == 403, path
    assert guarded.http.delete("/tasks?older_than=0", headers=everything).status_code == 403
