"""The pages as the server answers them: what they show, to whom, and what they say about what is not there."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from laneway.console.formats import ago, duration, number, rate
from laneway.console.rendering import Pages
from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.session import Database
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, say, submit

HTML = {"accept": "text/html"}


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


def test_the_list_finds_tasks_by_its_filters(api: Api) -> None:
    say(api, "conv-1")
    assert "process_conversation_message_task" in api.http.get("/console/tasks?queue=conversations").text
    assert "No task matches" in api.http.get("/console/tasks?queue=crm").text
    empty = "/console/tasks?name=&queue=&lane=&tag=&key=&error=&text=&since=&until="
    assert "process_conversation_message_task" in api.http.get(empty).text
    assert "No task matches" in api.http.get("/console/tasks?lane=low").text
    assert "process_conversation_message_task" in api.http.get("/console/tasks?text=conv-1").text


def test_an_id_leads_to_its_task_and_another_text_to_a_search(api: Api) -> None:
    id = say(api, "conv-1")
    there = api.http.get("/console/tasks", params={"q": id}, follow_redirects=False)
    search = api.http.get("/console/tasks", params={"q": "no such"}, follow_redirects=False)

    assert there.headers["location"].startswith("/console/tasks/")
    assert id in api.http.get(there.headers["location"]).text
    assert search.headers["location"] == "/console/tasks?text=no+such"


def test_the_tile_of_waiting_tasks_leads_to_those_that_it_counts(api: Api) -> None:
    ids = [say(api, "conv-1"), say(api, "conv-1"), say(api, "conv-2")]
    later = submit(api, "cleanup_old_data_task", delay=3600)
    tile = re.search(r'<a class="tile" href="([^"]+state=pending)"><b>(\d+)</b>([^<]+)', api.http.get("/console").text)

    assert tile is not None and (tile[2], tile[3]) == ("2", "waiting, 1 more held by a key or a limit")
    found = api.http.get(tile[1].replace("&amp;", "&")).text
    assert [id in found for id in (*ids, later)] == [True, True, True, False]
    assert re.search(r'aria-current="true">waiting</a>', found), "the chip of the same name selects the same tasks"


def test_the_list_says_why_tasks_of_a_lane_cannot_be_changed_at_once(api: Api) -> None:
    say(api, "conv-1")
    of_lane, of_queue = (api.http.get(f"/console/tasks?{by}").text for by in ("lane=high", "queue=conversations"))
    reason = "Choose a queue instead of a lane to act on these tasks."

    assert (reason in of_lane, "data-bulk" in of_lane) == (True, False)
    assert (reason in of_queue, "data-bulk" in of_queue) == (False, True)


def test_a_task_that_is_not_there_is_told_on_a_page(api: Api) -> None:
    answer = api.http.get("/console/tasks/nothing", headers=HTML)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "No task &#39;nothing&#39; is known here." in answer.text


def test_an_address_that_is_not_valid_is_told_on_a_page_that_leads_on(api: Api) -> None:
    answer = api.http.get("/console/tasks", params={"since": "<b>soon</b>"}, headers=HTML)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/html; charset=utf-8")
    assert "The request is not valid" in answer.text and "query.since: Input should be a valid date" in answer.text
    assert "<b>soon" not in answer.text and 'href="/console/tasks"' in answer.text


def test_an_address_that_does_not_exist_is_answered_by_a_page(api: Api) -> None:
    answer = api.http.get("/console/taks/7", headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "has no page &#39;taks/7&#39;" in answer.text
    assert api.http.post("/console/taks", json={}).status_code == 405


def test_a_value_that_is_nested_deeply_is_shown() -> None:
    deep: object = "innermost"
    for _ in range(150):
        deep = {"a": [deep]}
    shown = str(Pages()._templates.globals["ui"].json(deep))  # pyright: ignore[reportPrivateUsage]

    assert "innermost" in shown and shown.count("<details") == 50


def test_each_page_allows_its_own_files_and_no_script_within_it(api: Api) -> None:
    say(api, "conv-1")
    for path in ("/console", "/console/tasks"):
        answer = api.http.get(path)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert re.search(r"<script(?! src=)|<style| style=| on[a-z]+=", answer.text) is None


def test_files_are_kept_by_browsers_and_nothing_else_is_served(api: Api) -> None:
    page = api.http.get("/console").text
    for address in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page):
        answer = api.http.get(address)
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
    for name in ("../rendering.py", "nothing.js", "vendor/htmx.LICENSE", "%2e%2e/live.py"):
        assert api.http.get(f"/console/static/{name}").status_code == 404


def test_a_viewer_sees_no_button_that_changes_something(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    made = {
        scope: api.services.tokens.create(
            scope.value.replace(":", "-"), TokenRights(scopes=frozenset(scopes)), expires=timedelta(days=1)
        ).token
        for scope, scopes in ((Scope.READ, {Scope.READ}), (Scope.ADMIN, {Scope.ADMIN}))
    }

    def page(scope: Scope) -> str:
        return api.http.get("/console", headers={"Authorization": f"Bearer {made[scope]}"}).text

    assert "data-call" in page(Scope.ADMIN)
    assert "data-call" not in page(Scope.READ)
    assert api.http.get("/console").status_code == 401


def test_many_tasks_are_cancelled_and_taken_back_by_their_ids(api: Api) -> None:
    ids = {say(api, f"conv-{number}") for number in range(3)}
    trial = api.http.post("/tasks/cancel", json={"queue": "conversations", "dry_run": True}).json()
    assert (trial["matched"], trial["done"], trial["ids"]) == (3, 0, [])

    done = api.http.post("/tasks/cancel", json={"queue": "conversations"}).json()
    assert (done["done"], set(done["ids"]), done["refused"], done["more"]) == (3, ids, {}, False)
    again = api.http.post("/tasks/cancel", json={"queue": "conversations"}).json()
    assert again["matched"] == 0

    back = api.http.post("/tasks/retry", json={"ids": done["ids"]}).json()
    assert back["done"] == 3
    assert api.http.post("/tasks/cancel", json={}).status_code == 422


def test_durations_rates_and_times_are_short() -> None:
    assert [duration(each) for each in (0.0344, 4.25, 60, 3723, 90_000, None)] == [
        *("34 ms", "4.2 s", "1 min", "1 h 2 min", "1 d 1 h", "–"),
    ]
    assert [rate(each, 10) for each in (0, 1, 25, 12_345)] == ["–", "0.1", "2.5", number(1234)]
    assert ago(clock.now() - timedelta(minutes=5)) == "5 min ago"
