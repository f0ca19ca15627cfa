"""Documents through real processes: an S3 service, the API, a worker, and a receiver of callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from standardwebhooks.webhooks import Webhook

from laneway.schemas.task import TaskState
from tests.fixtures.files import pdf
from tests.fixtures.http_peer import HttpPeer
from tests.fixtures.receiving import register_receiver
from tests.fixtures.s3 import S3Server
from tests.fixtures.site import Node, Site, running_site
from tests.fixtures.waiting import wait_until

BUCKET = "documents"
QUEUES = "conversations,webhooks,documents"
WARRANTY = pdf(
    "The warranty on every frame lasts exactly seven years.", "It ends when the frame is sold.", title="Warranty"
)
SLOW = pdf(*["These many words keep the reader busy for a while. " * 60] * 800, title="Slow")


@pytest.fixture(scope="module")
def office(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    s3_server.put(BUCKET, **{"in/warranty.pdf": WARRANTY, "in/corrupt.pdf": WARRANTY[:400], "in/slow.pdf": SLOW})
    folder = tmp_path_factory.mktemp("documents")
    with running_site(folder, OUTBOUND_ALLOW_PRIVATE="true", **s3_server.settings(BUCKET, "in")) as site:
        site.api()
        yield site


SECRETS: dict[int, str] = {}
"""Port of a receiver → the secret of its destination."""


@pytest.fixture
def receiver(office: Site) -> Iterator[HttpPeer]:
    with HttpPeer() as peer:
        SECRETS[peer.port] = register_receiver(office.services.destinations, peer.url)
        yield peer


@pytest.fixture(scope="module")
def worker(office: Site) -> Node:
    """One worker for all tests; the last test kills it."""
    return office.worker("docs", queues=QUEUES)


def submit(office: Site, document: str, key: str, receiver: HttpPeer) -> str:
    answer = office.post(
        "/api/documents/process",
        {
            "document_id": document,
            "user_id": "u-1",
            "file_name": key,
            "r2_key": key,
            "content_type": "application/pdf",
            "callback_url": f"{receiver.url}/hook",
            "priority": 3,
        },
    )
    assert answer["status"] == "queued"
    return answer["task_id"]


def received(receiver: HttpPeer) -> dict[str, Any]:
    """The only callback that arrived; its signature is verified."""
    (asked,) = wait_until(lambda: receiver.requests, seconds=20)
    headers = {name: value for name, value in asked.headers.items() if name.startswith("webhook-")}
    Webhook(SECRETS[receiver.port]).verify(asked.body, headers)
    return asked.json()


def test_a_processed_pdf_is_cited_in_a_reply_and_the_sender_receives_a_callback(
    office: Site, worker: Node, receiver: HttpPeer
) -> None:
    task = submit(office, "warranty", "warranty.pdf", receiver)

    assert office.until(task).state == TaskState.COMPLETED
    callback = received(receiver)
    assert (callback["type"], callback["data"]["task_id"]) == ("document.processed", task)
    assert (callback["data"]["document_id"], callback["data"]["pages"]) == ("warranty", 2)
    question = {
        "conversation_id": "c-1",
        "message": "How long does the warranty on a frame last?",
        "async_processing": False,
    }
    reply = office.post("/conversations/message", question)
    assert "seven years" in reply["response"]
    assert reply["sources"][0]["document_id"] == "warranty"


def test_a_corrupt_file_fails_at_once_and_the_sender_receives_a_callback(
    office: Site, worker: Node, receiver: HttpPeer
) -> None:
    task = submit(office, "corrupt", "corrupt.pdf", receiver)

    run = office.until(task)
    assert (run.state, run.error_type, run.attempts) == (TaskState.FAILED, "DocumentCorrupt", 1)
    callback = received(receiver)
    assert (callback["type"], callback["data"]["error"]["type"]) == ("document.failed", "DocumentCorrupt")
    assert office.get("/api/documents/corrupt")["state"] == "failed"


def test_a_worker_killed_while_it_reads_leaves_no_process_and_the_document_is_processed_once(
    office: Site, worker: Node, receiver: HttpPeer
) -> None:
    task = submit(office, "slow", "slow.pdf", receiver)
    (reader,) = wait_until(lambda: readers(worker), seconds=20)
    for process in {worker.process, *worker.children()} - {reader}:
        process.kill()

    wait_until(lambda: not reader.is_running() or reader.status() == psutil.STATUS_ZOMBIE, seconds=5)
    other = office.worker("other", queues=QUEUES)
    run = office.until(task, seconds=60)

    assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
    assert received(receiver)["type"] == "document.processed"
    document = office.get("/api/documents/slow")
    assert (document["state"], document["pages"]) == ("processed", 800)
    assert other.stop() == 0
    assert len(receiver.requests) == 1


def readers(worker: Node) -> list[psutil.Process]:
    """The processes that read documents for a worker."""
    return [child for child in worker.children() if "app.services.documents.extraction" in child.cmdline()]
