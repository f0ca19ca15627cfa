"""Fixtures of the tests of the application's pages in the console."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable
from datetime import timedelta
from typing import Any

import pytest

from laneway.api.threads import read_in_thread
from laneway.console.live import as_event
from laneway.platform.access.token_rights import TokenRights
from tests.fixtures.api import MakeApi, platform  # noqa: F401
from tests.fixtures.api_calls import Api

HOSTILE = "<script>alert(1)</script>"
"""A text that must never become a part of a page."""
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"

Page = Callable[..., str]


class _Once:
    """In place of `LivePages`: an open page is renewed once, and then its stream ends."""

    async def watch(self, _: Hashable, render: Callable[[], str]) -> AsyncGenerator[str]:
        yield as_event(await read_in_thread(render))


@pytest.fixture
def page(api: Api, monkeypatch: pytest.MonkeyPatch) -> Page:
    """Returns the HTML of a page. What an open page is sent when it changes must be a part of it."""
    app: Any = api.http.app
    monkeypatch.setattr(app.state, "live_pages", _Once(), raising=False)

    def read(address: str, headers: dict[str, str] | None = None) -> str:
        answer = api.http.get(address, headers=headers)
        assert answer.status_code == 200, answer.text
        if "hx-sse:connect" in answer.text:
            sent = api.http.get(address, headers={**(headers or {}), "Accept": "text/event-stream"})
            assert sent.text.strip(), sent.text
            lines = {line.removeprefix("data: ").strip() for line in sent.text.splitlines() if line.strip()}
            assert lines <= {line.strip() for line in answer.text.splitlines()}
        return answer.text

    return read


@pytest.fixture
def bearer(make_api: MakeApi) -> tuple[Api, Callable[..., dict[str, str]]]:
    """The API with authentication, and a function that returns the headers of a new token with these scopes."""
    api = make_api(AUTHENTICATION="on")

    def headers(*scopes: str) -> dict[str, str]:
        rights = TokenRights(scopes=frozenset(scopes))
        made = api.services.tokens.create(f"t{len(api.services.tokens.listing())}", rights, expires=timedelta(days=1))
        return {"Authorization": f"Bearer {made.token}"}

    return api, headers
