"""The console's pages of dead letters: groups, the letters of a group, the trash, and what can be done with them."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest

from laneway.platform import clock
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries.search import Filter
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer
from tests.laneway.api.test_dead_letters import act, dead

HOSTILE = "<script>alert(1)</script>"
LIST = "/console/dead-letters"


def page(api: Api, path: str = "", **query: Any) -> str:
    """The HTML of a page of dead letters."""
    answer = api.http.get(f"{LIST}{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def forms(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The requests that the forms of a page make: the call and its body."""
    found = re.findall(r'data-bulk="([^"]+)"[^>]*data-body="([^"]+)"', text)
    return [(call, json.loads(html.unescape(body))) for call, body in found]


def test_groups_are_listed_with_their_errors_and_counts(api: Api) -> None:
    dead(api, "g1", error="It was away")
    for _ in range(3):
        dead(api, "g2", error_type="OtherError")
    dead(api, "g3", state=TaskState.FAILED)
    text = page(api)

    assert re.findall(r"/console/dead-letters/(g\d)", text) == ["g2", "g1"]
    assert "OtherError" in text and "It was away" in text and REPORT in text
    assert re.findall(r'<td class="n">(\d+)</td>', text) == ["3", "1"]
    assert "/console/dead-letters/g3" in page(api, failed="yes")


def test_a_group_shows_its_last_day_hour_by_hour(api: Api) -> None:
    hour = clock.now().replace(minute=30)
    for ago in (0, 0, 2, 23, 30):
        dead(api, "g1", finished_at=hour - timedelta(hours=ago))
    for text in (page(api), page(api, "/g1")):
        assert 'aria-label="4 in the last 24 hours, at most 2 in an hour"' in text
        assert re.findall(r'<rect x="(\d+)" y="(\d+)"', text) == [("0", "8"), ("84", "8"), ("92", "0")]
    assert "<svg" not in page(api, trashed="yes")


def test_the_hours_of_groups_that_are_not_shown_are_not_counted(api: Api) -> None:
    for group in ("g1", "g2", "g2"):
        dead(api, group)
    letters = api.services.dead_letters
    found = letters.groups(Filter(), limit=1)

    assert [group for group, _ in letters.by_hour(Filter(), found)] == ["g2"]
    dead(api, error_group=None)
    every = letters.by_hour(Filter(), letters.groups(Filter()))
    assert {group: sum(hours) for (group, _), hours in every.items()} == {"g1": 1, "g2": 2, "": 1}


def test_filters_of_the_address_select_groups_and_what_the_forms_do(api: Api) -> None:
    dead(api, "g1", error="It was away")
    dead(api, "g2", error="refused")
    text = page(api, queue="analytics", error="AWAY")

    assert re.findall(r"/console/dead-letters/(g\d)", text) == ["g1"]
    assert forms(text) == [
        ("POST /dead-letters/requeue", {"queue": "analytics", "error": "AWAY"}),
        ("POST /dead-letters/discard", {"queue": "analytics", "error": "AWAY"}),
    ]
    assert forms(page(api)) == [], "without a filter nothing is done with all"
    assert "No dead letter matches" in page(api, name="nothing")
    assert api.http.get(LIST, params={"nmae": "x"}).status_code == 422


def test_a_group_shows_its_letters_the_newest_traceback_and_its_actions(api: Api) -> None:
    old = dead(api, "g1", traceback="the old trace")
    new = dead(api, "g1", traceback="the new trace")
    other = dead(api, "g2")
    text = page(api, "/g1")

    assert re.findall(r'href="/console/tasks/([^"]+)"', text) == [new, old]
    assert "the new trace" in text and "the old trace" not in text and other not in text
    assert forms(text) == [
        ("POST /dead-letters/requeue", {"ids": [new]}),
        ("POST /dead-letters/requeue", {"group": "g1"}),
        ("POST /dead-letters/discard", {"group": "g1"}),
    ]


def test_what_the_forms_request_does_what_their_buttons_say(api: Api) -> None:
    old, new = dead(api, "g1"), dead(api, "g1")
    first, rest, _ = forms(page(api, "/g1"))

    assert (act(api, "requeue", **first[1])["done"], api.services.tasks.current(old).state) == (1, "dead_letter")
    assert api.services.tasks.current(new).state != TaskState.DEAD_LETTER
    assert act(api, "requeue", **rest[1])["done"] == 1
    assert "No dead letter of this group is left" in page(api, "/g1")


def test_the_trash_is_listed_and_restored(api: Api) -> None:
    id = dead(api, "g1")
    assert "The trash is empty" in page(api, trashed="yes", failed="yes")
    act(api, "discard", group="g1")
    text = page(api, "/g1", trashed="yes", failed="yes")

    assert "There is no dead letter" in page(api)
    assert "/console/dead-letters/g1" in page(api, trashed="yes", failed="yes")
    assert (id in text, forms(text)) == (True, [("POST /dead-letters/restore", {"group": "g1", "failed": True})])
    assert act(api, "restore", **forms(text)[0][1])["done"] == 1
    assert id in page(api, "/g1")


def test_older_letters_are_on_further_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laneway.console.pages.dead_letters.PAGE", 2)
    ids = [dead(api, "g1") for _ in range(3)]
    text = page(api, "/g1")
    following = re.search(r"before=(\d+)", text)

    assert following is not None and ids[0] not in text
    assert ids[0] in page(api, "/g1", before=following[1])


@ONE_DATABASE
def test_hostile_texts_are_shown_as_texts(api: Api) -> None:
    values: dict[str, Any] = {
        "error": HOSTILE,
        "error_type": HOSTILE,
        "traceback": HOSTILE,
        "worker": HOSTILE,
        "name": HOSTILE,
    }
    dead(api, '"><script>', **values)
    pages = [page(api), page(api, "/%22%3E%3Cscript%3E"), page(api, error='"><script>'), page(api, f"/{HOSTILE}")]

    assert [text for text in pages if HOSTILE in text or '"><script>' in text] == []
    assert "&lt;script&gt;alert(1)" in pages[0] and "&lt;script&gt;alert(1)" in pages[1]


@ONE_DATABASE
def test_only_who_may_act_on_dead_letters_sees_the_forms(make_api: MakeApi) -> None:
    guarded = make_api(AUTHENTICATION="on")
    admin = bearer(guarded, Scope.ADMIN)
    guarded.http.headers.update(admin)
    dead(guarded, "g1")
    seen = {}
    for scopes in ((Scope.READ,), (Scope.READ, Scope.DEAD), (Scope.DEAD,)):
        answer = guarded.http.get(f"{LIST}/g1", headers=bearer(guarded, *scopes))
        seen[scopes] = (answer.status_code, len(forms(answer.text)))

    assert seen == {(Scope.READ,): (200, 0), (Scope.READ, Scope.DEAD): (200, 3), (Scope.DEAD,): (403, 0)}
