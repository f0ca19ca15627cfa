"""`/limits`, and what docs/limits.md shows of it: list, show, set and remove limits that tasks share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from laneway import Limit
from laneway.platform.flow.task_flow import TaskFlow
from laneway.platform.registry import registry
from tests.fixtures.api_calls import Api, problem
from tests.fixtures.registry import register_spec

TASK = "cleanup_old_data_task"


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with a limit."""
    flow = TaskFlow(limits=(Limit("crm-api", rate=10),))
    register_spec(monkeypatch, replace(registry[TASK], flow=flow))


def test_limits_are_listed_with_their_source_and_tasks(api: Api) -> None:
    (listed,) = api.http.get("/limits").json()["limits"]
    assert (listed["name"], listed["rate"], listed["source"], listed["tasks"]) == ("crm-api", 10, "code", [TASK])
    assert api.http.get("/limits/crm-api").json() == listed


def test_a_limit_is_set_and_removed(api: Api) -> None:
    set_ = api.http.put("/limits/crm-api", json={"rate": 5, "per_seconds": 2, "burst": 3})
    assert (set_.status_code, set_.json()["source"], set_.json()["in_force"]) == (200, "operator", True)
    removed = api.http.delete("/limits/crm-api").json()
    assert (removed["rate"], removed["source"]) == (10, "code")


def test_all_runs_of_a_task_have_a_limit_of_that_name(api: Api) -> None:
    set_ = api.http.put(f"/limits/task:{TASK}", json={"max_running": 1})
    assert (set_.status_code, set_.json()["tasks"]) == (200, [TASK])
    assert api.http.delete(f"/limits/task:{TASK}").status_code == 200
    assert [each["name"] for each in api.http.get("/limits").json()["limits"]] == ["crm-api"]


def test_an_unknown_limit_is_404_and_wrong_values_are_422(api: Api) -> None:
    found = problem(api.http.put("/limits/nonsense", json={"rate": 5}), 404)
    assert found["detail"] == "No task uses a limit 'nonsense'; limits: crm-api, and task:NAME for each task."
    for wrong in ({"rate": 0}, {"rate": "5"}, {"burst": 0}, {"per_seconds": 0}, {"max_running": -1}, {"other": 1}):
        problem(api.http.put("/limits/crm-api", json=wrong), 422)


def test_a_submission_names_its_tenant_and_weight_or_a_deadline(api: Api) -> None:
    body = {"name": TASK, "payload": {}}
    sent = api.http.post("/tasks", json=body | {"tenant": "acme", "weight": 3})
    options = api.services.tasks.current(sent.json()["task_id"]).options
    assert options["flow"]["t"] == "acme" and options["flow"]["w"] == 3
    sent = api.http.post("/tasks", json=body | {"deadline": 60.0})
    assert "d" in api.services.tasks.current(sent.json()["task_id"]).options["flow"]
    for wrong in ({"weight": 0}, {"weight": 101}, {"tenant": ""}, {"deadline": 0.0}, {"deadline": "1"}):
        problem(api.http.post("/tasks", json=body | wrong), 422)
