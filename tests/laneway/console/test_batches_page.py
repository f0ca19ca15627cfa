"""The console's pages of batches."""

from __future__ import annotations

from laneway.platform.access.scopes import Scope
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer
from tests.laneway.api.test_batch_routes import CALLBACK, make

HOSTILE = "<script>alert(1)</script>"


def page(api: Api, path: str = "") -> str:
    """The HTML of a page."""
    answer = api.http.get(f"/console/batches{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_batches_are_listed_with_their_progress(api: Api) -> None:
    assert "There is no batch." in page(api)
    make(api, 2, id="april", description="Invoices of April")
    api.services.tasks.cancel(api.http.get("/tasks").json()["tasks"][0]["task_id"])
    text = page(api)
    assert 'href="/console/batches/april"' in text and "Invoices of April" in text
    assert '<progress max="100" value="50">' in text and ">running<" in text
    make(api, 0, id="empty")
    api.services.tasks.outbox.relay()
    assert "empty" in page(api) and "empty</a>" not in page(api, "?unfinished=true")


def test_one_batch_has_its_callbacks_tasks_and_buttons(api: Api) -> None:
    make(api, 1, id="april", on_complete=CALLBACK, keep_open=True)
    text = page(api, "/april")
    for call in ("POST /batches/april/close", "POST /batches/april/cancel"):
        assert f'data-call="{call}"' in text
    assert CALLBACK["name"] in text and "not yet" in text
    assert 'href="/console/tasks?batch=april"' in text
    (task,) = api.http.get("/tasks").json()["tasks"]
    assert task["task_id"] in api.http.get("/console/tasks?batch=april").text
    assert task["task_id"] not in api.http.get("/console/tasks?batch=other").text
    assert 'href="/console/batches/april"' in api.http.get(f"/console/tasks/{task['task_id']}").text

    api.http.post("/batches/april/cancel")
    api.services.tasks.outbox.relay()
    text = page(api, "/april")
    assert "data-call" not in text and "/console/tasks/batch%3Acomplete%3Aapril" in text
    assert api.http.get("/console/batches/other").status_code == 404


@ONE_DATABASE
def test_hostile_texts_are_escaped_and_buttons_are_for_those_who_may(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    admin, reader = bearer(api, Scope.ADMIN), bearer(api, Scope.READ)
    body = {"id": "april", "description": HOSTILE, "keep_open": True}
    assert api.http.post("/batches", json=body, headers=admin).status_code == 201
    for path in ("", "/april"):
        text = api.http.get(f"/console/batches{path}", headers=reader).text
        assert HOSTILE not in text and "&lt;script&gt;" in text
        assert "data-call" not in text
