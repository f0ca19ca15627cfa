"""The console's page of the audit log."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import text as sql

from laneway.platform.access.scopes import Scope
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer

BASE = "/console/audit"
HOSTILE = "<script>alert(1)</script>"
LIMITS = "/queues/conversations/limits"


def page(api: Api, **query: Any) -> str:
    """The HTML of the page."""
    answer = api.http.get(BASE, params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def rows(text: str) -> list[str]:
    """The rows of the page, newest first."""
    return re.findall(r"<tr data-row>.*?</tr>", text, re.DOTALL)


def test_an_empty_log_says_what_it_will_list(api: Api) -> None:
    assert "Nothing was changed yet" in page(api)
    assert 'data-copy="laneway audit-log verify"' in page(api)


def test_entries_say_who_did_what_to_which_object(api: Api) -> None:
    api.http.put(LIMITS, json={"rate": 5, "paused": True}, headers={"X-Request-ID": "req-7"})
    id = submit(api)
    api.http.post(f"/tasks/{id}/cancel")
    task, queue = rows(page(api))

    assert f'href="/console/tasks/{id}"' in task and "task.cancel" in task
    assert 'href="/console/tasks?queue=conversations"' in queue
    assert ">anonymous<" in queue and "paused false → true" in queue
    assert 'href="/console/audit?request_id=req-7"' in queue


def test_filters_of_the_address_select_entries(api: Api) -> None:
    api.http.put(LIMITS, json={"rate": 5}, headers={"X-Request-ID": "req-7"})
    api.services.audit_log.record("token.create", ("token", "shop"), after={"scopes": ["admin"]})
    since = "2020-01-01T00:00:00Z"

    for query in (
        {"action": "queue"},
        {"action": "queue.limit", "caller": "anonymous"},
        {"object": "conversations", "caller": "", "since": since, "until": ""},
        {"request_id": "req-7"},
    ):
        found = rows(page(api, **query))
        assert len(found) == 1 and "conversations" in found[0], query
    assert len(rows(page(api, since=since))) == 2
    assert "No entry matches" in page(api, until=since)
    for wrong in ({"actoin": "queue"}, {"since": "5"}, {"action": "x" * 201}, {"before": "-1"}):
        assert api.http.get(BASE, params=wrong).status_code == 422, wrong


def test_older_entries_are_on_further_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laneway.console.pages.audit.PAGE", 2)
    for number in range(3):
        api.services.audit_log.record("token.create", ("token", f"t-{number}"))
    first = page(api, action="token")
    following = re.search(r"action=token&amp;before=(\d+)", first)

    assert following is not None and "t-0" not in first
    assert ["t-0" in row for row in rows(page(api, action="token", before=following[1]))] == [True]


def test_hostile_texts_are_shown_as_texts(api: Api) -> None:
    long = {"said": HOSTILE, "more": "x" * 200, '"><script>': 1}
    api.services.audit_log.record(HOSTILE[:20], ("token", '"><script>'), before={"a": HOSTILE}, after={"a": 1})
    api.services.audit_log.record("token.create", ("task", HOSTILE), after=long)
    pages = [page(api), page(api, object='"><script>', caller=HOSTILE)]

    assert [text for text in pages if HOSTILE in text or '"><script>' in text] == []
    assert "a &lt;script&gt;alert(1)&lt;/script&gt; → 1" in pages[0]
    assert "<details><summary>said &lt;script&gt;" in pages[0]


def test_what_was_erased_is_marked(api: Api) -> None:
    api.services.audit_log.record("person.login", ("person", "ada@example.com"))
    with api.database.transaction() as session:
        session.execute(sql("UPDATE audit_log SET object_id = NULL, before = NULL, after = NULL, salt = NULL"))

    assert "person, erased" in page(api)


@ONE_DATABASE
def test_the_page_is_for_admins(make_api: MakeApi) -> None:
    guarded = make_api(AUTHENTICATION="on")
    status = {
        scope: guarded.http.get(BASE, headers=bearer(guarded, scope)).status_code for scope in (Scope.ADMIN, Scope.READ)
    }
    shown = [f'href="{BASE}"' in guarded.http.get("/console", headers=bearer(guarded, each)).text for each in status]

    assert status == {Scope.ADMIN: 200, Scope.READ: 403}
    assert shown == [True, False]
