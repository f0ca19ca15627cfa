"""Who may use which route."""

from __future__ import annotations

from datetime import timedelta

import pytest

from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_rights import TokenRights
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api


@pytest.fixture
def guarded(make_api: MakeApi) -> Api:
    """The API with authentication."""
    return make_api(AUTHENTICATION="on")


def bearer(api: Api, *scopes: str, **bound: object) -> dict[str, str]:
    """The header of a new token."""
    name = f"t{len(api.services.tokens.listing())}"
    rights = TokenRights(scopes=frozenset(scopes), **bound)  # pyright: ignore[reportArgumentType]
    made = api.services.tokens.create(name, rights, expires=timedelta(days=1))
    return {"Authorization": f"Bearer {made.token}"}


def test_only_a_valid_token_gets_in(guarded: Api) -> None:
    reader = bearer(guarded, Scope.READ)

    assert guarded.http.get("/tasks").status_code == 401
    assert guarded.http.get("/tasks").headers["WWW-Authenticate"] == "Bearer"
    assert guarded.http.get("/tasks", headers={"Authorization": "Bearer laneway_x"}).status_code == 401
    assert guarded.http.get("/tasks", headers=reader).status_code == 200
    assert guarded.http.get("/workers", headers=reader).status_code == 200
    assert guarded.http.delete("/tasks?older_than=0", headers=reader).status_code == 403
    assert guarded.http.get("/nothing").status_code == 401
    assert guarded.http.get("/nothing", headers=reader).status_code == 404
    assert guarded.http.get("/docs").status_code == 401
    assert guarded.http.get("/health/live").status_code == 200
    assert guarded.http.post("/webhooks/google", json={}).status_code == 401
