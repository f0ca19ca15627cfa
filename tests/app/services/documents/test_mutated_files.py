"""Any mutation of a good file ends in text or in a named error: no traceback, and no hang."""

from __future__ import annotations

import random
from time import monotonic

import pytest

from app.services.documents.extraction.errors import DocumentError
from tests.app.services.documents.test_pdf_text import FIELDS, XFA, pages, stream
from tests.app.services.documents.test_word_text import STYLES
from tests.fixtures.files import locked_pdf, package, paragraph, part, pdf, word
from tests.fixtures.reading import read_here

MUTATIONS = 60
"""Mutations of each file."""
SECONDS = 20
"""The most seconds for one of them, on a busy machine; usual are milliseconds."""
NOTE = '<w:r><w:footnoteReference w:id="1"/></w:r>'
FORM = "/AcroForm << /Fields [50 0 R 52 0 R 56 0 R] >>"
GOOD = {
    "plain.docx": package(
        "".join(paragraph(f"Sentence {number}.", NOTE) for number in range(9)) + "<w:tbl><w:tr><w:tc/></w:tr></w:tbl>",
        related=[("footnotes", "footnotes.xml"), ("styles", "styles.xml")],
        parts={
            "word/footnotes.xml": part("footnotes", f'<w:footnote w:id="1">{paragraph("Note.")}</w:footnote>'),
            "word/styles.xml": STYLES,
        },
        title="Terms",
    ),
    "packed.docx": word([("Title", "Terms"), "We send it."], rows=[["Size", "Price"], ["L", "5"]]),
    "pages.pdf": pdf("Two years.", "And more.", "And more still.", title="Warranty"),
    "form.pdf": pages("Form", catalog=FORM, objects=FIELDS),
    "xfa.pdf": pages("Please wait", catalog="/AcroForm << /Fields [] /XFA 50 0 R >>", objects=(stream(XFA),)),
    "open.pdf": locked_pdf("", "Hello"),
    "page.html": "<html><meta charset=gb2312><title>门店</title><p>押金<table><tr><td>三百元</table>".encode("gb18030"),
    "text.md": "# 保修\n\n车架保修期为十一年。\n\n- one\n- two\n".encode(),
}


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with some bytes changed, removed, repeated or moved."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        start = chance.randrange(len(made) or 1)
        end = min(len(made), start + chance.choice((1, 1, 4, 30, 300)))
        piece = bytes(made[start:end])
        made[start:end] = chance.choice((b"", chance.randbytes(len(piece)), piece * 2, b"\0" * len(piece), piece[::-1]))
    return bytes(made[: chance.choice((len(made), len(made), chance.randrange(len(made) + 1)))])


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_read(name: str) -> None:
    found = read_here(name, GOOD[name])

    assert found.text
    assert found.problems == []


@pytest.mark.parametrize("name", GOOD)
def test_a_mutation_ends_in_text_or_a_named_error(name: str) -> None:
    chance = random.Random(name)
    outcomes: set[str] = set()
    for _ in range(MUTATIONS):
        content, started = mutated(GOOD[name], chance), monotonic()
        try:
            outcomes.add("read" if read_here(name, content).text else "nothing")
        except DocumentError as error:
            outcomes.add(type(error).__name__)
            assert "Traceback" not in str(error)
        assert monotonic() - started < SECONDS

    assert "read" in outcomes
    assert "nothing" not in outcomes
