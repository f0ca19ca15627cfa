"""What callers are told of a document that lacks a part; objects that are compressed or in other encodings."""

from __future__ import annotations

import gzip

import pytest

from laneway.schemas.task import TaskState
from tests.fixtures.document_desk import CALLBACK, WARRANTY, DocumentDesk, ended
from tests.fixtures.files import package, paragraph


def test_what_is_missing_from_a_document_is_told_to_callers(desk: DocumentDesk) -> None:
    desk.put("a.docx", package(paragraph("Body."), related=[("styles", "gone.xml")]))
    desk.submit(key="a.docx", callback_url=CALLBACK)
    run = desk.work()

    (problem,) = desk.view().problems
    assert problem.startswith("its styles cannot be read")
    assert run.result is not None
    (callback,) = desk.outbound_webhooks()
    assert run.result["problems"] == callback["data"]["problems"] == [problem]
    desk.submit(key="a.pdf")
    desk.work()
    assert desk.view().problems == []


@pytest.mark.parametrize("members", [1, 3])
def test_an_object_that_is_stored_compressed_is_unpacked(desk: DocumentDesk, members: int) -> None:
    size = len(WARRANTY) // members + 1
    parts = [WARRANTY[start : start + size] for start in range(0, len(WARRANTY), size)]
    desk.put("a.pdf", b"".join(gzip.compress(part) for part in parts) + bytes(7))
    desk.submit(content_type="application/pdf")

    assert desk.work().state == TaskState.COMPLETED
    assert (desk.view().title, desk.view().pages) == ("Warranty", 2)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (gzip.compress(WARRANTY)[:-9], "DocumentCorrupt"),
        (gzip.compress(WARRANTY)[:100] + b"x" * 500, "DocumentCorrupt"),
        (gzip.compress(bytes(100_001)), "DocumentTooLarge"),
        (gzip.compress(gzip.compress(WARRANTY)), "UnsupportedDocument"),
    ],
)
def test_a_compressed_object_that_cannot_be_unpacked_is_refused(desk: DocumentDesk, content: bytes, error: str) -> None:
    desk.put("thing", content)
    desk.submit(key="thing")

    assert ended(desk.work()) == (TaskState.FAILED, error, 1)


def test_the_content_type_names_the_encoding_of_a_text(desk: DocumentDesk) -> None:
    desk.put("a.txt", "Die Größe in Äcker".encode("cp1252"))
    desk.submit(key="a.txt", content_type="text/plain; charset=iso-8859-1")
    desk.work()

    assert desk.texts("Größe") == ["Die Größe in Äcker"]
