"""Fixtures of the tests of the application's pages in the console."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from laneway.platform.access.token_rights import TokenRights
from tests.fixtures.api import MakeApi, platform  # noqa: F401
from tests.fixtures.api_calls import Api
from tests.fixtures.console_pages import page  # noqa: F401
from tests.fixtures.emptied import on_one_database

pytest_generate_tests = on_one_database


@pytest.fixture
def bearer(make_api: MakeApi) -> tuple[Api, Callable[..., dict[str, str]]]:
    """The API with authentication, and a function that returns the headers of a new token with these scopes."""
    api = make_api(AUTHENTICATION="on")

    def headers(*scopes: str) -> dict[str, str]:
        rights = TokenRights(scopes=frozenset(scopes))
        made = api.services.tokens.create(f"t{len(api.services.tokens.listing())}", rights, expires=timedelta(days=1))
        return {"Authorization": f"Bearer {made.token}"}

    return api, headers
