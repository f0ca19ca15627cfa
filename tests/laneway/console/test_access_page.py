"""The console's page of people and tokens."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from laneway.platform.access.roles import Person, Role
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.models import AccessToken, PersonSession
from laneway.testing import Clock
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer

BASE = "/console/access"
HOSTILE = "<script>alert(1)</script>"


def page(api: Api, **query: Any) -> str:
    """The HTML of the page."""
    answer = api.http.get(BASE, params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def rows(text: str) -> list[str]:
    """The rows of people and tokens."""
    return re.findall(r"<tr data-row>.*?</tr>", text, re.DOTALL)


def log_in(api: Api, name: str, role: Role = Role.OPERATOR) -> str:
    """Begin a session of a person; returns its id."""
    return api.services.people.logins.begin(Person(name, None, frozenset()), role)


def ends(text: str) -> list[tuple[str, dict[str, Any]]]:
    """What the buttons of a page call, with their bodies."""
    found = re.findall(r'data-call="([^"]+)" data-body="([^"]+)"', text)
    return [(call, json.loads(html.unescape(body))) for call, body in found]


def test_without_people_and_tokens_the_page_says_how_they_come_to_be(api: Api) -> None:
    text = page(api)

    assert "neither an identity provider (OIDC_ISSUER) nor a proxy" in text
    assert "`laneway tokens create NAME --scope tasks:submit` makes one" in text
    assert "Authentication is off" in text


def test_people_are_listed_with_their_sessions_and_the_button_ends_all(api: Api) -> None:
    for name in ("ada@example.com", "bob@example.com", "ada@example.com"):
        id = log_in(api, name)
    text = page(api)
    ada, bob = rows(text)

    assert '<td class="n">2</td>' in ada and "ada@example.com" in ada and ">operator<" in ada
    assert '<td class="n">1</td>' in bob
    assert id not in text and id.partition(".")[2] not in text
    (call, body), _ = ends(text)
    assert (call, body) == ("POST /sessions/end", {"person": "ada@example.com"})
    assert api.http.post("/sessions/end", json=body).json()["ended"] == 2
    assert len(rows(page(api))) == 1


def test_sessions_that_the_provider_has_to_confirm_are_marked(api: Api) -> None:
    time = Clock()
    with time.installed():
        log_in(api, "ada@example.com")
        assert "for confirmation" not in page(api)
        time.move(api.services.settings.people.session_check_minutes * 60 + 1)
        assert "1 waits for confirmation" in page(api)


def test_tokens_are_listed_without_their_secrets(api: Api) -> None:
    rights = TokenRights(scopes=frozenset({Scope.SUBMIT, Scope.READ}), queues=frozenset({"crm"}), tenant="acme")
    made = api.services.tokens.create("shop", rights, expires=timedelta(days=1))
    api.services.tokens.create("old", TokenRights(scopes=frozenset({Scope.ADMIN})), expires=None)
    api.services.tokens.revoke("old")
    text = page(api)
    old, shop = rows(text)

    assert ">revoked<" in old and "tasks:" not in old and ">not restricted<" in old
    assert ">valid<" in shop and "tasks:read, tasks:submit" in shop
    assert "tenant acme" in shop and "queues crm" in shop and "never" in shop
    assert made.token not in text and made.row.digest not in text
    assert ends(text) == []


def test_the_page_reads_no_more_than_it_shows_and_says_that_there_are_more(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sessions of one person hide nobody else."""
    log_in(api, "bob")
    for name in ("ada", "ada", "ada", "cyd"):
        log_in(api, name)
    for name in ("bank", "shop", "till"):
        api.services.tokens.create(name, TokenRights(scopes=frozenset({Scope.READ})), expires=None)
    monkeypatch.setattr("laneway.console.pages.access.MOST", 2)
    read = list[int]()

    def count(row: object, _: object) -> None:
        read.append(id(row))

    event.listen(AccessToken, "load", count)
    event.listen(PersonSession, "load", count)
    try:
        text = page(api)
    finally:
        event.remove(AccessToken, "load", count)
        event.remove(PersonSession, "load", count)

    assert [each.partition("caller=")[2].partition('"')[0] for each in rows(text)] == ["cyd", "ada", "bank", "shop"]
    assert "Only the 2 who logged in last" in text and "Only the first 2 by name" in text
    assert len(read) == 3, "two tokens and one that says that there are more"
    assert len(rows(page(api, name="bo"))) == 1


def test_names_are_searched(api: Api) -> None:
    log_in(api, "Ada@example.com")
    for name in ("shop", "bank"):
        api.services.tokens.create(name, TokenRights(scopes=frozenset({Scope.READ})), expires=None)

    assert [len(rows(page(api, name=name))) for name in ("ADA", "sho", "", "none")] == [1, 1, 3, 0]
    assert "Nobody of this name" in page(api, name="shop") and "No token has this name" in page(api, name="ada")
    assert "Search by name to see more" not in page(api)
    assert api.http.get(BASE, params={"nmae": "x"}).status_code == 422


def test_hostile_names_are_shown_as_text(api: Api) -> None:
    log_in(api, HOSTILE)
    log_in(api, '"><script>')
    pages = [page(api), page(api, name='"><script>'), page(api, name=HOSTILE)]

    assert [text for text in pages if HOSTILE in text or '"><script>' in text] == []
    assert ends(pages[2]) == [("POST /sessions/end", {"person": HOSTILE})]


@ONE_DATABASE
def test_the_page_is_for_admins(make_api: MakeApi) -> None:
    guarded = make_api(AUTHENTICATION="on")
    status = {
        scope: guarded.http.get(BASE, headers=bearer(guarded, scope)).status_code for scope in (Scope.ADMIN, Scope.READ)
    }

    assert status == {Scope.ADMIN: 200, Scope.READ: 403}
    assert "Authentication is off" not in guarded.http.get(BASE, headers=bearer(guarded, Scope.ADMIN)).text
