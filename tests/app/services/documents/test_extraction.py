"""Every kind of file becomes normalized text; hostile files raise named errors in bounded time and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import BinaryIO

import psutil
import pytest

from app.core.settings import ROOT
from app.services.documents.extraction import errors
from app.services.documents.extraction.kinds import Kind, claimed_kind
from app.services.documents.extraction.reading import Limits, Report
from app.services.documents.extraction.runner import Extracted, ExtractionLost, ExtractionStalled, extract
from laneway.platform.errors import PlatformError
from laneway.platform.settings import ChildSettings
from tests.fixtures import files
from tests.fixtures.waiting import wait_until

MB = 1024 * 1024
LIMITS = Limits(file_bytes=200 * MB, text_bytes=10 * MB, pages=500, seconds=30, memory_bytes=768 * MB)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def read(
    name: str,
    content: bytes,
    *,
    content_type: str | None = None,
    limits: Limits = LIMITS,
    told: list[str] | None = None,
) -> Extracted:
    """Read a file in a process of its own, as the worker does."""

    def report(_percent: float, message: str) -> None:
        if told is not None:
            told.append(message)

    with tempfile.TemporaryFile() as file:
        file.write(content)
        return extract(
            file,
            name=name,
            claimed=claimed_kind(content_type, name),
            limits=limits,
            folder=Path(tempfile.gettempdir()),
            report=report,
            children=ChildSettings(),
        )


def test_a_pdf_is_read_page_by_page_with_its_own_title() -> None:
    told: list[str] = []
    found = read("a.pdf", files.pdf("Two years.", "And (really) more.", title="Warranty"), told=told)

    assert (found.kind, found.title, found.pages) == (Kind.PDF, "Warranty", 2)
    assert found.passages == ["Two years.\n\nAnd (really) more."]
    assert told[0] == "detecting the type"


def test_a_word_document_becomes_markdown() -> None:
    paragraphs = [("Title", "Terms"), ("Heading 2", "Delivery"), "We send\tit.", ("List Bullet", "bike")]
    found = read("a.docx", files.word(paragraphs, rows=[["Size", "Price"], ["L", "5"]]))

    assert (found.kind, found.title, found.pages) == (Kind.DOCX, "Terms", None)
    text = "\n\n".join(found.passages)
    assert text == "# Terms\n\n## Delivery\n\nWe send\tit.\n\n- bike\n\nSize | Price\n\nL | 5"


def test_equal_cells_of_a_row_are_all_kept_and_a_merged_cell_appears_once() -> None:
    cell = "<w:tc>{0}<w:p><w:r><w:t>{1}</w:t></w:r></w:p></w:tc>"
    wide = cell.format('<w:tcPr><w:gridSpan w:val="2"/></w:tcPr>', "both")
    row = "<w:tr>" + "".join(cell.format("", text) for text in ("Yes", "Yes", "No")) + "</w:tr>"
    table = f"<w:tbl><w:tblPr/><w:tblGrid/>{row}<w:tr>{wide}{cell.format('', 'one')}</w:tr></w:tbl>"
    inner = f"<w:tbl><w:tblPr/><w:tblGrid/><w:tr><w:tc>{table}<w:p/></w:tc></w:tr></w:tbl>"

    assert read("a.docx", files.word_with(table)).passages == ["Yes | Yes | No\n\nboth | one"]
    assert read("a.docx", files.word_with(inner)).passages == ["Yes | Yes | No both | one"]


def test_the_text_of_forms_and_of_tracked_changes_is_read() -> None:
    def run(text: str) -> str:
        return f"<w:r><w:t>{text}</w:t></w:r>"

    inner = f"<w:sdt><w:sdtContent><w:p>{run('Inner.')}</w:p></w:sdtContent></w:sdt>"
    form = f"<w:sdt><w:sdtPr/><w:sdtContent><w:p>{run('Block.')}</w:p>{inner}</w:sdtContent></w:sdt>"
    changed = f"<w:ins>{run('New, ')}</w:ins><w:del><w:r><w:delText>Old</w:delText></w:r></w:del>"
    control = f"<w:smartTag>{run('and ')}</w:smartTag><w:sdt><w:sdtContent>{run('last.')}</w:sdtContent></w:sdt>"
    body = f"{form}<w:p>{changed}{control}</w:p><w:sdt><w:sdtPr/></w:sdt>"

    assert read("a.docx", files.word_with(body)).passages == ["Block.\n\nInner.\n\nNew, and last."]


def test_a_page_becomes_markdown_without_scripts_and_navigation() -> None:
    page = """<!doctype html><html><head><title>Our terms &amp; rest</title><style>p{}</style></head><body>
        <nav>Menu</nav><h1>Delivery</h1><p>By <b>bike</b>.<script>steal()</script>
        <table><tr><th>Size<th>Price<tr><td>L<td>5</table></body></html>"""
    found = read("a.html", page.encode())

    assert found.kind is Kind.HTML
    assert found.title == "Our terms & rest"
    text = "\n".join(found.passages)
    assert "# Delivery" in text
    assert "By **bike**." in text
    assert "| L | 5 |" in text
    assert "steal" not in text
    assert "Menu" not in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfGr\xc3\xb6\xc3\x9fe", "Größe"),
        ("Größe 🚲".encode("utf-16"), "Größe 🚲"),
        ("Größe 🚲".encode("utf-32"), "Größe 🚲"),
        (b"a\r\nb\rc", "a\nb\nc"),
        (b"MZ is a prefix, and %PDF- too", "MZ is a prefix, and %PDF- too"),
    ],
)
def test_plain_text_is_decoded_by_its_byte_order_mark_or_as_utf8(content: bytes, expected: str) -> None:
    assert read("a.txt", content).passages == [expected]


@pytest.mark.parametrize(
    "declared", ['<meta charset="iso-8859-1">', '<meta http-equiv=a content="text/html; charset=cp1252">']
)
def test_a_page_is_decoded_by_its_declared_encoding(declared: str) -> None:
    assert read("a.html", f"{declared}<p>Größe „5“".encode("cp1252")).passages == ["Größe „5“"]


def test_a_text_that_is_too_large_in_normal_form_is_refused() -> None:
    with pytest.raises(errors.TextTooLarge):
        read("a.txt", "\N{MUSICAL SYMBOL SIXTEENTH NOTE}".encode() * 900, limits=replace(LIMITS, text_bytes=4000))


def test_the_content_decides_the_kind_if_none_is_claimed() -> None:
    content_type = "application/octet-stream"

    assert read("thing", files.pdf("Hello"), content_type=content_type).kind is Kind.PDF
    assert read("thing", files.word(["Hello"]), content_type=content_type).kind is Kind.DOCX
    assert read("thing", b" <!DOCTYPE html><p>Hello").kind is Kind.HTML
    assert read("thing", b"Hello").kind is Kind.PLAIN
    assert read("thing.md", b"# Hello", content_type="").title == "Hello"


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_a_pdf_that_anybody_may_open_is_read_and_one_with_a_password_is_not(algorithm: str) -> None:
    assert read("open.pdf", files.locked_pdf("", "Hello", algorithm=algorithm)).passages == ["Hello"]
    with pytest.raises(errors.DocumentEncrypted):
        read("locked.pdf", files.locked_pdf("secret", "Hello", algorithm=algorithm))


def test_unwanted_characters_of_a_font_are_removed() -> None:
    broken = files.word_with("<w:p><w:r><w:t>ab&#x9F;c</w:t></w:r></w:p>")

    assert read("a.docx", broken).passages == ["abc"]


SPAN = '<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val="2000000000"/></w:tcPr><w:p/></w:tc></w:tr></w:tbl>'
BIG = "<w:p><w:r><w:t>hello</w:t></w:r></w:p>" * (MB // 2)

HOSTILE: list[tuple[str, Callable[[], bytes], type[errors.DocumentError]]] = [
    ("empty.pdf", lambda: b"", errors.DocumentEmpty),
    ("blank.md", lambda: b" \n\t\n", errors.DocumentEmpty),
    ("scanned.pdf", lambda: files.pdf("", ""), errors.DocumentWithoutText),
    ("no-pages.pdf", files.pdf, errors.DocumentWithoutText),
    ("blank.docx", lambda: files.word([""]), errors.DocumentWithoutText),
    ("nul.txt", lambda: b"a\0b", errors.NotText),
    ("surrogate.txt", lambda: b"a\xed\xa0\x80b", errors.NotText),
    ("latin.txt", lambda: "Größe".encode("latin-1"), errors.NotText),
    ("declared.html", lambda: "<meta charset=euc-jp><p>Größe".encode("cp1252"), errors.NotText),
    ("binary.txt", lambda: bytes(range(1, 9)) * 100, errors.NotText),
    ("random.md", lambda: os.urandom(5000) + b"\0", errors.NotText),
    ("picture.png.pdf", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), errors.UnsupportedDocument),
    ("spans.docx", lambda: files.word_with(SPAN), errors.DocumentWithoutText),
    ("sheet.docx", lambda: files.archive(**{"xl/workbook.xml": b"<x/>"}), errors.UnsupportedDocument),
    ("letter.rtf", lambda: b"{\\rtf1 Hello}", errors.UnsupportedDocument),
    ("old.doc", lambda: OLE, errors.UnsupportedDocument),
    ("text.pdf", lambda: b"Hello", errors.DocumentTypeMismatch),
    ("word.pdf", lambda: files.word(["x"]), errors.DocumentTypeMismatch),
    ("pdf.txt", lambda: files.pdf("x"), errors.DocumentTypeMismatch),
    ("locked.docx", lambda: OLE + "EncryptedPackage".encode("utf-16-le"), errors.DocumentEncrypted),
    ("junk.pdf", lambda: os.urandom(500) + b"\0\xff", errors.DocumentCorrupt),
    ("cut.pdf", lambda: files.pdf("Hello")[:200], errors.DocumentCorrupt),
    ("cut.docx", lambda: files.word(["Hello"])[:2000], errors.DocumentCorrupt),
    ("broken.docx", lambda: files.word_with("<w:p>"), errors.DocumentCorrupt),
    ("cyclic.pdf", files.cyclic_pdf, errors.DocumentCorrupt),
    ("nested.pdf", lambda: files.nested_pdf(100_000), errors.DocumentCorrupt),
    ("nested.docx", lambda: files.word_with("<w:p>" * 50_000 + "</w:p>" * 50_000), errors.DocumentCorrupt),
    ("entities.docx", files.entity_bomb, errors.DocumentCorrupt),
    ("nested.html", lambda: b"<div>" * 200_000 + b"x", errors.DocumentTooComplex),
    ("many.pdf", lambda: files.many_pages(100_000), errors.TooManyPages),
    ("large.txt", lambda: b"word " * (2 * MB + 1), errors.TextTooLarge),
]


@pytest.mark.parametrize(("name", "make", "kind"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_an_unreadable_file_raises_its_named_error(
    name: str, make: Callable[[], bytes], kind: type[errors.DocumentError]
) -> None:
    with pytest.raises(kind) as raised:
        read(name, make())

    assert type(raised.value) is kind
    assert not raised.value.retryable
    assert name in str(raised.value)


BOMBS: list[tuple[str, Callable[[], bytes]]] = [
    ("unpacks.docx", lambda: files.word_with("", parts={"word/big.xml": bytes(401 * MB)})),
    ("paragraphs.docx", lambda: files.word_with(BIG)),
    ("memory.html", lambda: b"<p>hello world\n" * (19 * MB // 15)),
]


@pytest.mark.parametrize(("name", "make"), BOMBS, ids=[name for name, _ in BOMBS])
def test_a_bomb_is_stopped_at_the_limit_of_memory(name: str, make: Callable[[], bytes]) -> None:
    content, began = make(), monotonic()
    with pytest.raises((errors.DocumentTooComplex, errors.TextTooLarge)):
        read(name, content, limits=replace(LIMITS, memory_bytes=320 * MB))

    assert monotonic() - began < 60


def test_a_page_that_unpacks_to_much_stays_within_the_memory() -> None:
    with pytest.raises(errors.DocumentError):
        read("bomb.pdf", files.pdf_bomb(200 * MB))


def test_too_much_text_stops_the_reading() -> None:
    with pytest.raises(errors.TextTooLarge):
        read("a.pdf", files.pdf(*["many words " * 20] * 60), limits=replace(LIMITS, text_bytes=10_000))


def test_reading_that_takes_too_long_is_ended() -> None:
    slow, began = files.pdf(*["some words " * 2000] * 400), monotonic()

    with pytest.raises((errors.DocumentTooComplex, ExtractionStalled)):  # ExtractionStalled on a busy machine.
        read("slow.pdf", slow, limits=replace(LIMITS, seconds=1))

    assert monotonic() - began < 10


def test_an_error_of_the_progress_function_ends_the_process() -> None:
    def stop(_percent: float, _message: str) -> None:
        raise KeyboardInterrupt

    with tempfile.TemporaryFile() as file:
        file.write(files.pdf("Hello"))
        with pytest.raises(KeyboardInterrupt):
            _extract_pdf(file, stop)

    assert not _readers()


def _extract_pdf(file: BinaryIO, report: Report) -> None:
    folder = Path(tempfile.gettempdir())
    extract(file, name="a.pdf", claimed=None, limits=LIMITS, folder=folder, report=report, children=ChildSettings())


def _readers() -> list[psutil.Process]:
    """The running processes that read documents."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if "app.services.documents.extraction" in child.cmdline()]


