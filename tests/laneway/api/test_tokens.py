"""Tokens over the API: who may make them, what is shown once, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.queries.audit_log import AuditLogFilter
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE


@pytest.fixture
def guarded(make_api: MakeApi) -> Api:
    """The API with authentication, asked with the token of an administrator."""
    api = make_api(AUTHENTICATION="on")
    made = api.services.tokens.create("root", TokenRights(scopes=frozenset({"admin"})), expires=timedelta(days=1))
    api.http.headers["Authorization"] = f"Bearer {made.token}"
    return api


def entries(api: Api) -> list[tuple[str, str | None, str]]:
    """Action, object and caller of the audit log's entries, oldest first."""
    found = api.services.audit_log.page(AuditLogFilter(), limit=100).entries[::-1]
    return [(entry.action, entry.object_id, entry.caller) for entry in found]


def test_a_token_is_made_rotated_and_revoked(guarded: Api, caplog: pytest.LogCaptureFixture) -> None:
    asked = {"name": "shop", "scopes": ["tasks:read"], "queues": ["crm"], "expires_seconds": 3600}
    made = guarded.http.post("/tokens", json=asked)
    rotated = guarded.http.post("/tokens/shop/rotate", json={"overlap_seconds": 60})
    first, second = made.json()["token"], rotated.json()["token"]
    as_shop = [
        guarded.http.get("/queues/crm/limits", headers={"Authorization": f"Bearer {token}"})
        for token in (first, second)
    ]
    listed = guarded.http.get("/tokens")
    revoked = guarded.http.post("/tokens/shop/revoke")

    assert (made.status_code, rotated.status_code, revoked.status_code) == (201, 200, 200)
    assert made.headers["cache-control"] == rotated.headers["cache-control"] == "no-store"
    assert made.json()["created_by"] == "root"
    assert [answer.status_code for answer in as_shop] == [200, 200], "the first one is valid for the overlap"
    assert [each["name"] for each in listed.json()["tokens"]] == ["root", "shop"]
    assert revoked.json()["state"] == "revoked"
    for text in (listed.text, revoked.text, caplog.text):
        assert not any(secret in text for secret in (first, second, "digest"))
    shops = [(action, caller) for action, object, caller in entries(guarded) if object == "shop"]
    assert shops == [("token.create", "root"), ("token.rotate", "root"), ("token.revoke", "root")]


@ONE_DATABASE
@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"name": "root", "scopes": ["leads"]}, 409, "There is a token 'root' already"),
        ({"name": "No Spaces", "scopes": ["leads"]}, 422, "a name has up to 64"),
        ({"name": "x", "scopes": []}, 422, "at least one scope"),
        ({"name": "x", "scopes": ["task:read"]}, 422, "did you mean 'tasks:read'"),
        ({"name": "x", "scopes": ["leads"], "queues": ["nowhere"]}, 422, "there is no queue 'nowhere'"),
        ({"name": "x", "scopes": ["leads"], "queues": []}, 422, "bound to no queue"),
        ({"name": "x", "scopes": ["leads"], "expires_seconds": 0}, 422, "within 3660 days, or never"),
        ({"name": "x", "scopes": ["leads"], "expires_seconds": 400_000_000}, 422, "within 3660 days, or never"),
        ({"name": "x", "scopes": ["leads"], "expires_seconds": 1e300}, 422, "expires_seconds"),
        ({"name": "x", "scopes": ["leads"], "expires_seconds": -1}, 422, "expires_seconds"),
        ({"name": "x\0", "scopes": ["leads"]}, 422, "name"),
        ({"name": "x", "scopes": ["leads"], "expire": 1}, 422, "expire"),
        ({}, 422, "scopes"),
    ],
)
def test_a_token_that_cannot_be_is_refused(guarded: Api, given: dict[str, Any], status: int, words: str) -> None:
    answer = guarded.http.post("/tokens", json=given)

    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert [row.name for row in guarded.services.tokens.listing()] == ["root"]
    assert "x" not in {object for _, object, _ in entries(guarded)}


@ONE_DATABASE
def test_a_rotation_that_cannot_be_is_refused(guarded: Api) -> None:
    before = guarded.http.get("/tokens").json()
    unknown = guarded.http.post("/tokens/rot/rotate", json={})
    ended = guarded.http.post("/tokens/root/rotate", json={"expires_seconds": 0})
    negative = guarded.http.post("/tokens/root/rotate", json={"overlap_seconds": -1})

    assert (unknown.status_code, "'root'" in unknown.json()["detail"]) == (404, True)
    assert (ended.status_code, negative.status_code) == (422, 422)
    assert guarded.http.get("/tokens").json() == before
    assert guarded.http.post("/tokens/rot/revoke").status_code == 404


@ONE_DATABASE
def test_nobody_makes_tokens_while_the_api_authenticates_nobody(api: Api) -> None:
    """Such a token would still be valid after authentication is switched on."""
    api.services.tokens.create("shop", TokenRights(scopes=frozenset({"leads"})), expires=None)
    made = api.http.post("/tokens", json={"name": "mine", "scopes": ["admin"]})
    rotated = api.http.post("/tokens/shop/rotate", json={})

    assert (made.status_code, rotated.status_code) == (403, 403)
    assert "AUTHENTICATION=on" in made.json()["detail"]
    (row,) = api.services.tokens.listing()
    assert (row.name, row.rotated_at) == ("shop", None)
    assert api.http.get("/tokens").status_code == 200
