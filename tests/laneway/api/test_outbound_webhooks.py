"""`/api/callbacks`: the log of deliveries, replays, and the receivers."""

from __future__ import annotations

import pytest

from tests.fixtures.api_calls import Api, problem
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.platform import Platform
from tests.fixtures.receiving import DeliveryHarness

BASE = "/api/callbacks"


@pytest.fixture
def desk(api: Api) -> DeliveryHarness:
    return DeliveryHarness(api.database)


def get(api: Api, path: str, **query: object) -> dict[str, object]:
    response = api.http.get(BASE + path, params=query)  # pyright: ignore[reportArgumentType]
    assert response.status_code == 200, response.text
    return response.json()


def test_deliveries_are_listed_newest_first_in_pages(api: Api, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(200), HttpReply(500), HttpReply(204))
    desk.deliver(http_peer.url + "/h?token=hidden", id="d-1")
    desk.failure(http_peer.url, id="d-2")
    desk.deliver(http_peer.url, id="d-3")

    page = get(api, "/deliveries", limit=2)
    assert [(one["delivery_id"], one["state"], one["status"]) for one in page["deliveries"]] == [
        ("d-3", "completed", 204),
        ("d-2", "scheduled", 500),
    ]
    rest = get(api, "/deliveries", limit=2, before=page["next"])
    assert rest["next"] is None
    assert [(one["delivery_id"], one["url"]) for one in rest["deliveries"]] == [("d-1", http_peer.url + "/h")]
    assert len(get(api, "/deliveries", state="completed", event="order.paid")["deliveries"]) == 2
    endpoint = rest["deliveries"][0]["endpoint_id"]
    assert len(get(api, "/deliveries", endpoint=endpoint, since="2020-01-01T00:00:00Z")["deliveries"]) == 1


def test_one_delivery_is_shown_with_its_attempts_and_its_body(
    api: Api, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(500, {}, "broken"))
    desk.failure(http_peer.url + "/h?token=hidden")
    desk.deliver(http_peer.url + "/h?token=hidden", attempt=2)
    response = api.http.get(f"{BASE}/deliveries/d-1")

    found = response.json()
    assert [(one["number"], one["status"], one["answer"]) for one in found["attempts"]] == [
        (1, 500, "broken"),
        (2, 200, ""),
    ]
    assert "webhook-signature" in found["attempts"][0]["request_headers"]
    assert found["body"] == http_peer.requests[0].body.decode()
    assert "hidden" not in response.text
    problem(api.http.get(f"{BASE}/deliveries/none"), 404)


def test_a_delivery_is_replayed_once(api: Api, platform: Platform, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    desk.deliver(http_peer.url)

    response = api.http.post(f"{BASE}/deliveries/d-1/replay")
    assert (response.status_code, response.json()["task_id"], response.json()["state"]) == (202, "d-1", "pending")
    assert platform.sent("webhooks") == ["d-1"]
    assert "pending" in problem(api.http.post(f"{BASE}/deliveries/d-1/replay"), 409)["detail"]
    problem(api.http.post(f"{BASE}/deliveries/none/replay"), 404)


def test_a_range_is_replayed_after_a_dry_run(
    api: Api, platform: Platform, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.always = HttpReply(500)
    for number in (1, 2, 3):
        desk.failure(http_peer.url, id=f"d-{number}", attempt=8)
    body = {"endpoint": desk.endpoint().id, "since": "2020-01-01T00:00:00Z", "limit": 2}

    plan = api.http.post(f"{BASE}/replay", json={**body, "dry_run": True}).json()
    assert (plan["matched"], plan["done"], plan["samples"]) == (3, 0, ["d-1", "d-2"])
    done = api.http.post(f"{BASE}/replay", json=body).json()
    assert (done["matched"], done["done"], done["refused"]) == (3, 2, {})
    assert platform.sent("webhooks") == ["d-1", "d-2"]
    for senseless in ({}, {"until": "2020-01-01T00:00:00Z"}, {"since": 5}, {**body, "limit": 1001}, {"endpoint": ""}):
        problem(api.http.post(f"{BASE}/replay", json=senseless), 422)


def test_receivers_are_listed_disabled_and_enabled(api: Api, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(200), HttpReply(410))
    desk.deliver(http_peer.url + "/a%20b?token=hidden")
    desk.failure(http_peer.url + "/gone", id="d-2")
    gone, fine = get(api, "/endpoints")["endpoints"]
    assert (gone["state"], gone["reason"], fine["state"]) == ("disabled", "gone", "enabled")
    assert [one["url"] for one in get(api, "/endpoints", state="disabled")["endpoints"]] == [http_peer.url + "/gone"]
    assert [one["url"] for one in get(api, "/endpoints", url="a%20B")["endpoints"]] == [http_peer.url + "/a%20b"]

    for number, (action, state) in enumerate([("enable", "enabled"), ("disable", "disabled"), ("enable", "enabled")]):
        response = api.http.post(f"{BASE}/endpoints/{gone['endpoint_id']}/{action}")
        assert (response.status_code, response.json()["state"]) == (200, state), number
    assert get(api, f"/endpoints/{gone['endpoint_id']}")["consecutive_failures"] == 0
    assert api.services.alerts.listing() == []
    for path in ("", "/enable", "/disable"):
        call = api.http.post if path else api.http.get
        problem(call(f"{BASE}/endpoints/none{path}"), 404)


def test_a_replay_to_a_disabled_receiver_is_refused_with_advice(
    api: Api, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(410))
    desk.failure(http_peer.at("localhost"))

    detail = problem(api.http.post(f"{BASE}/deliveries/d-1/replay"), 409)["detail"]
    assert f"enables endpoint {desk.endpoint().id}" in detail


@ONE_DATABASE
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "before=-1", "state=none", "since=5", "event=", "endpoint=%00"]
)
def test_invalid_parameters_are_refused(api: Api, query: str) -> None:
    problem(api.http.get(f"{BASE}/deliveries?{query}"), 422)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_times_out_of_range_find_nothing(api: Api, moment: str) -> None:
    for path in (f"{BASE}/deliveries", "/tasks"):
        for end in ("since", "until"):
            assert api.http.get(path, params={end: moment}).status_code == 200
    assert api.http.post(f"{BASE}/replay", json={"since": moment}).json()["matched"] == 0