@pytest.mark.parametrize(
    ("number", "kind", "retryable"),
    [
        (signal.SIGKILL, ExtractionLost, True),
        (signal.SIGTERM, ExtractionLost, True),
        (signal.SIGSTOP, ExtractionStalled, True),
        (signal.SIGXCPU, errors.DocumentTooComplex, False),
        (signal.SIGABRT, errors.DocumentTooComplex, False),
        (signal.SIGSEGV, errors.DocumentTooComplex, False),
    ],
)
def test_the_end_of_the_process_decides_whether_a_retry_helps(
    number: signal.Signals, kind: type[PlatformError], *, retryable: bool
) -> None:
    def strike(_percent: float, message: str) -> None:
        if message == "detecting the type":
            (reader,) = wait_until(_readers, seconds=5)
            reader.send_signal(number)

    with tempfile.TemporaryFile() as file:
        file.write(files.pdf(*["some words " * 1000] * 400))
        with pytest.raises(kind) as raised:
            extract(
                file,
                name="a.pdf",
                claimed=None,
                limits=replace(LIMITS, seconds=1),
                folder=Path(tempfile.gettempdir()),
                report=strike,
                children=ChildSettings(),
            )

    assert raised.value.retryable is retryable
    assert not _readers()


def test_a_silent_process_ends_with_its_parent() -> None:
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as target:
        file.write(files.word_with(BIG))
        file.flush()
        job = {
            "name": "a.docx",
            "claimed": None,
            "charset": None,
            "file": file.fileno(),
            "target": target.fileno(),
            "limits": asdict(LIMITS),
            "confinement": {},
        }
        reader = subprocess.Popen(
            [sys.executable, "-m", "app.services.documents.extraction", json.dumps(job)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(file.fileno(), target.fileno()),
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.stdin.close()

        assert reader.wait(2) == 1
        reader.stdout.close()


def test_the_process_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_SECRET_ACCESS_KEY", "hidden")
    seen: list[dict[str, str]] = []

    def look(_percent: float, message: str) -> None:
        if message == "detecting the type":
            seen.extend(reader.environ() for reader in _readers())

    with tempfile.TemporaryFile() as file:
        file.write(files.pdf(*["some words " * 100] * 300))
        _extract_pdf(file, look)

    assert seen
    assert "hidden" not in str(seen)
