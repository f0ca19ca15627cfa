"""The routes of leads: storing, repeats, versions, pages, deletion, and an unreachable broker."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.core.settings import ROOT
from app.db.models import CrmRecord, Lead
from app.schemas.conversation import Interaction
from app.schemas.lead import CrmUpdate
from laneway.platform.db.models import TaskRun
from tests.fixtures.api_calls import Api, problem
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform

FORM = {"name": "Ada Lovelace", "email": "ada@example.com", "status": "new", "fields": {"campaign": "spring", "n": 3}}


def post(api: Api, **more: Any) -> Any:
    return api.http.post("/api/leads", json={**FORM, **more})


def put(api: Api, id: str, **more: Any) -> Any:
    return api.http.put(f"/api/leads/{id}", json={**FORM, **more})


def view(api: Api, id: str) -> dict[str, Any]:
    answer = api.http.get(f"/api/leads/{id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_lead_is_stored_and_its_task_queued(api: Api) -> None:
    answer = post(api, lead_id="lead-1")

    assert answer.status_code == 202
    told = answer.json()
    assert (told["lead_id"], told["version"], told["status"]) == ("lead-1", 1, "pending")
    task = api.http.get(f"/tasks/{told['task_id']}").json()
    assert (task["name"], task["queue"], task["key"]) == ("crm_update", "crm", "lead_id:lead-1")
    assert api.queued() == api.count(TaskRun) == 1, "nobody is to be told by e-mail, as no mail server is set"
    shown = view(api, "lead-1")
    assert {name: shown[name] for name in FORM} == FORM
    assert shown["crm"] == {"state": "pending", "id": None, "version": 0, "synced_at": None, "error": None}


def test_a_lead_without_an_id_gets_one(api: Api) -> None:
    first, second = post(api).json(), post(api).json()

    assert first["lead_id"] != second["lead_id"]
    assert view(api, first["lead_id"])["name"] == "Ada Lovelace"


def test_a_repeated_lead_gets_the_same_answer_and_another_lead_is_a_conflict(api: Api) -> None:
    first, again, other = post(api, lead_id="a"), post(api, lead_id="a"), post(api, lead_id="a", name="Grace")

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    problem(other, 409)
    assert api.count(Lead) == api.queued() == 1


def test_many_requests_at_once_with_one_id_store_one_lead(api: Api) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(api, lead_id="a"), range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [202]
    assert api.count(Lead) == api.count(TaskRun) == 1


def test_a_change_is_a_new_version_and_its_repeat_is_not(api: Api) -> None:
    post(api, lead_id="a")
    first, again = put(api, "a", status="won", fields={}), put(api, "a", status="won", fields={})

    assert (first.status_code, first.json()["version"]) == (200, 2)
    assert first.json() == again.json()
    assert (view(api, "a")["status"], view(api, "a")["fields"], view(api, "a")["version"]) == ("won", {}, 2)
    assert api.queued() == 2


def test_fields_that_a_change_leaves_out_are_removed(api: Api) -> None:
    post(api, lead_id="a", phone="1")
    api.http.put("/api/leads/a", json={"name": "Ada"})

    assert (view(api, "a")["phone"], view(api, "a")["fields"]) == (None, {})


def test_a_change_based_on_another_version_is_refused(api: Api) -> None:
    post(api, lead_id="a", fields={"zip": "007", "n": 1.5})

    assert view(api, "a")["fields"] == {"zip": "007", "n": 1.5}
    for wrong in ("1", True, 0, 1.5):
        problem(put(api, "a", version=wrong), 422)
    assert put(api, "a", status="won", version=1.0).json()["version"] == 2
    assert "at version 2" in problem(put(api, "a", status="lost", version=1), 409)["detail"]
    assert view(api, "a")["status"] == "won"


def test_concurrent_changes_become_successive_versions(api: Api) -> None:
    post(api, lead_id="a")
    with ThreadPoolExecutor(6) as pool:
        versions = [answer.json()["version"] for answer in pool.map(lambda n: put(api, "a", status=f"s{n}"), range(6))]

    assert sorted(versions) == [2, 3, 4, 5, 6, 7]
    assert api.count(TaskRun) == 7


def test_a_put_of_an_unknown_id_stores_the_lead_and_its_repeat_changes_nothing(api: Api) -> None:
    first, again, changed = put(api, "new"), put(api, "new"), put(api, "new", status="won")

    assert [answer.status_code for answer in (first, again, changed)] == [201, 200, 200]
    assert [answer.json()["version"] for answer in (first, again, changed)] == [1, 1, 2]
    assert first.json()["task_id"] == again.json()["task_id"] != changed.json()["task_id"]
    assert (view(api, "new")["source"], view(api, "new")["status"]) == ("api", "won")
    assert api.count(TaskRun) == 2
    assert post(api, lead_id="new").status_code == 200, "it was stored with this content first"


def test_many_puts_of_an_unknown_id_at_once_store_one_lead(api: Api) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: put(api, "new"), range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert api.count(Lead) == api.count(TaskRun) == 1


def test_an_unknown_lead_is_not_found(api: Api) -> None:
    for answer in (api.http.get("/api/leads/x"), put(api, "x", version=1), api.http.delete("/api/leads/x")):
        problem(answer, 404)
    assert api.count(Lead, TaskRun) == 0


@ONE_DATABASE
@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "a\x00b"},
        {"name": "a\nb"},
        {"email": "nobody"},
        {"email": "a@b c"},
        {"email": "a@b\r\nBcc: c"},
        {"phone": "1" * 41},
        {"fields": {"": 1}},
        {"fields": {"a.b": 1}},
        {"fields": {"a": 2**53 + 1}},
        {"fields": {"a": -(10**30)}},
        {"fields": {"a": {"b": 1}}},
        {"fields": {"a": "x" * 2001}},
        {"fields": {f"f{n}": n for n in range(51)}},
        {"fields": {"a": "\x00"}},
        {"fields": {"a": "0" * 2001}},
        {"email": "a\x85@b"},
        {"lead_id": "a b"},
        {"lead_id": "x" * 129},
        {"unknown": 1},
        {"message": "x" * 8001},
    ],
)
def test_an_invalid_lead_is_refused_and_stores_nothing(api: Api, wrong: dict[str, Any]) -> None:
    problem(post(api, **wrong), 422)
    assert api.count(Lead, TaskRun) == 0


@ONE_DATABASE
@pytest.mark.parametrize("empty", [{}, {"name": None}, {"fields": {}}])
def test_an_empty_lead_is_refused(api: Api, empty: dict[str, Any]) -> None:
    for answer in (api.http.post("/api/leads", json=empty), api.http.put("/api/leads/a", json=empty)):
        assert "at least one of name, email" in str(problem(answer, 422))
    assert api.count(Lead, TaskRun) == 0


def test_leads_are_listed_in_pages_newest_first_and_by_state_and_source(api: Api, platform: Platform) -> None:
    for number in range(5):
        post(api, lead_id=f"lead-{number}")
    api.services.crm.update(CrmUpdate(lead_id="lead-3"), check_ownership=lambda: None)

    first = api.http.get("/api/leads", params={"limit": 3}).json()
    second = api.http.get("/api/leads", params={"limit": 3, "before": first["next"]}).json()
    assert [lead["lead_id"] for lead in first["leads"] + second["leads"]] == [f"lead-{n}" for n in (4, 3, 2, 1, 0)]
    assert second["next"] is None
    synced = api.http.get("/api/leads", params={"state": "synced"}).json()["leads"]
    assert [lead["lead_id"] for lead in synced] == ["lead-3"]
    assert api.http.get("/api/leads", params={"source": "google"}).json()["leads"] == []


def test_a_deleted_lead_is_gone_with_its_waiting_tasks_and_its_crm_record(api: Api) -> None:
    told = post(api, lead_id="a").json()
    api.services.crm.update(CrmUpdate(lead_id="a"), check_ownership=lambda: None)
    waiting = put(api, "a", status="won").json()["task_id"]
    assert api.count(CrmRecord) == 1

    assert api.http.delete("/api/leads/a").status_code == 204
    problem(api.http.get("/api/leads/a"), 404)
    assert api.count(Lead, CrmRecord) == api.queued() == 0
    assert [api.services.tasks.current(id).state for id in (told["task_id"], waiting)] == ["cancelled"] * 2
    assert post(api, lead_id="a").json()["task_id"] != told["task_id"]


def test_while_the_broker_is_away_leads_are_accepted_and_sent_to_the_crm_later(api: Api, platform: Platform) -> None:
    platform.valkey.kill()
    try:
        first, change = post(api, lead_id="a"), put(api, "a", status="won")
        assert [answer.status_code for answer in (first, change)] == [202, 200]
        assert [answer.json()["status"] for answer in (first, change)] == ["accepted", "accepted"]
        assert view(api, "a")["version"] == 2
        assert api.http.delete("/api/leads/a").status_code == 204
        post(api, lead_id="b")
    finally:
        platform.valkey.start()
    assert api.count(Lead) == 1


def test_a_full_queue_refuses_a_lead_and_stores_nothing(make_api: Any) -> None:
    api = make_api(MAX_QUEUE_SIZE="1")
    post(api, lead_id="a")
    refused, change = post(api, lead_id="b"), put(api, "a", status="won")

    for answer in (refused, change):
        problem(answer, 429)
        assert int(answer.headers["Retry-After"]) > 0
    assert (api.count(Lead), view(api, "a")["version"]) == (1, 1)


def test_the_email_notice_is_queued_with_the_lead(make_api: Any) -> None:
    api = make_api(
        SMTP_HOST="127.0.0.1", MAIL_FROM="a@example.com", CRM_NOTIFY_TO="b@example.com", CRM_NOTIFY_UPDATES="false"
    )
    post(api, lead_id="a")
    put(api, "a", status="won")

    names = [task["name"] for task in api.http.get("/tasks").json()["tasks"]]
    assert sorted(names) == ["crm_notify", "crm_update", "crm_update"]


def test_the_example_lead_is_accepted(api: Api) -> None:
    example = json.loads((ROOT / "examples" / "leads" / "lead.json").read_text())

    assert api.http.post("/api/leads", json=example).status_code == 202


def test_a_lead_form_stores_its_lead_and_queues_its_update_once(api: Api, platform: Platform) -> None:
    form = {
        "conversation_id": "c-1",
        "kind": "lead_form",
        "event_id": "form-1",
        "channel": "google",
        "customer": {"name": "Ada", "email": "ada@example.com"},
    }
    payload = api.http.post("/conversations/webhook-interaction", json=form)
    assert payload.status_code == 202
    for _ in range(2):
        api.services.conversations.process_interaction(
            Interaction.model_validate(form), task_id="t", progress=lambda *_: None
        )

    (lead,) = api.http.get("/api/leads").json()["leads"]
    assert (lead["source"], lead["name"], lead["conversation_id"], lead["version"]) == ("google", "Ada", "c-1", 1)
    assert [task["key"] for task in api.http.get("/tasks", params={"queue": "crm"}).json()["tasks"]] == [
        f"lead_id:{lead['lead_id']}"
    ]
    changed = api.http.put(f"/api/leads/{lead['lead_id']}", json={"name": "Ada L."}).json()
    assert changed["version"] == 2
