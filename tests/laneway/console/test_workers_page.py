"""The console's page of workers."""

from __future__ import annotations

import re

from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries import workers
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.laneway.api.test_access import bearer
from tests.laneway.api.test_workers import report

HOSTILE = "<script>alert(1)</script>"


def page(api: Api) -> str:
    """The HTML of the page."""
    answer = api.http.get("/console/workers")
    assert answer.status_code == 200, answer.text
    return answer.text


def row_of(text: str, worker: str) -> str:
    """The row of a worker."""
    (found,) = [row for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL) if f">{worker}</th>" in row]
    return found


def test_workers_are_shown_with_what_they_serve_and_run(api: Api, platform: Platform) -> None:
    assert "No worker has reported yet" in page(api)
    id = submit(api)
    platform.start("analytics", worker="w@here")
    report(api, "w@here", id="new")
    text = page(api)
    row = row_of(text, "w@here")

    assert [
        part for part in ("host-1", "1.2.3", "analytics, crm", ">alive<", ">312 MiB<", ">12<") if part not in row
    ] == []
    assert f'href="/console/tasks/{id}"' in row
    assert row.count("data-ago") == 2, "its start and its last report"
    assert re.search(
        r"No live worker serves [^.]*webhooks[^.]*\. Start one: <code>laneway worker --queue [^ ]*webhooks", text
    )


def test_silent_workers_are_marked_and_how_they_ended_is_told(api: Api) -> None:
    report(api, "gone@here", id="gone", seconds_ago=60)
    report(api, "lost@here", id="lost", seconds_ago=60)
    report(api, "alive@here", id="alive")
    with api.services.database.transaction() as session:
        workers.note_end(session, "gone@here", how="killed by signal 9")
    text = page(api)

    assert ">silent<" in row_of(text, "gone@here") and "killed by signal 9" in row_of(text, "gone@here")
    assert "no report for 20 s; see its log" in row_of(text, "lost@here")
    assert "silent" not in row_of(text, "alive@here")


@ONE_DATABASE
def test_hostile_names_are_shown_as_text(api: Api) -> None:
    report(api, HOSTILE, id="x")

    assert HOSTILE not in page(api)
    assert "&lt;script&gt;" in page(api)


@ONE_DATABASE
def test_the_page_needs_the_scope_to_read(make_api: MakeApi) -> None:
    guarded = make_api(AUTHENTICATION="on")
    status = {
        scope: guarded.http.get("/console/workers", headers=bearer(guarded, scope)).status_code
        for scope in (Scope.READ, Scope.DEAD)
    }

    assert status == {Scope.READ: 200, Scope.DEAD: 403}
