"""Open pages: what one is sent when it changes is a part of the page itself."""

from __future__ import annotations

import pytest

from laneway.platform.db.session import Database
from tests.fixtures.api_calls import Api, say
from tests.fixtures.console_pages import Page
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.receiving import DeliveryHarness
from tests.laneway.api.test_dead_letters import dead

INPUTS = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


def test_every_open_page_can_be_renewed(api: Api, page: Page, http_peer: HttpPeer) -> None:
    task = say(api, "conv-1")
    dead(api, "g1")
    body = {"workflow_type": "savings_assessment", "input": INPUTS, "id": "w-1"}
    assert api.http.post("/api/workflows", json=body).status_code == 202
    harness = DeliveryHarness(api.database)
    http_peer.reply_with(HttpReply(500))
    harness.failure(http_peer.url + "/broken", id="d-1")
    receiver = api.services.outbound_webhooks.endpoints()[0].id
    for address in (
        *("/console", "/console/tasks", f"/console/tasks/{task}", "/console/dead-letters", "/console/dead-letters/g1"),
        *("/console/workflows", "/console/workflows/w-1", "/console/workers", "/console/audit", "/console/access"),
        *("/console/webhooks", "/console/webhooks/deliveries", "/console/webhooks/destinations"),
        *(f"/console/webhooks/receivers/{receiver}", "/console/webhooks/deliveries/d-1"),
    ):
        assert "<h1" in page(address), address
