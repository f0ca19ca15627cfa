"""What became of the events of webhooks: lists, figures, replay and the mapping over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, facebook, problem, signed
from tests.fixtures.site import Site

RULE = """
rules:
  - name: orders
    event: order.paid
    task: process_conversation_message_task
    payload: {conversation_id: 'shop:${body.customer.id}', message: 'Order ${body.order}'}
"""


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text(RULE)
    return path


@pytest.fixture
def api(make_api: MakeApi, mapping: Path) -> Api:
    """The application with a mapping of its own."""
    return make_api(WEBHOOK_MAPPING=str(mapping))


def deliver(api: Api, body: Any) -> dict[str, Any]:
    """Send a signed body, and process it as a worker does."""
    raw = json.dumps(body).encode()
    answer = api.http.post("/webhooks/shop", content=raw, headers=signed(raw))
    assert answer.status_code == 200, answer.text
    return api.services.webhook_events.process(answer.json()["delivery_id"])


def listed(api: Api, **query: Any) -> list[dict[str, Any]]:
    answer = api.http.get("/webhooks/events", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["events"]


def test_events_are_listed_by_state_counted_and_shown(api: Api) -> None:
    deliver(api, {"id": "e1", "type": "order.paid", "order": "A-1", "customer": {"id": "7"}})
    deliver(api, {"id": "e2", "type": "order.paid", "order": "A-2", "customer": "Ada"})
    deliver(api, {"id": "e3", "type": "stock.low"})

    assert [event["state"] for event in listed(api)] == ["unhandled", "quarantined", "handled"]
    (quarantined,) = listed(api, state="quarantined", source="shop", name="order.paid", rule="orders")
    assert "the event has no body.customer.id" in quarantined["reason"]
    assert quarantined["problems"][0].startswith("customer: ")
    details = api.http.get(f"/webhooks/events/{quarantined['id']}").json()
    assert details["body"]["order"] == "A-2"
    figures = api.http.get("/webhooks/statistics").json()
    assert figures["events"] == {"handled": 1, "unhandled": 1, "quarantined": 1, "discarded": 0, "test": 0}
    assert figures["deliveries"] == {"queued": 0, "processed": 3}
    assert {"source": "shop", "name": "stock.low", "state": "unhandled", "count": 1} in figures["by_name"]
    handled = listed(api, state="handled")[0]["task_id"]
    assert api.services.tasks.status(handled).name == "process_conversation_message_task"


def test_a_quarantined_event_is_replayed_once_after_the_mapping_is_mended(api: Api, mapping: Path) -> None:
    deliver(api, {"id": "e2", "type": "order.paid", "number": "A-2", "customer": {"id": "7"}})
    (event,) = listed(api, state="quarantined")
    mapping.write_text(RULE.replace("body.order", "body.number"))

    answers = [api.http.post(f"/webhooks/events/{event['id']}/replay").json() for _ in range(2)]

    assert [answer["states"] for answer in answers] == [{"handled": 1}] * 2
    assert answers[0]["events"][0]["task_id"] == answers[1]["events"][0]["task_id"]
    assert api.http.post("/webhooks/events/replay", json={}).json()["matched"] == 0


def test_many_events_are_replayed_by_a_selection(api: Api, mapping: Path) -> None:
    deliver(api, [{"id": number, "type": "order.sent", "order": "A", "customer": {"id": 7}} for number in range(3)])
    mapping.write_text(RULE.replace("order.paid", "order.*"))

    first = api.http.post("/webhooks/events/replay", json={"states": ["unhandled"], "limit": 2}).json()
    rest = api.http.post("/webhooks/events/replay", json={"after": first["next"]}).json()

    assert (first["matched"], first["states"], rest["states"], rest["next"]) == (
        3,
        {"handled": 2},
        {"handled": 1},
        None,
    )


def test_events_are_discarded(api: Api) -> None:
    deliver(api, [{"id": number, "type": "stock.low"} for number in range(3)])
    first = listed(api)[0]

    one = api.http.post(f"/webhooks/events/{first['id']}/discard").json()
    rest = api.http.post("/webhooks/events/discard", json={"name": "stock.low"}).json()

    assert (one["states"], rest["states"]) == ({"discarded": 1}, {"discarded": 2})
    assert listed(api, state=["unhandled", "quarantined"]) == []


def test_the_mapping_in_force_is_shown_with_the_problem_of_its_file(api: Api, mapping: Path) -> None:
    shown = api.http.get("/webhooks/mapping").json()
    assert (shown["valid"], shown["in_force"], shown["rules"][0]["task"]) == (
        True,
        True,
        "process_conversation_message_task",
    )

    mapping.write_text(RULE.replace("task: process", "tsk: process"))
    broken = api.http.get("/webhooks/mapping").json()

    assert (broken["valid"], broken["rules"]) == (False, shown["rules"])
    assert "line 5, rules.0.tsk" in broken["problem"]
    assert api.http.get("/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/webhooks/events/99", "/webhooks/events/99/replay", "/webhooks/events/99/discard"])
def test_an_unknown_event_is_told(api: Api, path: str) -> None:
    answer = api.http.post(path) if not path.endswith("99") else api.http.get(path)

    assert "webhook event" in problem(answer, 404)["detail"]


def test_a_misspelt_filter_or_state_is_refused(api: Api) -> None:
    problem(api.http.get("/webhooks/events?stat=unhandled"), 422)
    problem(api.http.get("/webhooks/events?state=lost"), 422)
    problem(api.http.post("/webhooks/events/replay", json={"states": ["lost"]}), 422)


def test_a_paid_order_without_a_text_leads_to_a_message_to_its_customer(live: Site) -> None:
    body = json.dumps({"id": "paid-1", "type": "order.paid", "order": "A-1", "customer": {"id": "c-paid"}}).encode()
    answer = live.http.post("/webhooks/shop", content=body, headers=signed(body))
    result = live.until(answer.json()["task_id"]).result or {}
    (task,) = result["tasks"]

    assert live.until(task).state == TaskState.COMPLETED
    (turn,) = live.turns("shop:customer:c-paid")
    assert (turn.role, turn.text) == ("assistant", "Thank you! We have received your payment.")


def test_odd_payloads_end_completed_and_nothing_fails(live: Site) -> None:
    edit = {"object": "page", "entry": [{"id": "1", "messaging": [{"message_edit": {"mid": "m", "text": "x"}}]}]}
    comment = {"object": "page", "entry": [{"id": "1", "changes": [{"field": "feed", "value": {"item": "comment"}}]}]}
    odd: list[tuple[str, Any]] = [
        ("facebook", edit),
        ("facebook", comment),
        ("facebook", {"object": "user"}),
        ("shop", [{"id": "odd-1", "event": None, "customer": "Ada", "is_test": [], "created_at": "soon"}, None]),
        ("shop", {"id": "odd-2", "text": "How do I return a bicycle?", "occurred_at": "2026-01-01 10:00:05 UTC"}),
    ]
    tasks: list[str] = []
    for source, content in odd:
        body = json.dumps(content).encode()
        headers = facebook(body) if source == "facebook" else signed(body)
        tasks.append(live.http.post(f"/webhooks/{source}", content=body, headers=headers).json()["task_id"])
    rows = [live.until(task) for task in tasks]

    assert [row.state for row in rows] == [TaskState.COMPLETED] * len(odd)
    results = [row.result or {} for row in rows]
    assert [len(result["tasks"]) for result in results] == [0, 0, 0, 0, 1]
    assert [(result["unhandled"], result["quarantined"]) for result in results] == [
        (1, 0),
        (1, 0),
        (0, 1),
        (1, 1),
        (0, 0),
    ]
