"""Workflows over HTTP: start, show, list, signal, cancel and retry, and their refusals."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from laneway.platform.db.models import TaskRun, WorkflowRun, WorkflowStepRun
from tests.fixtures.api_calls import Api, problem

INPUTS: dict[str, Any] = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}


def chat(api: Api, inputs: dict[str, Any] | None = None, **more: Any) -> Any:
    """POST one chat request."""
    body = {
        "agent_id": "agent-7",
        "mode": "execute",
        "context": {"workflow_type": "savings_assessment", "calculator_inputs": inputs or INPUTS},
        **more,
    }
    return api.http.post("/api/chat", json=body)


def test_a_chat_request_is_accepted_at_once_and_can_be_shown(api: Api) -> None:
    response = chat(api)

    assert response.status_code == 202
    accepted = response.json()
    assert accepted == {
        "workflow_id": accepted["workflow_id"],
        "task_id": f"{accepted['workflow_id']}:validate:1",
        "status": "pending",
        "created": True,
    }
    found = api.http.get(f"/api/workflows/{accepted['workflow_id']}").json()
    assert (found["state"], found["workflow_type"], found["agent_id"]) == ("pending", "savings_assessment", "agent-7")
    assert [(step["step"], step["state"]) for step in found["steps"]] == [
        ("validate", "pending"),
        ("calculate", "to_come"),
        ("record_metrics", "to_come"),
        ("summary", "to_come"),
    ]
    assert found["waiting_for"] == ["validate: a worker: none serves the queue 'workflows'"]
    assert found["input"] == INPUTS


@pytest.mark.parametrize("identity", [{"id": "w-1"}, {"idempotency_key": "form 17"}], ids=["id", "idempotency key"])
def test_a_repeated_request_returns_the_same_workflow_and_another_input_is_refused(
    api: Api, identity: dict[str, str]
) -> None:
    first = chat(api, **identity)
    second = chat(api, **identity)

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json() == {**first.json(), "created": False}
    problem(chat(api, {**INPUTS, "hourly_wage": 26}, **identity), 409)
    assert (api.count(WorkflowRun), api.count(TaskRun)) == (1, 1)


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"mode": "dream"}, "mode"),
    ({"mode": None}, "mode"),
    ({"agent_id": ""}, "agent_id"),
    ({"context": {"workflow_type": "brew_coffee"}}, "savings_assessment"),
    ({"context": {"workflow_type": "savings_assessment"}}, "tasks_per_week"),
    ({"context": {"calculator_inputs": INPUTS}}, "workflow_type"),
    ({"context": {"workflow_type": "savings_assessment", "input": {}, "calculator_inputs": INPUTS}}, "exclude"),
    ({"id": "a/b"}, "id"),
    ({"id": "a", "idempotency_key": "b"}, "exclude"),
    ({"surprise": 1}, "surprise"),
]


def test_an_invalid_request_is_refused_with_the_reason(api: Api) -> None:
    for change, said in MISFITS:
        body = {
            "agent_id": "a",
            "mode": "execute",
            "context": {"workflow_type": "savings_assessment", "calculator_inputs": INPUTS},
            **change,
        }
        assert said in problem(api.http.post("/api/chat", json=body), 422)["detail"], change

    for value in (-1, 0, 10**7, "many", None, True, "NaN", "Infinity", [], 0.00001):
        found = problem(chat(api, {**INPUTS, "tasks_per_week": value}), 422)
        assert "tasks_per_week" in found["detail"], value
    raw = '{"workflow_type": "savings_assessment", "input": {"tasks_per_week": NaN}}'
    problem(api.http.post("/api/workflows", content=raw, headers={"Content-Type": "application/json"}), 422)

    assert api.count(WorkflowRun, TaskRun) == 0


def test_workflows_are_listed_newest_first_by_state_and_type_in_pages(api: Api) -> None:
    ids = [chat(api, id=f"w-{number}").json()["workflow_id"] for number in range(5)]
    api.http.post("/api/workflows/w-3/cancel")

    first = api.http.get("/api/workflows", params={"limit": 3}).json()
    rest = api.http.get("/api/workflows", params={"limit": 3, "before": first["next"]}).json()

    assert [run["workflow_id"] for run in (*first["workflows"], *rest["workflows"])] == ids[::-1]
    assert rest["next"] is None
    listed = api.http.get("/api/workflows", params={"state": "cancelled", "type": "savings_assessment"}).json()
    assert [run["workflow_id"] for run in listed["workflows"]] == ["w-3"]
    assert api.http.get("/api/workflows", params={"type": "other"}).json()["workflows"] == []
    problem(api.http.get("/api/workflows", params={"state": "lost"}), 422)


def test_definitions_list_their_steps_and_the_schema_of_their_input(api: Api) -> None:
    found = {one["workflow_type"]: one for one in api.http.get("/api/workflow-definitions").json()["definitions"]}

    savings = found["savings_assessment"]
    assert [step["name"] for step in savings["steps"]] == ["validate", "calculate", "record_metrics", "summary"]
    assert set(savings["input"]["properties"]) == set(INPUTS)


def test_an_unknown_workflow_is_404_and_a_wrong_state_is_409(api: Api) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("POST", "/signals/go")):
        problem(api.http.request(method, f"/api/workflows/nobody{path}"), 404)
    chat(api, id="w-1")

    problem(api.http.post("/api/workflows/w-1/signals/go", json={}), 404)
    assert "goes on" in problem(api.http.post("/api/workflows/w-1/retry"), 409)["detail"]
    problem(api.http.post("/api/workflows/w-1/retry", json={"from": "middle"}), 422)
    problem(api.http.post("/api/workflows/w-1/retry", json={"from": "failed", "id": "w-2"}), 422)
    assert api.http.post("/api/workflows/w-1/cancel").json()["state"] == "cancelled"
    assert api.http.post("/api/workflows/w-1/cancel").json()["state"] == "cancelled"
    assert api.http.get("/tasks/w-1:validate:1").json()["status"] == "cancelled"


def test_a_retry_from_the_start_creates_a_new_workflow(api: Api) -> None:
    chat(api, id="w-1")
    api.http.post("/api/workflows/w-1/cancel")

    response = api.http.post("/api/workflows/w-1/retry", json={"from": "start", "id": "w-2"})

    assert (response.status_code, response.json()["task_id"]) == (202, "w-2:validate:1")
    found = api.http.get("/api/workflows/w-2").json()
    assert (found["retry_of"], found["input"], found["agent_id"]) == ("w-1", INPUTS, "agent-7")
    assert api.http.get("/api/workflows/w-1").json()["state"] == "cancelled"


@pytest.mark.parametrize("start", ["failed", "start"])
def test_a_retry_with_the_newest_definition_is_refused_when_it_does_not_fit(api: Api, start: str) -> None:
    chat(api, id="w-1")
    with api.database.transaction() as session:  # the run began with a definition of another shape
        step = {"name": "gone", "handler": "savings_validate"}
        session.execute(update(WorkflowRun).values(definition={"name": "savings_assessment", "steps": [step]}))
        session.execute(update(WorkflowStepRun).values(step="gone"))
    api.http.post("/api/workflows/w-1/cancel")

    response = api.http.post("/api/workflows/w-1/retry", json={"from": start, "definition": "newest"})

    if start == "failed":
        assert "it has no step 'gone', which ran" in problem(response, 409)["detail"]
    else:
        found = api.http.get(f"/api/workflows/{response.json()['workflow_id']}").json()
        assert found["steps"][0]["step"] == "validate"
    problem(api.http.post("/api/workflows/w-1/retry", json={"definition": "latest"}), 422)
