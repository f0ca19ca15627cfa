"""The pages of inbound webhook events: the list, one event, and what an operator decides about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, refused, signed
from tests.fixtures.console_pages import HOSTILE, Page
from tests.fixtures.emptied import ONE_DATABASE

LIST = "/console/webhook-events"
pytestmark = ONE_DATABASE
RULE = """
rules:
  - name: orders
    event: order.paid
    task: process_conversation_message_task
    payload: {conversation_id: 'shop:${body.customer.id}', message: 'Order ${body.order}'}
"""


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text(RULE)
    return path


@pytest.fixture
def api(make_api: MakeApi, mapping: Path) -> Api:
    """The application with a mapping of its own."""
    return make_api(WEBHOOK_MAPPING=str(mapping))


def deliver(api: Api, **event: Any) -> int:
    """Send a signed event, and process it as a worker does; returns its number."""
    raw = json.dumps(event).encode()
    answer = api.http.post("/webhooks/shop", content=raw, headers=signed(raw))
    assert answer.status_code == 200, answer.text
    api.services.webhook_events.process(answer.json()["delivery_id"])
    return api.http.get("/webhooks/events").json()["events"][0]["id"]


def paid(api: Api, id: str, customer: Any) -> int:
    """Deliver an event of the rule `orders`. It fits the rule if the customer is an object with an id."""
    return deliver(api, id=id, type="order.paid", order="A-1", customer=customer)


def test_the_empty_list_says_how_an_event_comes(page: Page) -> None:
    assert "send them to POST /webhooks/…, signed" in page(LIST)


def test_the_list_shows_what_followed_and_is_filtered(api: Api, page: Page) -> None:
    handled, low = paid(api, "e1", {"id": "7"}), deliver(api, id="e2", type="stock.low")
    task = api.http.get(f"/webhooks/events/{handled}").json()["task_id"]
    html = page(LIST)

    assert html.index(f'"{LIST}/{low}"') < html.index(f'"{LIST}/{handled}"'), "the newest one comes first"
    assert f'href="/console/tasks/{task.replace(":", "%3A")}"' in html
    open_ones = page(f"{LIST}?state=quarantined&state=unhandled")
    assert f'"{LIST}/{low}"' in open_ones and f'"{LIST}/{handled}"' not in open_ones
    assert f'"{LIST}/{low}"' not in page(f"{LIST}?source=shop&rule=orders")
    assert f'"{LIST}/{handled}"' not in page(f"{LIST}?name=stock.low")
    assert "No event matches." in page(f"{LIST}?source=bank")
    refused(api, f"{LIST}?state=odd", 422)
    refused(api, f"{LIST}?odd=1", 422)


def test_an_event_in_quarantine_says_why_and_is_replayed_or_discarded(api: Api, page: Page, mapping: Path) -> None:
    number = paid(api, "e1", "Ada")
    address = f"/webhooks/events/{number}"
    html = page(f"{LIST}/{number}")
    assert "the event has no body.customer.id" in html
    assert "Not all of it could be read:" in html
    assert f'data-call="POST {address}/replay"' in html and f'data-call="POST {address}/discard"' in html

    assert api.http.post(f"{address}/discard").status_code == 200
    html = page(f"{LIST}/{number}")
    assert "An operator decided that nothing follows." in html
    assert f"{address}/replay" in html and f"{address}/discard" not in html

    mapping.write_text(RULE.replace("shop:${body.customer.id}", "shop:${body.customer}"))
    assert api.http.post(f"{address}/replay").status_code == 200
    html = page(f"{LIST}/{number}")
    assert "Its task was submitted." in html
    assert "data-call" not in html


def test_a_mapping_that_is_not_valid_is_told(api: Api, page: Page, mapping: Path) -> None:
    assert "is not valid" not in page(LIST)
    mapping.write_text("rules: 7")

    assert "is not valid; the last valid one stays in force" in page(LIST)


def test_what_is_sent_is_shown_as_text_and_without_secrets(api: Api, page: Page) -> None:
    number = deliver(api, id=HOSTILE, type=HOSTILE, note=HOSTILE, password="hunter2")
    html = page(f"{LIST}/{number}")

    assert HOSTILE not in html + page(LIST)
    assert html.count("&lt;script&gt;alert(1)") >= 4
    assert "hunter2" not in html
    assert "No webhook event &#39;99&#39; is known here." in api.http.get(f"{LIST}/99").text
