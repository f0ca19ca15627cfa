"""The console's pages of outbound webhooks: receivers, deliveries, one delivery with its attempts, destinations."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from laneway.platform.access.scopes import Scope
from laneway.platform.db.models import OutboundDelivery
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.platform import Platform
from tests.fixtures.receiving import DeliveryHarness
from tests.laneway.api.test_access import bearer

HOSTILE = "<script>alert(1)</script>"
BASE = "/console/webhooks"


@pytest.fixture
def desk(api: Api) -> DeliveryHarness:
    """Makes attempts at deliveries."""
    return DeliveryHarness(api.database)


def page(api: Api, path: str = "", **query: Any) -> str:
    """The HTML of a page of webhooks."""
    answer = api.http.get(f"{BASE}{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def deliveries_of(text: str) -> list[str]:
    """The ids of the deliveries that a page lists."""
    return re.findall(r'href="/console/webhooks/deliveries/([^"?]+)"', text)


def calls(text: str) -> list[str]:
    """What the buttons of a page call."""
    return re.findall(r'data-call="([^"]+)"', text)


def replays(text: str) -> list[dict[str, Any]]:
    """The bodies of the replays that a page offers for many deliveries."""
    found = re.findall(r'data-bulk="POST /api/callbacks/replay"[^>]*data-body="([^"]+)"', text)
    return [json.loads(html.unescape(body)) for body in found]


def test_before_anything_was_sent_the_pages_say_how_it_comes_to_be(api: Api) -> None:
    assert "No webhook was sent yet" in page(api)
    assert "laneway callbacks register NAME URL" in page(api)
    assert "No webhook was sent yet" in page(api, "/deliveries")
    assert "There is no destination" in page(api, "/destinations")
    for path in ("/deliveries/none", "/receivers/none"):
        assert api.http.get(BASE + path).status_code == 404


def test_receivers_are_listed_with_state_events_and_failures(
    api: Api, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(200), HttpReply(200), HttpReply(500), HttpReply(410))
    desk.deliver(http_peer.url + "/fine?token=t0ken", id="d-1", event="order.paid")
    desk.deliver(http_peer.url + "/fine", id="d-2", event="order.sent")
    desk.failure(http_peer.url + "/broken", id="d-3")
    desk.failure(http_peer.url + "/gone", id="d-4")
    text = page(api)
    gone, broken, fine = re.findall(r"<tr data-row>.*?</tr>", text, re.DOTALL)

    assert ">disabled<" in gone and ">gone<" in gone and "410 Gone" in gone
    assert ">enabled<" in broken and '<td class="n">1</td>' in broken and "it answered 500" in broken
    assert "order.paid, order.sent" in fine and "order.sent" not in broken
    assert "t0ken" not in text
    assert len(re.findall("<tr data-row>", page(api, state="disabled"))) == 1
    assert "/broken</a>" in page(api, url="BROKEN", state="") and "/fine</a>" not in page(api, url="BROKEN")
    assert "No receiver matches" in page(api, url="nothing")
    assert api.http.get(BASE, params={"state": "odd"}).status_code == 422
    assert api.http.get(BASE, params={"ulr": "x"}).status_code == 422


def test_what_the_buttons_of_a_receiver_call_is_what_the_api_does(
    api: Api, platform: Platform, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.always = HttpReply(500)
    desk.failure(http_peer.url, attempt=8)
    id = desk.endpoint().id
    address, api_address = f"/receivers/{id}", f"/api/callbacks/endpoints/{id}"
    text = page(api, address)

    assert calls(text) == [f"POST {api_address}/disable", "POST /api/callbacks/deliveries/d-1/replay"]
    assert replays(text) == [{"endpoint": id}]
    assert api.http.post(f"{api_address}/disable").status_code == 200
    text = page(api, address)
    assert "An operator disabled it." in text
    assert (calls(text), replays(text)) == ([f"POST {api_address}/enable"], [])
    assert "Its receiver is disabled" in page(api, "/deliveries/d-1")
    assert calls(page(api, "/deliveries/d-1")) == []
    assert api.http.post(f"{api_address}/enable").status_code == 200
    plan = api.http.post("/api/callbacks/replay", json={"endpoint": id, "dry_run": True}).json()
    assert (plan["matched"], plan["samples"]) == (1, ["d-1"])
    assert api.http.post("/api/callbacks/deliveries/d-1/replay").status_code == 202
    assert platform.sent("webhooks") == ["d-1"]
    assert "deliveries/d-1/replay" not in page(api, address), "it waits now"


def test_deliveries_are_filtered_by_the_address(api: Api, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(200), HttpReply(500), HttpReply(410))
    desk.deliver(http_peer.url + "/a", id="d-1", event="order.sent")
    desk.failure(http_peer.url + "/a", id="d-2")
    desk.failure(http_peer.url + "/b", id="d-3")
    first, second = (endpoint.id for endpoint in desk.endpoints())

    assert deliveries_of(page(api, "/deliveries")) == ["d-3", "d-2", "d-1"]
    assert deliveries_of(page(api, "/deliveries", endpoint=first)) == ["d-2", "d-1"]
    assert deliveries_of(page(api, "/deliveries", event="order.sent", since="", until="")) == ["d-1"]
    assert deliveries_of(page(api, "/deliveries", state=["failed", "dead_letter"])) == ["d-3"]
    assert deliveries_of(page(api, "/deliveries", since="2020-01-01T00:00:00Z", endpoint=second)) == ["d-3"]
    nothing = page(api, "/deliveries", until="2020-01-01T00:00:00Z")
    assert "No delivery matches" in nothing
    assert api.http.get(f"{BASE}/deliveries", params={"evnet": "x"}).status_code == 422


def test_only_what_a_replay_can_select_is_offered_to_it(api: Api, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    since = {"since": "2020-01-01T00:00:00+00:00"}
    failures = {"state": ["failed", "dead_letter"]}

    assert replays(page(api, "/deliveries")) == []
    assert replays(page(api, "/deliveries", event="order.paid")) == []
    assert replays(page(api, "/deliveries", **since, **failures)) == [since]
    assert replays(page(api, "/deliveries", **since, state="completed")) == []
    body = {"endpoint": "e", "event": "order.paid", "until": "2020-01-01T00:00:00+00:00"}
    assert replays(page(api, "/deliveries", **body)) == [body]
    assert api.http.post("/api/callbacks/replay", json={**body, "dry_run": True}).json()["matched"] == 0


def test_a_delivery_shows_its_attempts_with_what_the_receiver_said(
    api: Api, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(500, {}, f"broken {HOSTILE}"), HttpReply(204))
    desk.failure(http_peer.url + "/h?token=t0ken")
    desk.deliver(http_peer.url + "/h?token=t0ken", attempt=2)
    text = page(api, "/deliveries/d-1")
    second, first = re.findall(r"<tr>\s*<td class=\"n\">(?:1|2)</td>.*?</tr>", text, re.DOTALL)

    assert ">204<" in second
    assert ">500<" in first and "UpstreamError" in first and "broken &lt;script&gt;" in first
    assert "webhook-signature" in first
    assert "t0ken" not in text and HOSTILE not in text
    assert 'href="/console/tasks/d-1"' in text
    assert calls(text) == ["POST /api/callbacks/deliveries/d-1/replay"]


def test_hostile_names_are_shown_as_text_and_secrets_are_hidden(
    api: Api, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    data = {"said": HOSTILE, "password": "hunter2"}
    desk.deliver(http_peer.url, id='"><script>', event=HOSTILE, data=data)
    id = desk.endpoint().id
    pages = [page(api), page(api, f"/receivers/{id}"), page(api, "/deliveries"), page(api, "/deliveries/%22><script>")]
    pages.append(page(api, "/deliveries", event='"><script>', endpoint='"><script>'))
    pages.append(page(api, url='"><script>'))

    assert [text for text in pages if HOSTILE in text or '"><script>' in text or "hunter2" in text] == []
    assert all("&lt;script&gt;alert(1)" in text for text in pages[:4])


def test_further_deliveries_and_destinations_are_on_further_pages(
    api: Api, desk: DeliveryHarness, http_peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laneway.console.pages.deliveries.PAGE", 2)
    monkeypatch.setattr("laneway.console.pages.webhooks.DESTINATIONS", 2)
    for number in (1, 2, 3):
        desk.deliver(http_peer.url, id=f"d-{number}")
        api.services.destinations.register(f"shop-{number}", f"https://shop-{number}.example/")
    following = re.search(r"before=(\d+)", page(api, "/deliveries"))

    assert following is not None
    assert deliveries_of(page(api, "/deliveries", before=following[1])) == ["d-1"]
    first = page(api, "/destinations")
    after = re.search(r"after=([^\"]+)", first)
    assert after is not None and "shop-3" not in first
    assert "https://shop-3.example/" in page(api, "/destinations", after=after[1])


def test_destinations_are_listed_without_their_secrets(api: Api) -> None:
    made = api.http.post("/api/callbacks/destinations", json={"name": "shop", "url": "https://shop.example/"}).json()
    rotated = api.http.post("/api/callbacks/destinations/shop/rotate", json={}).json()
    text = page(api, "/destinations")

    assert "https://shop.example/" in text
    assert text.count("data-ago") == 3, "registered, rotated, and the end of the overlap"
    for secret in (made["secret"], rotated["secret"]):
        assert secret not in text and secret.removeprefix("whsec_") not in text
    assert calls(text) == []


def test_a_delivery_whose_receiver_is_deleted_is_shown(api: Api, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    desk.deliver(http_peer.url)
    with api.database.transaction() as session:
        session.query(OutboundDelivery).update({"endpoint_id": "e-deleted"})
    text = page(api, "/deliveries/d-1")

    assert http_peer.url in text
    assert "/console/webhooks/receivers/" not in text


@ONE_DATABASE
def test_the_pages_need_the_scope_of_webhooks(make_api: MakeApi) -> None:
    guarded = make_api(AUTHENTICATION="on")
    paths = ("", "/deliveries", "/destinations", "/deliveries/x", "/receivers/x")

    def statuses(*scopes: str) -> list[int]:
        headers = bearer(guarded, *scopes)
        return [guarded.http.get(BASE + path, headers=headers).status_code for path in paths]

    def leads_there(*scopes: str) -> bool:
        return f'href="{BASE}"' in guarded.http.get("/console", headers=bearer(guarded, *scopes)).text

    assert statuses(Scope.WEBHOOKS) == [200, 200, 200, 404, 404]
    assert statuses(Scope.READ) == [403] * 5
    assert (leads_there(Scope.READ), leads_there(Scope.READ, Scope.WEBHOOKS)) == (False, True)
