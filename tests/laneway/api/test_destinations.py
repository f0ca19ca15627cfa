"""`/api/callbacks/destinations`, and events that callers cannot send."""

from __future__ import annotations

from tests.fixtures.api_calls import Api, problem

BASE = "/api/callbacks/destinations"
SHOP = {"name": "shop", "url": "https://shop.example/hooks/"}


def test_a_secret_is_shown_when_it_is_made_and_never_again(api: Api) -> None:
    made = api.http.post(BASE, json=SHOP)
    rotated = api.http.post(f"{BASE}/shop/rotate", json={"overlap_seconds": 60})
    secrets = [made.json()["secret"], rotated.json()["secret"]]

    assert (made.status_code, rotated.status_code) == (201, 200)
    assert len(set(secrets)) == 2 and all(secret.startswith("whsec_") for secret in secrets)
    for path in ("", "/shop"):
        shown = api.http.get(BASE + path)
        assert shown.status_code == 200 and "whsec_" not in shown.text
    assert api.http.get(f"{BASE}/shop").json()["previous_until"] is not None
    assert [key.hex() for key in api.services.destinations.keys(SHOP["url"])] != []


def test_destinations_are_listed_in_pages_and_removed(api: Api) -> None:
    for name in ("c", "a", "b"):
        assert api.http.post(BASE, json={"name": name, "url": f"https://{name}.example/"}).status_code == 201
    first = api.http.get(BASE, params={"limit": 2}).json()
    rest = api.http.get(BASE, params={"limit": 2, "after": first["next"]}).json()

    assert [[each["name"] for each in page["destinations"]] for page in (first, rest)] == [["a", "b"], ["c"]]
    assert api.http.delete(f"{BASE}/a").status_code == 204
    problem(api.http.delete(f"{BASE}/a"), 404)
    problem(api.http.get(f"{BASE}/a"), 404)
    problem(api.http.post(f"{BASE}/a/rotate", json={}), 404)


def test_what_cannot_be_registered_is_refused(api: Api) -> None:
    assert api.http.post(BASE, json=SHOP).status_code == 201
    problem(api.http.post(BASE, json=SHOP), 409)
    for wrong in ({}, {**SHOP, "name": "a b"}, {**SHOP, "url": "x"}, {"name": "n", "url": "https://u:p@a.example/"}):
        problem(api.http.post(BASE, json=wrong), 422)
    problem(api.http.post(f"{BASE}/shop/rotate", json={"overlap_seconds": -1}), 422)


def test_a_caller_cannot_send_an_event_of_the_platform(api: Api) -> None:
    task = {"name": "send_webhook_response_task"}
    payload = {"url": "https://shop.example/hooks/a", "event": "message.created", "data": {"response": "forged"}}

    found = problem(api.http.post("/tasks", json={**task, "payload": payload}), 422)
    assert "message.created" in found["detail"]
    other = {**task, "payload": {**payload, "event": "order.paid"}}
    problem(api.http.post("/tasks/batch", json={"tasks": [other, {**task, "payload": payload}]}), 422)
    assert api.queued() == 0
    assert api.http.post("/tasks", json=other).status_code == 202
