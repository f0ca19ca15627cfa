"""The pages of leads: the list, and one lead with its state in the CRM and its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import update

from app.api.scopes import CONVERSATIONS, LEADS
from app.db.models import Lead
from laneway.platform.access.scopes import Scope
from tests.fixtures.api_calls import Api, refused
from tests.fixtures.console_pages import ESCAPED, HOSTILE, Page
from tests.fixtures.emptied import ONE_DATABASE

LIST = "/console/leads"
pytestmark = ONE_DATABASE


def store(api: Api, id: str, **content: Any) -> str:
    """Store a lead; returns the task that sends it to the CRM."""
    answer = api.http.post("/api/leads", json={"lead_id": id, **content})
    assert answer.status_code == 202, answer.text
    return answer.json()["task_id"]


def change(api: Api, **values: Any) -> None:
    """Change all leads."""
    with api.database.transaction() as session:
        session.execute(update(Lead).values(**values))


def test_the_empty_list_says_how_a_lead_comes(page: Page) -> None:
    assert "One is stored by POST /api/leads, or when a person fills in a lead form" in page(LIST)


def test_the_list_shows_who_it_is_and_whether_the_crm_has_it(api: Api, page: Page) -> None:
    store(api, "lead-1", name="Ada Lovelace", email="ada@example.com", company="Engines")
    store(api, "lead-2", email="bob@example.com")
    html = page(LIST)

    assert html.index(">bob@example.com</a>") < html.index(">Ada Lovelace</a>"), "the newest one comes first"
    assert "ada@example.com" in html and "Engines" in html
    assert html.count(">pending</span>") == 2
    assert "lead-1" in page(f"{LIST}?state=pending&source=api")
    assert "No lead matches." in page(f"{LIST}?state=synced")
    assert "No lead matches." in page(f"{LIST}?source=google")
    refused(api, f"{LIST}?state=odd", 422)
    refused(api, f"{LIST}?odd=1", 422)


def test_a_lead_shows_its_content_its_record_and_its_tasks(api: Api, page: Page) -> None:
    task = store(
        api, "lead-1", name="Ada", message="Please call me.", fields={"campaign": "spring", "password": "pw-1"}
    )
    change(api, conversation_id="conv-1", crm_state="synced", crm_version=1, crm_id="record-9")
    html = page(f"{LIST}/lead-1")

    assert "Please call me." in html and "spring" in html and "record-9" in html
    assert "pw-1" not in html
    assert html.count(f'href="/console/tasks/{task.replace(":", "%3A")}"') == 2
    assert 'href="/console/conversations/conv-1"' in html
    assert "Send to the CRM again" not in html
    assert "No lead &#39;lead-2&#39; is known here." in api.http.get(f"{LIST}/lead-2").text


def test_a_lead_that_the_crm_refused_is_sent_again_through_the_api(api: Api, page: Page) -> None:
    task = store(api, "lead-1", name="Ada")
    assert api.http.post(f"/tasks/{task}/cancel").status_code == 200
    change(api, crm_state="failed", crm_error="The CRM says: token=hunter2 is wrong")
    html = page(f"{LIST}/lead-1")

    assert "The CRM does not have it: The CRM says:" in html
    assert f'data-call="POST /tasks/{task.replace(":", "%3A")}/retry"' in html
    assert api.http.post(f"/tasks/{task}/retry").status_code == 202
    assert 'data-call="DELETE /api/leads/lead-1"' in html
    assert api.http.delete("/api/leads/lead-1").status_code == 204


def test_what_people_write_is_shown_as_text(api: Api, page: Page) -> None:
    store(api, "lead-1", name=HOSTILE, company=HOSTILE, status=HOSTILE[:40], message=HOSTILE, fields={"a": HOSTILE})
    change(api, crm_error=HOSTILE)
    html = page(f"{LIST}/lead-1")

    assert HOSTILE not in html + page(LIST)
    assert html.count(ESCAPED) >= 5


def test_an_id_leads_to_its_lead(api: Api) -> None:
    there = api.http.get(LIST, params={"id": " lead 1 "}, follow_redirects=False)

    assert (there.status_code, there.headers["location"]) == (303, "/console/leads/lead%201")


def test_only_who_may_read_tasks_and_conversations_is_led_to_them(
    bearer: tuple[Api, Callable[..., dict[str, str]]],
) -> None:
    api, headers = bearer
    answer = api.http.post("/api/leads", json={"lead_id": "lead-1", "name": "Ada"}, headers=headers(LEADS))
    task = answer.json()["task_id"]
    change(api, conversation_id="conv-1", crm_state="failed")

    def read(*scopes: str) -> str:
        return api.http.get(f"{LIST}/lead-1", headers=headers(*scopes)).text.split("<main")[1]

    alone, more = read(LEADS), read(LEADS, CONVERSATIONS, Scope.READ, Scope.OPERATE)
    assert task in alone and "conv-1" in alone
    assert "/console/tasks" not in alone and "/console/conversations" not in alone and "/retry" not in alone
    assert "/console/tasks" in more and "/console/conversations" in more and "/retry" in more
