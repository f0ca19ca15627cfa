"""Each route that changes something for operators writes an entry into the audit log; the others are named here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import insert

from app.db.models import WebhookDelivery, WebhookEvent
from app.schemas.webhook_choices import EventState
from app.services.container import Services
from laneway.api.access import guarded_routes
from laneway.platform import clock
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.alerts.receivers import Receivers
from laneway.platform.batches.batches import NewBatch
from laneway.platform.db.models import OutboundDelivery, OutboundEndpoint
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.settings import AlertSettings
from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.runs import StartOptions
from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api, change, say

ACCEPTS = "it accepts work; the row of the task or of the lead says what, and the log of the API says who"
SIGNED = "a sender that signs calls it; the delivery is stored with its body"
EXCEPTIONS = {
    "POST /tasks": ACCEPTS,
    "POST /tasks/batch": ACCEPTS,
    "POST /batches": ACCEPTS,
    "POST /batches/{batch_id}/tasks": ACCEPTS,
    "POST /conversations/message": ACCEPTS,
    "POST /conversations/webhook-interaction": ACCEPTS,
    "POST /analytics/reports": ACCEPTS,
    "POST /api/documents/process": ACCEPTS,
    "POST /api/leads": ACCEPTS,
    "PUT /api/leads/{lead_id}": ACCEPTS,
    "POST /api/chat": ACCEPTS,
    "POST /api/workflows": ACCEPTS,
    "POST /webhooks/facebook": SIGNED,
    "POST /webhooks/google": SIGNED,
    "POST /webhooks/{source}": SIGNED,
    "POST /schedules/preview": "it stores nothing",
}
"""Route → why it writes no entry."""
ELSEWHERE = {"POST /logout", "POST /tokens", "POST /tokens/{name}/rotate"}
"""They need authentication: test_login and test_tokens look for their entries."""
Prepare = Callable[[Api], dict[str, Any]]
"""Makes what the route changes; returns the values of the path, and `json` or `params`."""
AUDITED: dict[str, tuple[str, Prepare]] = {}
"""Route → the action of its entry, and how to prepare it."""


def audited(route: str, action: str) -> Callable[[Prepare], Prepare]:
    """Declare how a route is called, and which entry is expected."""

    def declare(prepare: Prepare) -> Prepare:
        AUDITED[route] = action, prepare
        return prepare

    return declare


def ended(api: Api, state: TaskState, **values: Any) -> str:
    """A task that has ended in this state."""
    id = say(api, "conv-1")
    api.services.broker.remove_message("conversations", id)
    api.services.recorder.catch_up()
    change(api, id, state=state, finished_at=clock.now(), **values)
    return id


@audited("POST /tasks/{task_id}/cancel", "task.cancel")
@audited("DELETE /tasks/{task_id}", "task.delete")
@audited("POST /conversations/tasks/{task_id}/cancel", "task.cancel")
def waiting_task(api: Api) -> dict[str, Any]:
    return {"task_id": say(api, "conv-1")}


@audited("POST /batches/{batch_id}/close", "batch.close")
@audited("POST /batches/{batch_id}/cancel", "batch.cancel")
def open_batch(api: Api) -> dict[str, Any]:
    return {"batch_id": api.services.batches.create(NewBatch(is_open=True)).batch_id}


@audited("POST /tasks/{task_id}/signals/{name}", "task.signal")
def signalled_task(api: Api) -> dict[str, Any]:
    return {**waiting_task(api), "name": "approve", "json": {"data": {"by": "Ada"}}}


@audited("POST /tasks/cancel", "task.cancel")
def waiting_tasks(api: Api) -> dict[str, Any]:
    return {"json": {"ids": [say(api, "conv-1")]}}


@audited("POST /tasks/reprioritise", "task.reprioritise")
def tasks_and_priority(api: Api) -> dict[str, Any]:
    return {"json": {"ids": [say(api, "conv-1")], "priority": "low"}}


@audited("POST /bulk-actions/{action}/undo", "task.undo_cancel")
def cancelled_tasks(api: Api) -> dict[str, Any]:
    cancelled = api.http.post("/tasks/cancel", json={"ids": [say(api, "conv-1")]}).json()
    return {"action": cancelled["action"]}


@audited("POST /tasks/replay", "task.replay")
@audited("POST /tasks/retry", "task.retry")
def failed_tasks(api: Api) -> dict[str, Any]:
    return {"json": {"ids": [ended(api, TaskState.FAILED)]}}


@audited("POST /tasks/{task_id}/retry", "task.retry")
def failed_task(api: Api) -> dict[str, Any]:
    return {"task_id": ended(api, TaskState.FAILED)}


@audited("DELETE /tasks", "history.clear")
def completed_task(api: Api) -> dict[str, Any]:
    ended(api, TaskState.COMPLETED)
    return {"params": {"older_than": "0"}}


@audited("POST /dead-letters/requeue", "dead_letter.requeue")
@audited("POST /dead-letters/discard", "dead_letter.discard")
def dead_letter(api: Api) -> dict[str, Any]:
    return {"json": {"ids": [ended(api, TaskState.DEAD_LETTER, error="no", error_type="ValueError")]}}


@audited("POST /dead-letters/restore", "dead_letter.restore")
def discarded(api: Api) -> dict[str, Any]:
    selected = dead_letter(api)
    api.http.post("/dead-letters/discard", json=selected["json"])
    return selected


@audited("POST /queues/flush", "queue.flush")
@audited("POST /queues/take-in", "queue.take_in")
def queue_name(_api: Api) -> dict[str, Any]:
    return {"json": {"queue": "conversations"}}


@audited("POST /cleanup", "history.cleanup")
@audited("POST /audit/repair", "history.repair")
def everything(_api: Api) -> dict[str, Any]:
    return {"json": {}}


@audited("PUT /queues/{queue}/limits", "queue.pause")
def queue(_api: Api) -> dict[str, Any]:
    return {"queue": "conversations", "json": {"paused": True}}


@audited("POST /api/workflows/{workflow_id}/pause", "workflow.pause")
@audited("POST /api/workflows/{workflow_id}/cancel", "workflow.cancel")
def run(api: Api) -> dict[str, Any]:
    figures = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}
    begun = api.http.post("/api/workflows", json={"workflow_type": "savings_assessment", "input": figures})
    return {"workflow_id": begun.json()["workflow_id"]}


@audited("POST /api/workflows/{workflow_id}/resume", "workflow.resume")
def paused_run(api: Api) -> dict[str, Any]:
    begun = run(api)
    api.http.post(f"/api/workflows/{begun['workflow_id']}/pause")
    return begun


@audited("POST /api/workflows/{workflow_id}/retry", "workflow.retry")
def cancelled_run(api: Api) -> dict[str, Any]:
    begun = run(api)
    api.http.post(f"/api/workflows/{begun['workflow_id']}/cancel")
    return begun


@audited("POST /api/workflows/{workflow_id}/signals/{name}", "workflow.signal")
def waiting_run(api: Api) -> dict[str, Any]:
    steps = [{"name": "approve", "kind": "signal", "timeout": 60}]
    plan = checked_plan(parsed_definition("wait", {"name": "wait", "steps": steps}), handlers={}, inputs={})
    begun = api.services.workflows.start_plan(plan, {}, options=StartOptions())
    return {"workflow_id": begun.workflow_id, "name": "approve", "json": {"data": {}}}


@audited("POST /api/callbacks/destinations", "destination.register")
def new_destination(_api: Api) -> dict[str, Any]:
    return {"json": {"name": "shop", "url": "https://shop.example/"}}


@audited("POST /api/callbacks/destinations/{name}/rotate", "destination.rotate")
@audited("DELETE /api/callbacks/destinations/{name}", "destination.remove")
def destination(api: Api) -> dict[str, Any]:
    api.services.destinations.register("shop", "https://shop.example/")
    return {"name": "shop", "json": {}}


@audited("PUT /api/callbacks/destinations/{name}/events", "destination.subscribe")
@audited("DELETE /api/callbacks/destinations/{name}/events", "destination.unsubscribe")
def subscribed_destination(api: Api) -> dict[str, Any]:
    return {**destination(api), "json": {"kinds": ["end"]}}


@audited("POST /api/callbacks/destinations/reencrypt", "destination.reencrypt")
def no_destination(_api: Api) -> dict[str, Any]:
    return {}


@audited("PUT /limits/{name}", "limit.set")
def task_limit(_api: Api) -> dict[str, Any]:
    return {"name": "task:cleanup_old_data_task", "json": {"max_running": 2}}


@audited("DELETE /limits/{name}", "limit.remove")
def set_limit(api: Api) -> dict[str, Any]:
    assert api.http.put("/limits/task:cleanup_old_data_task", json={"rate": 5}).status_code == 200
    return {"name": "task:cleanup_old_data_task"}


SWEEP = {"task": "cleanup_old_data_task", "cron": "0 3 * * *"}


@audited("POST /schedules", "schedule.create")
def new_schedule(_api: Api) -> dict[str, Any]:
    return {"json": {"key": "sweep", **SWEEP}}


@audited("PUT /schedules/{key}", "schedule.change")
@audited("DELETE /schedules/{key}", "schedule.delete")
@audited("POST /schedules/{key}/pause", "schedule.pause")
@audited("POST /schedules/{key}/run", "schedule.run")
def schedule(api: Api) -> dict[str, Any]:
    assert api.http.post("/schedules", json={"key": "sweep", **SWEEP}).status_code == 201
    return {"key": "sweep", "json": SWEEP}


@audited("POST /schedules/{key}/resume", "schedule.resume")
def paused_schedule(api: Api) -> dict[str, Any]:
    made = schedule(api)
    assert api.http.post("/schedules/sweep/pause").status_code == 200
    return made


@audited("POST /sessions/end", "person.end_sessions")
def sessions(_api: Api) -> dict[str, Any]:
    return {"json": {"person": "ada@example.com"}}


@audited("POST /tokens/{name}/revoke", "token.revoke")
def token(api: Api) -> dict[str, Any]:
    api.services.tokens.create("shop", TokenRights(scopes=frozenset({"leads"})), expires=None)
    return {"name": "shop"}


def stored_event(services: Services) -> int:
    """The number of an event without a task."""
    with services.database.transaction() as session:
        delivery = {"id": "d-1", "source": "shop", "body": {"id": "evt-1"}, "state": "processed"}
        session.execute(insert(WebhookDelivery).values(received_at=clock.now(), **delivery))
        event = {"source": "shop", "event_id": "evt-1", "name": "x", "kind": "x", "delivery_id": "d-1"}
        more = {"data": {}, "problems": [], "state": EventState.UNHANDLED, "created_at": clock.now()}
        return session.execute(insert(WebhookEvent).values(**event, **more)).inserted_primary_key[0]


@audited("POST /webhooks/events/{id}/replay", "webhook_event.replay")
@audited("POST /webhooks/events/{id}/discard", "webhook_event.discard")
@audited("POST /webhooks/events/replay", "webhook_event.replay")
@audited("POST /webhooks/events/discard", "webhook_event.discard")
def event(api: Api) -> dict[str, Any]:
    return {"id": stored_event(api.services), "json": {"states": ["unhandled"]}}


@audited("DELETE /api/leads/{lead_id}", "lead.delete")
def lead(api: Api) -> dict[str, Any]:
    made = api.http.post("/api/leads", json={"lead_id": "lead-1", "name": "Ada", "email": "ada@example.com"})
    assert made.status_code == 202, made.text
    return {"lead_id": "lead-1"}


DOCUMENT = {"document_id": "doc-1", "user_id": "u-1", "file_name": "a.pdf", "r2_key": "in/a.pdf", "file_size": 1}


def document_task(api: Api) -> str:
    """The task of a document."""
    made = api.http.post("/api/documents/process", json={**DOCUMENT, "content_type": "application/pdf"})
    assert made.status_code == 202, made.text
    return made.json()["task_id"]


@audited("DELETE /api/documents/{document_id}", "document.delete")
def document(api: Api) -> dict[str, Any]:
    document_task(api)
    return {"document_id": "doc-1"}


@audited("POST /api/documents/task/{task_id}/retry", "task.retry")
def cancelled_document(api: Api) -> dict[str, Any]:
    id = document_task(api)
    api.services.tasks.cancel(id)
    return {"task_id": id}


def receiver(api: Api) -> dict[str, Any]:
    """A receiver, and a delivery to it that has failed for good."""
    with api.database.transaction() as session:
        at = {"seen_at": clock.now(), "created_at": clock.now()}
        session.execute(insert(OutboundEndpoint).values(id="e-1", url="https://shop.example/", state="enabled", **at))
        sent = {"id": "sent-1", "endpoint_id": "e-1", "url": "https://shop.example/", "event": "x", "body": BODY}
        times = dict.fromkeys(("occurred_at", "created_at", "touched_at"), clock.now())
        more = {"attempts": 1, "put_off": 0, "state": TaskState.FAILED}
        session.execute(insert(OutboundDelivery).values(**sent, **times, **more))
    return {"endpoint_id": "e-1", "delivery_id": "sent-1", "json": {"endpoint": "e-1"}}


BODY = '{"type": "x", "timestamp": "2026-01-01T00:00:00Z", "data": {}}'
for path, verb in (("endpoints/{endpoint_id}/enable", "enable"), ("endpoints/{endpoint_id}/disable", "disable")):
    audited(f"POST /api/callbacks/{path}", f"receiver.{verb}")(receiver)
audited("POST /api/callbacks/deliveries/{delivery_id}/replay", "delivery.replay")(receiver)
audited("POST /api/callbacks/replay", "delivery.replay")(receiver)


@audited("POST /alerts/test", "alerts.test")
def refusing_receiver(api: Api) -> dict[str, Any]:
    settings = AlertSettings(receivers={"nobody": SecretStr("json://127.0.0.1:1")})
    api.services.receivers = Receivers(api.database, settings)
    return {}


def writing_routes(app: Any) -> set[str]:
    """Every route that is not a read."""
    return {
        f"{method} {route.path_format}"
        for route in guarded_routes(app)
        for method in route.methods - {"GET", "HEAD", "OPTIONS"}
    }


def test_every_writing_route_has_an_entry_or_a_reason(api: Api) -> None:
    known = {*AUDITED, *EXCEPTIONS, *ELSEWHERE}

    assert writing_routes(api.http.app) - known == set()
    assert known - writing_routes(api.http.app) == set()


@pytest.mark.parametrize("route", AUDITED)
def test_the_route_writes_its_entry(route: str, api: Api) -> None:
    action, prepare = AUDITED[route]
    values = prepare(api)
    method, path = route.split(" ")
    before = {entry.seq for entry in api.services.audit_log.page(AuditLogFilter(), limit=100).entries}
    sent = {"params": values.get("params")} if method == "DELETE" else {"json": values.get("json")}

    answer = api.http.request(method, path.format_map(values), headers={"X-Request-ID": "r-1"}, **sent)

    assert answer.status_code < 300, answer.text
    found = api.services.audit_log.page(AuditLogFilter(request_id="r-1"), limit=100).entries
    assert action in {entry.action for entry in found if entry.seq not in before}


def test_a_retry_from_the_start_names_the_run_that_it_repeats(api: Api) -> None:
    begun = run(api)["workflow_id"]
    answer = api.http.post(f"/api/workflows/{begun}/retry", json={"from": "start", "id": "w-2"})

    assert answer.status_code == 202, answer.text
    (entry,) = api.services.audit_log.page(AuditLogFilter(action="workflow")).entries
    assert (entry.action, entry.object_id, entry.after) == ("workflow.restart", begun, {"workflow": "w-2"})
