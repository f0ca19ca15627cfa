"""Who may use which route."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Send

from laneway.api.access import ANONYMOUS, guarded_routes, requires
from laneway.api.errors import install
from laneway.api.threads import ThreadedRoute
from laneway.platform.access.caller import NOBODY, Caller, acting_as, current_caller
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_rights import TokenRights
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE

PUBLIC = {
    "GET /health/live",
    "GET /health/ready",
    "GET /webhooks/facebook",
    "POST /webhooks/facebook",
    "POST /webhooks/google",
    "POST /webhooks/{source}",
    *("GET /", "GET /console/static/{name:path}"),
    *("GET /login", "GET /login/start", "GET /login/callback", "GET /logout", "POST /logout"),
}
"""The routes that everybody may use: probes, what is signed, style and scripts, and the pages of a login."""
SCOPES = {*Scope, "tasks:submit:process_document_task", "documents", "leads", "conversations"}
PAGES: dict[str, str] = {
    "/console/access": Scope.ADMIN,
    "/console/audit": Scope.ADMIN,
    "/console/webhooks": Scope.WEBHOOKS,
    "/console/webhooks/receivers/{endpoint_id}": Scope.WEBHOOKS,
    "/console/webhooks/destinations": Scope.WEBHOOKS,
    "/console/webhooks/deliveries": Scope.WEBHOOKS,
    "/console/webhooks/deliveries/{delivery_id:path}": Scope.WEBHOOKS,
    **dict.fromkeys(("/console/schedules/-/new", "/console/schedules/{key}/change"), Scope.SCHEDULES),
    **dict.fromkeys(("/console/conversations", "/console/conversations/{conversation_id:path}"), "conversations"),
    **dict.fromkeys(("/console/documents", "/console/documents/{document_id:path}"), "documents"),
    **dict.fromkeys(("/console/leads", "/console/leads/{lead_id:path}"), "leads"),
    **dict.fromkeys(("/console/webhook-events", "/console/webhook-events/{number:int}"), Scope.WEBHOOKS),
}
"""The pages of the console that need another scope than `tasks:read`."""
READ = {
    "/events",
    *("/openapi.json", "/docs", "/stats", "/alerts", "/workers", "/task-names", "/metrics"),
    *("/bulk-actions", "/batches", "/batches/{batch_id}"),
    *("/tasks", "/tasks/{task_id}", "/tasks/{task_id}/attempts", "/tasks/{task_id}/why", "/tasks/{task_id}/events"),
    *("/queues", "/queues/{queue}/limits", "/dead-letters", "/dead-letters/groups", "/dead-letters/{task_id}"),
    *("/api/workflow-definitions", "/api/workflows", "/api/workflows/{workflow_id}"),
    *("/analytics/reports", "/analytics/reports/{report_id}"),
    *("/conversations/tasks/queues/status", "/conversations/tasks/active", "/conversations/tasks/{task_id}/status"),
}
OPERATE = {
    *("/tasks/cancel", "/tasks/retry", "/tasks/replay", "/tasks/reprioritise", "/alerts/test"),
    *("/bulk-actions/{action}/undo", "/batches/{batch_id}/cancel"),
    *("/tasks/{task_id}/cancel", "/tasks/{task_id}/retry", "/conversations/tasks/{task_id}/cancel"),
    *("/api/workflows/{workflow_id}/cancel", "/api/workflows/{workflow_id}/retry"),
    "/tasks/{task_id}/signals/{name}",
    *("/api/workflows/{workflow_id}/pause", "/api/workflows/{workflow_id}/resume"),
    "/api/workflows/{workflow_id}/signals/{name}",
}
SUBMIT = {
    "/tasks",
    "/tasks/batch",
    "/batches",
    "/batches/{batch_id}/tasks",
    "/batches/{batch_id}/close",
    "/api/workflows",
    "/api/chat",
    "/analytics/reports",
}


def expected_scope(method: str, path: str) -> str:
    """The scope that a route needs, as a reader of the documentation expects it."""
    for beginning, scope in (
        ("/api/documents", "documents"),
        ("/api/leads", "leads"),
        ("/api/callbacks", Scope.WEBHOOKS),
        ("/webhooks", Scope.WEBHOOKS),
        ("/limits", Scope.READ if method == "GET" else Scope.QUEUES),
        ("/schedules", Scope.READ if method == "GET" else Scope.SCHEDULES),
    ):
        if path.startswith(beginning):
            return scope
    if method == "DELETE":
        return Scope.DELETE
    if path.startswith("/console"):
        return PAGES.get(path, Scope.READ)
    if method == "PUT" and path == "/queues/{queue}/limits":
        return Scope.QUEUES
    if method == "POST" and path.startswith("/dead-letters/"):
        return Scope.DEAD
    if path in (READ if method == "GET" else OPERATE | SUBMIT):
        return Scope.READ if method == "GET" else Scope.OPERATE if path in OPERATE else Scope.SUBMIT
    return "conversations" if path.startswith("/conversations") else Scope.ADMIN


@pytest.fixture
def guarded(make_api: MakeApi) -> Api:
    """The API with authentication."""
    return make_api(AUTHENTICATION="on")


def bearer(api: Api, *scopes: str, **bound: Any) -> dict[str, str]:
    """The header of a new token."""
    name = f"t{len(api.services.tokens.listing())}"
    rights = TokenRights(scopes=frozenset(scopes), **bound)
    made = api.services.tokens.create(name, rights, expires=timedelta(days=1))
    return {"Authorization": f"Bearer {made.token}"}


@ONE_DATABASE
def test_every_route_says_who_may_use_it(api: Api) -> None:
    app: Any = api.http.app

    assert [route.path for route in guarded_routes(app) if not route.declared] == []


@ONE_DATABASE
def test_every_route_is_open_to_its_scope_and_to_no_other(guarded: Api) -> None:
    """What a token with all other scopes may not do, a token with one of them may not do either."""
    app: Any = guarded.http.app
    routes = [(method, route.path) for route in guarded_routes(app) for method in route.methods - {"HEAD"}]
    with_scopes = cache(partial(bearer, guarded))
    wrong: list[str] = []

    for method, path in routes:
        url, name = re.sub(r"\{[^}]+\}", "1", path), f"{method} {path}"
        url += "?follow=false" if path == "/events" else ""  # else it has no end
        anonymous = guarded.http.request(method, url, follow_redirects=False)
        refused = anonymous.status_code == 401 and "not-authenticated" in anonymous.text
        if (name in PUBLIC) is refused:
            wrong.append(f"{name} without a token: {anonymous.status_code}")
        if name in PUBLIC:
            continue
        allowed = {expected_scope(method, path), Scope.ADMIN}
        if path == "/me":
            allowed = SCOPES
        if name in ("POST /tasks", "POST /tasks/batch", "POST /batches", "POST /batches/{batch_id}/tasks"):
            allowed.add("tasks:submit:process_document_task")
        for scope in allowed:
            if (status := guarded.http.request(method, url, headers=with_scopes(scope)).status_code) in (401, 403):
                wrong.append(f"{name} with {scope}: {status}")
        others = sorted(SCOPES - allowed)
        if others and guarded.http.request(method, url, headers=with_scopes(*others)).status_code not in (401, 403):
            wrong.append(f"{name} with one of {others}")

    assert len(routes) > 60
    assert wrong == []


def test_only_a_valid_token_gets_in(guarded: Api) -> None:
    reader = bearer(guarded, Scope.READ)
    refused = guarded.http.get("/tasks")

    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.json()["type"] == "urn:laneway:problem:not-authenticated"
    for header in (
        "Bearer laneway_x",
        "Basic YTpi",
        "Bearer",
        "",
        "Bearer " + "x" * 5000,
        reader["Authorization"] + "x",
    ):
        for path in ("/tasks", "/health/ready"):
            assert guarded.http.get(path, headers={"Authorization": header}).status_code == 401, (path, header)
    assert guarded.http.get("/tasks", headers=reader).status_code == 200
    assert guarded.http.head("/tasks", headers=reader).status_code == 200
    assert guarded.http.get("/tasks", headers={"Authorization": reader["Authorization"].lower()}).status_code == 401


def test_an_unknown_path_is_unknown_to_whoever_has_a_token(guarded: Api) -> None:
    leads = bearer(guarded, "leads")

    assert (guarded.http.get("/nothing").status_code, guarded.http.put("/tasks").status_code) == (401, 401)
    assert guarded.http.get("/nothing", headers=leads).status_code == 404
    assert guarded.http.put("/tasks", headers=leads).status_code == 405


def test_a_refused_request_is_not_read(guarded: Api) -> None:
    def body() -> Any:
        yield b'{"name": '
        raise AssertionError("the body was read")

    assert guarded.http.post("/tasks", content=body()).status_code == 401


def test_a_route_without_a_scope_is_for_admins() -> None:
    def answer() -> dict[str, str]:
        return {}

    app = FastAPI()
    router = APIRouter(route_class=ThreadedRoute, dependencies=[requires(Scope.READ)])
    app.get("/open")(answer)
    router.get("/read")(answer)
    router.get("/operate", dependencies=[requires(Scope.OPERATE)])(answer)
    app.include_router(router, prefix="/more")

    found = {route.path: (route.requirement.scope, route.declared) for route in guarded_routes(app)}

    assert found["/open"] == (Scope.ADMIN, False)
    assert found["/more/read"] == (Scope.READ, True)
    assert found["/more/operate"] == (Scope.OPERATE, True), "the scope of a route replaces that of its router"


def _note(seen: list[Any]) -> list[Any]:
    seen.append(current_caller())
    return []


def test_the_caller_reaches_the_thread_of_a_route(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(guarded.services.tasks, "workers", partial(_note, seen))
    headers = {**bearer(guarded, Scope.READ), "X-Request-ID": "r-1"}

    guarded.http.get("/workers", headers=headers)

    assert [(caller.kind, caller.name, caller.request_id) for caller in seen] == [("token", "t0", "r-1")]
    assert current_caller() is NOBODY


def test_without_authentication_everybody_is_an_admin(api: Api) -> None:
    assert api.http.get("/tasks").status_code == 200
    assert api.http.get("/tasks", headers={"Authorization": "Bearer nonsense"}).status_code == 200


def test_a_route_checks_its_caller_where_no_middleware_has() -> None:
    app = FastAPI()
    app.get("/one", dependencies=[requires(Scope.READ)])(lambda: "done")
    install(app)
    reader = Caller(kind="token", name="reader", scopes=frozenset({Scope.READ}))
    callers = {401: ANONYMOUS, 403: replace(reader, scopes=frozenset({Scope.SUBMIT})), 200: reader}

    def asked_by(caller: Caller) -> ASGIApp:
        async def acting(scope: Any, receive: Receive, send: Send) -> None:
            with acting_as(caller):
                await app(scope, receive, send)

        return acting

    found = [TestClient(asked_by(caller)).get("/one").status_code for caller in callers.values()]

    assert found == list(callers)
