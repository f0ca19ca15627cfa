"""The OpenAPI document: it describes every route, with examples and all errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema_rs import validator_for
from starlette.testclient import TestClient

from app.core.settings import load_settings
from app.main import create_app
from tests.fixtures.platform import Environment

ROUTES = {
    ("post", "/conversations/message"): {202, 200, 409, 410, 413, 422, 429, 500, 503},
    ("post", "/conversations/webhook-interaction"): {202, 200, 409, 410, 413, 422, 429, 500, 503},
    ("get", "/conversations/{conversation_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/conversations/tasks/{task_id}/status"): {200, 404, 410, 413, 422, 429, 500, 503},
    ("get", "/conversations/tasks/queues/status"): {200, 413, 422, 429, 500, 503},
    ("get", "/conversations/tasks/active"): {200, 413, 422, 429, 500, 503},
    ("post", "/conversations/tasks/{task_id}/cancel"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/webhooks/facebook"): {200, 401, 413, 422, 429, 500, 503},
    ("post", "/webhooks/facebook"): {200, 401, 413, 422, 429, 500, 503},
    ("post", "/webhooks/google"): {200, 401, 413, 422, 429, 500, 503},
    ("post", "/webhooks/{source}"): {200, 401, 413, 422, 429, 500, 503},
    ("get", "/webhooks/events"): {200, 413, 422, 429, 500, 503},
    ("get", "/webhooks/events/{id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/webhooks/events/replay"): {200, 413, 422, 429, 500, 503},
    ("post", "/webhooks/events/{id}/replay"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/webhooks/events/discard"): {200, 413, 422, 429, 500, 503},
    ("post", "/webhooks/events/{id}/discard"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/webhooks/statistics"): {200, 413, 422, 429, 500, 503},
    ("get", "/webhooks/mapping"): {200, 413, 422, 429, 500, 503},
    ("post", "/analytics/reports"): {202, 413, 422, 429, 500, 503},
    ("get", "/analytics/reports"): {200, 413, 422, 429, 500, 503},
    ("get", "/analytics/reports/{report_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/tasks"): {202, 200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/tasks/cancel"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/tasks/replay"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/tasks/reprioritise"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/bulk-actions"): {200, 413, 422, 429, 500, 503},
    ("post", "/bulk-actions/{action}/undo"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/retention"): {200, 413, 422, 429, 500, 503},
    ("post", "/tasks/retry"): {200, 413, 422, 429, 500, 503},
    ("post", "/tasks/batch"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/tasks"): {200, 413, 422, 429, 500, 503},
    ("delete", "/tasks"): {200, 413, 422, 429, 500, 503},
    ("get", "/tasks/{task_id}"): {200, 404, 410, 413, 422, 429, 500, 503},
    ("delete", "/tasks/{task_id}"): {204, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/tasks/{task_id}/cancel"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/tasks/{task_id}/retry"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/tasks/{task_id}/why"): {200, 404, 410, 413, 422, 429, 500, 503},
    ("get", "/tasks/{task_id}/attempts"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/tasks/{task_id}/events"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/task-names"): {200, 413, 422, 429, 500, 503},
    ("get", "/workers"): {200, 413, 422, 429, 500, 503},
    ("get", "/alerts"): {200, 413, 422, 429, 500, 503},
    ("post", "/alerts/test"): {200, 409, 413, 422, 429, 500, 503},
    ("get", "/stats"): {200, 413, 422, 429, 500, 503},
    ("get", "/metrics"): {200, 413, 422, 429, 500, 503},
    ("get", "/queues"): {200, 413, 422, 429, 500, 503},
    ("get", "/queues/{queue}/limits"): {200, 404, 413, 422, 429, 500, 503},
    ("put", "/queues/{queue}/limits"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/tasks/{task_id}/signals/{name}"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/events"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/limits"): {200, 413, 422, 429, 500, 503},
    ("get", "/limits/{name}"): {200, 404, 413, 422, 429, 500, 503},
    ("put", "/limits/{name}"): {200, 404, 413, 422, 429, 500, 503},
    ("delete", "/limits/{name}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/api/workflows/{workflow_id}/pause"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/api/workflows/{workflow_id}/resume"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("put", "/api/callbacks/destinations/{name}/events"): {200, 404, 413, 422, 429, 500, 503},
    ("delete", "/api/callbacks/destinations/{name}/events"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/batches"): {200, 413, 422, 429, 500, 503},
    ("post", "/batches"): {200, 201, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/batches/{batch_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/batches/{batch_id}/tasks"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/batches/{batch_id}/close"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/batches/{batch_id}/cancel"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/schedules"): {200, 413, 422, 429, 500, 503},
    ("post", "/schedules"): {201, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/schedules/preview"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/schedules/{key}"): {200, 404, 413, 422, 429, 500, 503},
    ("put", "/schedules/{key}"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("delete", "/schedules/{key}"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/schedules/{key}/pause"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/schedules/{key}/resume"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/schedules/{key}/run"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/queues/flush"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/queues/take-in"): {200, 413, 422, 429, 500, 503},
    ("post", "/cleanup"): {200, 413, 422, 429, 500, 503},
    ("get", "/audit"): {200, 413, 422, 429, 500, 503},
    ("post", "/audit/repair"): {200, 413, 422, 429, 500, 503},
    ("get", "/dead-letters"): {200, 413, 422, 429, 500, 503},
    ("get", "/dead-letters/groups"): {200, 413, 422, 429, 500, 503},
    ("get", "/dead-letters/{task_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/dead-letters/requeue"): {200, 413, 422, 429, 500, 503},
    ("post", "/dead-letters/discard"): {200, 413, 422, 429, 500, 503},
    ("post", "/dead-letters/restore"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/callbacks/deliveries"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/callbacks/deliveries/{delivery_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/deliveries/{delivery_id}/replay"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/replay"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/callbacks/endpoints"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/callbacks/endpoints/{endpoint_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/endpoints/{endpoint_id}/enable"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/endpoints/{endpoint_id}/disable"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/api/callbacks/destinations"): {200, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/destinations"): {201, 409, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/destinations/reencrypt"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/callbacks/destinations/{name}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/api/callbacks/destinations/{name}/rotate"): {200, 404, 413, 422, 429, 500, 503},
    ("delete", "/api/callbacks/destinations/{name}"): {204, 404, 413, 422, 429, 500, 503},
    ("get", "/audit-log"): {200, 413, 422, 429, 500, 503},
    ("get", "/audit-log/verification"): {200, 413, 422, 429, 500, 503},
    ("post", "/api/leads"): {202, 200, 409, 413, 422, 429, 500, 503},
    ("get", "/api/leads"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/leads/{lead_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("put", "/api/leads/{lead_id}"): {200, 201, 404, 409, 413, 422, 429, 500, 503},
    ("delete", "/api/leads/{lead_id}"): {204, 404, 413, 422, 429, 500, 503},
    ("post", "/api/documents/process"): {202, 413, 422, 429, 500, 503},
    ("get", "/api/documents/task/{task_id}/status"): {200, 404, 410, 413, 422, 429, 500, 503},
    ("post", "/api/documents/task/{task_id}/retry"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/api/documents/queue/stats"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/documents"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/documents/{document_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("delete", "/api/documents/{document_id}"): {204, 404, 413, 422, 429, 500, 503},
    ("post", "/api/chat"): {202, 200, 409, 413, 422, 429, 500, 503},
    ("post", "/api/workflows"): {202, 200, 409, 413, 422, 429, 500, 503},
    ("get", "/api/workflows"): {200, 413, 422, 429, 500, 503},
    ("get", "/api/workflows/{workflow_id}"): {200, 404, 413, 422, 429, 500, 503},
    ("post", "/api/workflows/{workflow_id}/cancel"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/api/workflows/{workflow_id}/retry"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/api/workflows/{workflow_id}/signals/{name}"): {202, 404, 409, 413, 422, 429, 500, 503},
    ("get", "/api/workflow-definitions"): {200, 413, 422, 429, 500, 503},
    ("get", "/sessions"): {200, 413, 422, 429, 500, 503},
    ("post", "/sessions/end"): {200, 413, 422, 429, 500, 503},
    ("get", "/tokens"): {200, 413, 422, 429, 500, 503},
    ("post", "/tokens"): {201, 409, 413, 422, 429, 500, 503},
    ("post", "/tokens/{name}/rotate"): {200, 404, 409, 413, 422, 429, 500, 503},
    ("post", "/tokens/{name}/revoke"): {200, 404, 413, 422, 429, 500, 503},
    ("get", "/me"): {200, 413, 422, 429, 500, 503},
    ("get", "/health/live"): {200, 413, 500},
    ("get", "/health/ready"): {200, 413, 422, 429, 500, 503},
}


REFUSALS = {True: {401, 403, 421}, False: {403, 421}}
"""What a route with a scope, or a public one, answers to a request that is refused before it is read."""


@pytest.fixture
def app(environment: Environment) -> FastAPI:
    """The application with default settings."""
    environment()
    return create_app(load_settings())


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    """The document that a caller gets."""
    return TestClient(app, base_url="http://localhost").get("/openapi.json").json()


def test_the_document_has_the_routes_of_the_contract_with_all_their_responses(document: dict[str, Any]) -> None:
    found = {
        (method, path): {int(status) for status in operation["responses"]} - REFUSALS["x-scope" in operation]
        for method, path, operation in _operations(document)
    }

    assert found == ROUTES
    for _, _, operation in _operations(document):
        assert REFUSALS["x-scope" in operation] <= {int(status) for status in operation["responses"]}


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        for status, answer in operation["responses"].items():
            if int(status) < 400 or (path, status) == ("/health/ready", "503"):
                continue
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, (method, path, status)
            assert answer["description"]
            assert ("Retry-After" in answer.get("headers", {})) == (status in ("429", "503"))


def test_every_route_says_what_it_does(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"].strip().endswith("."), (method, path)
        assert operation["tags"], (method, path)


def test_every_request_body_has_a_valid_example(document: dict[str, Any]) -> None:
    seen = 0
    for _, path, operation in _operations(document):
        if "requestBody" not in operation:
            continue
        seen += 1
        content = operation["requestBody"]["content"]["application/json"]
        schema = _resolved(content["schema"], document)
        examples = [content["example"]] if "example" in content else schema["examples"]
        for example in examples:
            validator_for({**schema, "components": document["components"]}).validate(example)
        assert examples, path
    assert seen >= 11


def test_every_part_of_a_path_has_an_example(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                assert parameter["schema"]["examples"], (method, path, parameter["name"])


def test_every_reference_leads_somewhere_and_nothing_of_the_framework_is_left(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert {reference.removeprefix("#/components/schemas/") for reference in _references(document)} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert document["info"]["title"] == "Laneway"
    assert document["info"]["description"]


def test_the_document_names_no_server_and_no_address(document: dict[str, Any]) -> None:
    assert "servers" not in document
    assert "127.0.0.1" not in str(document)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method, path, operation


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    return document["components"]["schemas"][name] if name else schema


def _references(document: dict[str, Any]) -> Iterator[str]:
    yield from re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(document))
