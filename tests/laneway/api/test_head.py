"""HEAD is answered as GET, without a body: load balancers and monitors ask so."""

from __future__ import annotations

import httpx
import pytest

from laneway.platform.db.session import Database
from tests.fixtures.api_calls import Api
from tests.fixtures.site import Site

PAGES = ("/health/live", "/health/ready", "/tasks", "/queues", "/stats", "/dead-letters", "/openapi.json", "/docs")


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.mark.parametrize("path", PAGES)
def test_head_has_the_status_and_the_headers_of_get_and_no_body(api: Api, path: str) -> None:
    got, head = api.http.get(path), api.http.head(path)

    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    assert "content-length" in head.headers
    assert head.content == b""


def test_head_of_what_is_not_there_and_of_what_only_posts(api: Api) -> None:
    assert api.http.head("/nothing").status_code == 404
    assert api.http.head("/api/chat").status_code == 405


def test_head_of_an_endless_stream_ends(live: Site) -> None:
    id = live.post("/tasks", {"name": "cleanup_old_data_task", "payload": {}, "delay": 600})["task_id"]
    with httpx.Client(base_url=live.http.base_url, timeout=10, trust_env=False) as client:
        for _ in range(2):  # on one connection, which stays usable
            head = client.head(f"/tasks/{id}/events")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"].startswith("text/event-stream")
        assert client.get("/health/live").json() == {"status": "ok"}
    assert live.post(f"/tasks/{id}/cancel")["cancelled"]
