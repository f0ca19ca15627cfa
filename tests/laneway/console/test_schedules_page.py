"""The console's pages of schedules."""

from __future__ import annotations

from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries import schedules as queries
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer
from tests.laneway.api.test_schedules import keep_code, make

HOSTILE = "<script>alert(1)</script>"


def page(api: Api, path: str = "") -> str:
    """The HTML of a page."""
    answer = api.http.get(f"/console/schedules{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_schedules_are_listed_with_their_state(api: Api) -> None:
    assert "There is no schedule." in page(api)
    make(api)
    make(api, key="second")
    keep_code(api)
    api.http.post("/schedules/second/pause")
    text = page(api)
    assert 'href="/console/schedules/sweep"' in text and "0 3 * * * Europe/Berlin" in text
    assert text.count(">active<") == 2 and text.count('cancelled">paused<') == 1
    assert "No Beat runs, so nothing is sent." in text


def test_one_schedule_has_its_next_and_last_firings_and_buttons(api: Api) -> None:
    make(api)
    assert "It has not fired yet." in page(api, "/sweep")
    id = api.http.post("/schedules/sweep/run").json()["task_id"]
    text = page(api, "/sweep")
    for call in ("POST /schedules/sweep/pause", "POST /schedules/sweep/run", "DELETE /schedules/sweep"):
        assert f'data-call="{call}"' in text
    assert id in text and ">sent<" in text
    assert text.count("<li>") >= 10, "the next ten firings"
    api.http.post("/schedules/sweep/pause")
    text = page(api, "/sweep")
    assert 'data-call="POST /schedules/sweep/resume"' in text and "None: it is paused" in text
    keep_code(api)
    assert "DELETE" not in page(api, "/of-code")
    assert api.http.get("/console/schedules/other").status_code == 404


@ONE_DATABASE
def test_hostile_texts_are_escaped_and_buttons_are_for_those_who_may(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    admin, reader = bearer(api, Scope.ADMIN), bearer(api, Scope.READ)
    body = {"key": "sweep", "task": "cleanup_old_data_task", "cron": "0 3 * * *"}
    assert api.http.post("/schedules", json=body, headers=admin).status_code == 201
    with api.services.database.transaction() as session:
        row = queries.find(session, "sweep", lock=True)
        assert row is not None
        row.problem = row.paused_by = HOSTILE
        row.definition = row.definition | {"task": HOSTILE}
    for path in ("", "/sweep"):
        text = api.http.get(f"/console/schedules{path}", headers=reader).text
        assert HOSTILE not in text and "&lt;script&gt;" in text
    assert "data-call" not in api.http.get("/console/schedules/sweep", headers=reader).text
    assert "data-call" in api.http.get("/console/schedules/sweep", headers=admin).text


def test_a_schedule_is_made_and_changed_by_a_form(api: Api) -> None:
    new = page(api, "/-/new")
    assert 'data-form="POST /schedules"' in new and 'data-preview="POST /schedules/preview"' in new
    assert '<option value="cleanup_old_data_task">' in new and "tell_about_alerts_task" not in new
    assert '<option value="Europe/Berlin">' in new and 'href="/console/schedules/-/new"' in page(api)
    make(api, overlap="replace", start="2026-01-02T00:00:00Z")
    with api.services.database.transaction() as session:
        row = queries.find(session, "sweep", lock=True)
        assert row is not None
        row.definition = row.definition | {"payload": {"note": f"</textarea>{HOSTILE}", "token": "abc"}}
    change = page(api, "/sweep/change")
    assert 'data-form="PUT /schedules/{key}"' in change and 'value="0 3 * * *"' in change
    assert '<option value="replace" selected>' in change and "2026-01-02T00:00:00+00:00" in change
    assert HOSTILE not in change and "abc" not in change, "secrets are masked, texts are escaped"
    assert "An earlier task that has not ended is cancelled." in page(api, "/sweep") and "?beside=true" in page(
        api, "/sweep"
    )
    keep_code(api)
    assert api.http.get("/console/schedules/of-code/change").status_code == 409
    assert api.http.get("/console/schedules/other/change").status_code == 404


@ONE_DATABASE
def test_the_form_is_for_operators(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    reader, operator = bearer(api, Scope.READ), bearer(api, Scope.READ, Scope.SCHEDULES)
    assert api.http.get("/console/schedules/-/new", headers=reader).status_code == 403
    assert "New schedule…" not in api.http.get("/console/schedules", headers=reader).text
    text = api.http.get("/console/schedules/-/new", headers=operator).text
    assert "data-form" in text and "cleanup_old_data_task" not in text, "it may not submit that task"
