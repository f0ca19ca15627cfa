"""What only the platform itself submits is refused from outside, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from sqlalchemy import func, select

from laneway.platform.access.errors import InternalTask, ReservedId
from laneway.platform.db.models import TaskRun
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.outside import outside_submission
from laneway.schemas.history import TaskRequest
from tests.fixtures.api_calls import Api, google_lead

REPORT = "generate_performance_report_task"
INTERNAL: dict[str, Any] = {
    "settle_workflow_step_task": {"task_id": "x", "run": 1},
    "run_workflow_step_task": {"run_id": "w", "step": "a", "visit": 1},
    "stop_workflow_task": {"run_id": "w"},
    "process_facebook_webhook_task": {"delivery_id": "facebook:1"},
    "process_google_webhook_task": {"delivery_id": "google:1"},
    "process_generic_webhook_task": {"delivery_id": "shop:1"},
    "send_alert_mail_task": {"alerts": []},
    "crm_update_ended": {"task_id": "x", "run": 1},
    "document_failed_task": {"task_id": "x", "run": 1},
}


def rows(api: Api) -> int:
    """The number of tasks in the database."""
    with api.database.reading() as session:
        return session.scalar(select(func.count()).select_from(TaskRun)) or 0


def test_internal_tasks_are_refused_from_outside(api: Api) -> None:
    for name, payload in INTERNAL.items():
        assert name in registry
        body: dict[str, Any] = {"name": name, "payload": payload}
        one = api.http.post("/tasks", json=body)
        batch = api.http.post("/tasks/batch", json={"tasks": [{"name": REPORT}, body]})
        assert (one.status_code, one.json()["type"]) == (403, "urn:laneway:problem:internal-task"), name
        assert batch.status_code == 403
    assert rows(api) == 0
    offered = {each["name"] for each in api.http.get("/task-names").json()["names"]}
    assert offered.isdisjoint(INTERNAL)
    assert REPORT in offered


def test_events_of_the_platform_are_refused_from_outside(api: Api) -> None:
    payload = {"url": "https://receiver.example/", "event": "Message.Created", "data": {}}
    body: dict[str, Any] = {"name": "send_webhook_response_task", "payload": payload}
    refused = api.http.post("/tasks", json=body)
    batch = api.http.post("/tasks/batch", json={"tasks": [{"name": REPORT}, body]})
    assert (refused.status_code, refused.json()["title"], batch.status_code) == (422, "Reserved event", 422)
    assert rows(api) == 0


def test_ids_of_the_platform_are_refused_from_outside(api: Api) -> None:
    for id in ("google:0a1b", "message:5f0c", "ended:1", "event:1", "crm_update:u:1", "tenant:acme:1", "run-1:build:1"):
        refused = api.http.post("/tasks", json={"name": REPORT, "payload": {}, "id": id})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:laneway:problem:reserved-id"), id
    assert rows(api) == 0
    assert api.http.post("/tasks", json={"name": REPORT, "payload": {}, "id": "order.17"}).status_code == 202


def test_a_signed_delivery_is_accepted_although_somebody_wanted_its_id(api: Api) -> None:
    raw = json.dumps(google_lead("l-1")).encode()
    id = f"google:{hashlib.sha256(raw).hexdigest()[:40]}"

    taken = api.http.post("/tasks", json={"name": REPORT, "payload": {}, "id": id})
    delivered = api.http.post("/webhooks/google", content=raw, headers={"Content-Type": "application/json"})

    assert taken.status_code == 422
    assert (delivered.status_code, delivered.json()["task_id"]) == (200, id)
    assert api.services.tasks.current(id).name == "process_google_webhook_task"


def test_code_of_the_application_submits_what_it_wants(api: Api) -> None:
    options = SubmitOptions(id="google:1")
    handle = api.services.tasks.submit("process_google_webhook_task", {"delivery_id": "google:1"}, options=options)

    assert handle.created


def test_the_command_line_refuses_the_same() -> None:
    for request, error in (
        ({"name": "crm_update_ended", "payload": {"task_id": "x", "run": 1}}, InternalTask),
        ({"name": REPORT, "id": "message:1"}, ReservedId),
    ):
        with pytest.raises(error):
            outside_submission(TaskRequest.model_validate(request))
