"""The audit log over HTTP: listed and verified, and not changed by anything that the API offers."""

from __future__ import annotations

from sqlalchemy import text

from tests.fixtures.api_calls import Api

LIMITS = "/queues/conversations/limits"


def test_a_change_over_http_is_listed_with_its_request(api: Api) -> None:
    api.http.put(LIMITS, json={"rate": 5}, headers={"X-Request-ID": "req-7"})
    api.http.put(LIMITS, json={"rate": 5, "paused": True})

    page = api.http.get("/audit-log", params={"limit": 1}).json()
    (entry,) = page["entries"]
    assert (entry["seq"], entry["action"], entry["object_id"]) == (2, "queue.pause", "conversations")
    assert (entry["before"]["paused"], entry["after"]["paused"]) == (False, True)
    assert page["next"] == 2
    (first,) = api.http.get("/audit-log", params={"request_id": "req-7", "action": "queue"}).json()["entries"]
    assert (first["seq"], first["request_id"], first["caller_kind"]) == (1, "req-7", "anonymous")


def test_the_check_over_http_names_the_damage(api: Api) -> None:
    for paused in (True, False, True):
        api.http.put(LIMITS, json={"paused": paused})
    holds = api.http.get("/audit-log/verification").json()
    with api.database.transaction() as session:
        session.execute(text("UPDATE audit_log_head SET seq = 4"))

    found = api.http.get("/audit-log/verification").json()
    assert (holds["holds"], holds["entries"], holds["damage"], holds["entry"]) == (True, 3, None, None)
    assert (found["holds"], found["entries"], found["damage"], found["entry"]) == (False, 3, "removed", 4)


def test_no_route_deletes_or_changes_entries(api: Api) -> None:
    methods = {
        (method, path)
        for path, operations in api.http.get("/openapi.json").json()["paths"].items()
        for method in operations
        if path.startswith("/audit-log")
    }

    assert methods == {("get", "/audit-log"), ("get", "/audit-log/verification")}
    for method in ("DELETE", "POST", "PUT", "PATCH"):
        assert api.http.request(method, "/audit-log").status_code == 405
        assert api.http.request(method, "/audit-log/1").status_code == 404


def test_a_wrong_filter_is_refused(api: Api) -> None:
    assert api.http.get("/audit-log", params={"actoin": "queue"}).status_code == 422
    assert api.http.get("/audit-log", params={"since": "5"}).status_code == 422
    assert api.http.get("/audit-log", params={"action": "x" * 201}).status_code == 422
