"""The API of documents; `tests/app/services/documents/test_documents.py` tests the ingestion itself."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.models import Document
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import UpstreamRefused
from laneway.platform.execution.outcomes import Completed, Raised
from laneway.platform.queues import Priority
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, problem
from tests.fixtures.document_desk import CALLBACK, DocumentDesk
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.files import pdf
from tests.fixtures.platform import Platform
from tests.fixtures.valkey import RunningValkey

PROCESS = "/api/documents/process"
TASK_FIGURES = ("pending_tasks", "processing_tasks", "total_completed", "total_failed", "dead_letter_tasks")


def body(document: str = "doc-1", **more: Any) -> dict[str, Any]:
    """A request as a client sends it."""
    return {
        "document_id": document,
        "user_id": "u-1",
        "file_name": "a.pdf",
        "r2_key": "in/a.pdf",
        "content_type": "application/pdf",
        "file_size": 1234,
        **more,
    }


def test_a_document_is_accepted_and_its_task_can_be_followed(api: Api, platform: Platform) -> None:
    answer = api.http.post(PROCESS, json=body())

    assert answer.status_code == 202
    task = answer.json()["task_id"]
    assert answer.json() == {"task_id": task, "document_id": "doc-1", "status": "queued"}
    status = api.http.get(f"/api/documents/task/{task}/status").json()
    assert (status["status"], status["queue"], status["key"]) == ("pending", "documents", "document_id:doc-1")

    desk = DocumentDesk(api.services, platform)
    desk.put("in/a.pdf", pdf("Bells ring.", title="Bells"))
    desk.work()

    assert api.http.get(f"/api/documents/task/{task}/status").json()["progress"] == 100
    document = api.http.get("/api/documents/doc-1").json()
    assert (document["state"], document["passages"], document["title"]) == ("processed", 1, "Bells")
    assert api.http.get("/api/documents").json() == {"documents": [document], "next": None}


@pytest.mark.parametrize(("given", "expected"), [(0, 0), (None, 1), (2, 2), (3, 3), (7, 3), (100, 3)])
def test_a_priority_of_three_and_more_goes_ahead(
    api: Api, platform: Platform, given: int | None, expected: int
) -> None:
    plain = api.http.post(PROCESS, json=body("plain")).json()["task_id"]
    task = api.http.post(PROCESS, json=body() if given is None else body(priority=given)).json()["task_id"]

    assert platform.row(task).priority == Priority(expected)
    assert platform.sent("documents") == ([task, plain] if expected > 1 else [plain, task])


def test_while_the_broker_is_away_a_document_is_accepted_and_kept(api: Api, valkey: RunningValkey) -> None:
    valkey.stop()
    try:
        answer = api.http.post(PROCESS, json=body())
    finally:
        valkey.start()

    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert api.count(Document, TaskRun) == 2
    assert api.services.tasks.outbox.relay() == 1
    assert api.services.tasks.current(answer.json()["task_id"]).state == TaskState.PENDING


def test_a_full_queue_answers_429_and_keeps_nothing(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="1")
    api.http.post(PROCESS, json=body())

    answer = api.http.post(PROCESS, json=body("doc-2"))

    problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert api.count(Document, TaskRun) == 2
    assert api.queued() == 1
    problem(api.http.get("/api/documents/doc-2"), 404)


def test_a_callback_needs_a_destination(api: Api) -> None:
    found = problem(api.http.post(PROCESS, json=body(callback_url=CALLBACK)), 422)

    assert "laneway callbacks register" in found["detail"]
    assert api.count(Document, TaskRun) == 0


def test_a_callback_to_a_destination_is_accepted(api: Api) -> None:
    api.services.destinations.register("callbacks", CALLBACK)

    assert api.http.post(PROCESS, json=body(callback_url=CALLBACK + "?token=hidden")).status_code == 202
    assert api.http.get("/api/documents/doc-1").json()["callback_url"] == CALLBACK


@ONE_DATABASE
@pytest.mark.parametrize(
    "more",
    [
        {"r2_key": "../a"},
        {"r2_key": "/etc/passwd"},
        {"r2_key": ""},
        {"r2_key": "a\0b"},
        {"r2_key": "k" * 1025},
        {"callback_url": "ftp://example.com"},
        {"callback_url": "http://a b"},
        {"callback_url": "https://x/" + "y" * 2000},
        {"document_id": ""},
        {"document_id": "a/b"},
        {"document_id": "a" * 129},
        {"user_id": ""},
        {"user_id": "a\0"},
        {"file_name": ""},
        {"file_name": "n" * 256},
        {"file_size": -1},
        {"file_size": "many"},
        {"file_size": 2**60},
        {"priority": -1},
        {"priority": 101},
        {"priority": True},
        {"priority": "3"},
        {"surprise": 1},
    ],
)
def test_an_invalid_document_request_is_refused(api: Api, more: dict[str, Any]) -> None:
    problem(api.http.post(PROCESS, json=body(**more)), 422)

    assert api.count(Document, TaskRun) == 0


@ONE_DATABASE
@pytest.mark.parametrize("left_out", ["document_id", "user_id", "file_name", "r2_key"])
def test_a_required_field_of_a_document_cannot_be_left_out(api: Api, left_out: str) -> None:
    problem(api.http.post(PROCESS, json={name: value for name, value in body().items() if name != left_out}), 422)


def test_a_task_of_another_kind_is_not_found(api: Api) -> None:
    other = api.services.tasks.submit("cleanup_old_data_task", {}).task_id

    for path in (f"/api/documents/task/{other}/status", "/api/documents/task/none/status"):
        problem(api.http.get(path), 404)
    problem(api.http.post(f"/api/documents/task/{other}/retry"), 404)


def test_a_failed_document_can_be_tried_again_and_a_waiting_one_cannot(api: Api, platform: Platform) -> None:
    task = api.http.post(PROCESS, json=body()).json()["task_id"]
    problem(api.http.post(f"/api/documents/task/{task}/retry"), 409)
    desk = DocumentDesk(api.services, platform)
    desk.work()
    desk.settle()
    assert api.http.get("/api/documents/doc-1").json()["error_type"] == "ObjectMissing"

    assert api.http.post(f"/api/documents/task/{task}/retry").status_code == 202
    assert api.http.get("/api/documents/doc-1").json()["state"] == "queued"


def test_the_queue_and_the_documents_are_counted(api: Api, platform: Platform) -> None:
    for document in ("a", "b", "c"):
        api.http.post(PROCESS, json=body(document))
    DocumentDesk(api.services, platform).work()
    api.services.recorder.catch_up()
    api.services.documents.record_failure(EndedTask(task_id=platform.rows()[0].id, run=1))

    stats = api.http.get("/api/documents/queue/stats").json()

    assert (stats["queue"]["accepted"] + stats["queue"]["pending"], stats["queue"]["lane"], stats["limit"]) == (
        3,
        "medium",
        10_000,
    )
    assert stats["documents"] == {"failed": 1, "queued": 2}
    assert {name: stats[name] for name in TASK_FIGURES} == dict(zip(TASK_FIGURES, (3, 0, 0, 1, 0), strict=True))
    platform.work("documents", Completed({}))
    platform.work("documents", Raised(UpstreamRefused("storage", "forbidden")))
    stats = api.http.get("/api/documents/queue/stats").json()
    assert {name: stats[name] for name in TASK_FIGURES} == dict(zip(TASK_FIGURES, (2, 0, 1, 2, 0), strict=True))


def test_documents_are_listed_by_state_and_user_page_by_page(api: Api) -> None:
    for number in range(5):
        api.http.post(PROCESS, json=body(f"d-{number}", user_id=f"u-{number % 2}"))
    api.services.tasks.cancel(api.http.get("/api/documents/d-0").json()["task_id"])

    def listed(**query: Any) -> list[str]:
        return [one["document_id"] for one in api.http.get("/api/documents", params=query).json()["documents"]]

    assert listed(user_id="u-1") == ["d-1", "d-3"]
    assert listed(limit=2, after="d-1") == ["d-2", "d-3"]
    assert api.http.get("/api/documents", params={"limit": 2}).json()["next"] == "d-1"
    assert api.http.get("/api/documents/d-0").json()["state"] == "cancelled"
    problem(api.http.get("/api/documents", params={"state": "nonsense"}), 422)


def test_a_document_is_deleted_with_its_queued_tasks(api: Api) -> None:
    task = api.http.post(PROCESS, json=body()).json()["task_id"]

    assert api.http.delete("/api/documents/doc-1").status_code == 204
    assert api.http.get(f"/api/documents/task/{task}/status").json()["status"] == "cancelled"
    problem(api.http.get("/api/documents/doc-1"), 404)
    problem(api.http.delete("/api/documents/doc-1"), 404)
    assert api.count(Document) == 0
