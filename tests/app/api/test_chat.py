"""The chat endpoint, with the application's own workflows and real workers."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api, problem
from tests.fixtures.site import Site
from tests.fixtures.waiting import wait_until

INPUTS = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
SAVINGS = "Of 1.6667 hours a week 1.3333 can be saved: 33.33 a week, 144.44 a month, 1733.33 a year."


def follow_up(live: Site, **customer: str) -> dict[str, Any]:
    """Run `customer_followup` to its end; returns the workflow as the API shows it."""
    context = {"workflow_type": "customer_followup", "calculator_inputs": INPUTS, **customer}
    id = live.post("/api/chat", {"agent_id": "agent-7", "mode": "execute", "context": context})["workflow_id"]
    wait_until(lambda: live.get(f"/api/workflows/{id}")["finished_at"], seconds=60)
    return live.get(f"/api/workflows/{id}")


def outputs(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["step"]: step["output"] for step in run["steps"]}


def test_a_follow_up_is_drafted_from_the_conversation_and_scheduled_in_it(live: Site) -> None:
    asked = live.post(
        "/conversations/message", {"conversation_id": "ada", "message": "How long may I return a bicycle?"}
    )
    live.until(asked["task_id"], TaskState.COMPLETED)
    run = follow_up(live, conversation_id="ada")

    assert (run["state"], run["estimated_savings"]["weekly"]) == ("completed", 33.33)
    found = outputs(run)
    assert list(found) == ["validate", "calculate", "draft", "schedule", "record_metrics", "summary"]
    assert found["draft"]["message"].endswith(SAVINGS) and found["draft"]["message"] != SAVINGS
    task = live.get(f"/tasks/{found['schedule']['task_id']}")
    assert (task["name"], task["status"]) == ("continue_conversation_async_task", "scheduled")
    assert task["payload"]["message"] == found["draft"]["message"]
    assert found["summary"]["summary"].startswith(f"{SAVINGS} The follow-up goes out at ")
    live.post(f"/tasks/{task['task_id']}/cancel")


def test_a_follow_up_to_a_lead_answers_its_message_and_says_why_it_is_not_sent(live: Site) -> None:
    live.post("/api/leads", {"lead_id": "grace", "name": "Grace", "message": "How long may I return a bicycle?"})
    run = follow_up(live, lead_id="grace")

    assert run["state"] == "completed"
    message = outputs(run)["draft"]["message"]
    assert message.startswith("Hello Grace,\n\n") and "30 days" in message and message.endswith(SAVINGS)
    assert outputs(run)["schedule"]["scheduled"] is False
    assert "no conversation" in outputs(run)["summary"]["summary"]


def test_a_follow_up_without_a_customer_has_the_savings_alone(live: Site) -> None:
    assert outputs(follow_up(live))["draft"] == {"message": SAVINGS}


@pytest.mark.parametrize("customer", [{"conversation_id": "nobody"}, {"lead_id": "nobody"}])
def test_a_follow_up_to_an_unknown_customer_fails_with_the_reason(live: Site, customer: dict[str, str]) -> None:
    run = follow_up(live, **customer)

    assert run["state"] == "failed"
    assert "nobody" in run["steps"][0]["error"]


def test_a_customer_beside_a_free_input_is_refused(api: Api) -> None:
    context = {"workflow_type": "customer_followup", "input": INPUTS, "lead_id": "a"}
    answer = api.http.post("/api/chat", json={"agent_id": "a", "mode": "execute", "context": context})

    assert "belong to calculator_inputs" in problem(answer, 422)["detail"]
