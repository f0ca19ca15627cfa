"""Reads Word documents: paragraphs, headings, lists and tables of the body, in their order, as Markdown.

Headers, footers, comments and text boxes are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import docx
from docx.document import Document
from docx.opc.exceptions import OpcError
from docx.oxml.ns import qn
from docx.table import Table, _Cell  # pyright: ignore[reportPrivateUsage]  a type
from docx.text.paragraph import Paragraph

from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEncrypted,
    DocumentError,
    DocumentTooComplex,
    UnsupportedDocument,
    megabytes,
)
from app.services.documents.extraction.reading import UNPACKED_FACTOR, Source, Text
from app.services.documents.extraction.splitting import first_heading
from app.services.documents.extraction.text import cleaned

MAX_PARTS: Final = 10_000
BODY: Final = "word/document.xml"
WRAPPERS: Final = ("w:sdt", "w:ins", "w:moveTo", "w:smartTag", "w:customXml")
"""Elements around text that python-docx skips together with their content."""
_ENCRYPTED = 0x1
"""The flag of an encrypted zip entry (APPNOTE 4.4.4)."""
_HEADING = re.compile(r"heading ([1-9])$", re.IGNORECASE)


def read(source: Source) -> Text:
    """Read the text of the body.

    Raises UnsupportedDocument for other archives, DocumentEncrypted, DocumentCorrupt, DocumentTooComplex, TextTooLarge.
    """
    try:
        _check_archive(source)
        source.report(20, "extracting")
        return _read(source, docx.Document(source.file))
    except (DocumentError, MemoryError, RecursionError):
        raise
    except (BadZipFile, OpcError, KeyError, SyntaxError, ValueError) as error:
        raise DocumentCorrupt(source.name, str(error)[:200]) from error
    except Exception as error:  # A broken file may make a parser raise anything.
        raise DocumentCorrupt(source.name, f"{type(error).__name__}: {error}"[:200]) from error


def _check_archive(source: Source) -> None:
    """Check the archive's directory: it states the unpacked size of each part, and no part is read beyond that."""
    with ZipFile(source.file) as archive:
        parts = archive.infolist()
    if len(parts) > MAX_PARTS:
        raise DocumentTooComplex(source.name, f"{len(parts)} parts")
    unpacked, limit = sum(part.file_size for part in parts), UNPACKED_FACTOR * source.limits.file_bytes
    if unpacked > limit:
        raise DocumentTooComplex(source.name, f"it unpacks to {megabytes(unpacked)}, at most {megabytes(limit)}")
    if BODY not in {part.filename for part in parts}:
        raise UnsupportedDocument(source.name, "it is a zip archive but not a Word document")
    if any(part.flag_bits & _ENCRYPTED for part in parts):
        raise DocumentEncrypted(source.name)
    source.file.seek(0)


def _read(source: Source, document: Document) -> Text:
    text = Text(source)
    _unwrap(document.element.body)  # pyright: ignore[reportUnknownMemberType]
    styles = {style.style_id: style.name or "" for style in document.styles}
    for item in document.iter_inner_content():
        for part in _table(item) if isinstance(item, Table) else _paragraph(item, styles):
            text.add(part)
    text.title = cleaned(document.core_properties.title) or first_heading(text.whole()[:100_000])
    return text


def _paragraph(paragraph: Paragraph, styles: dict[str, str]) -> Iterator[str]:
    content = cleaned(paragraph.text).strip()
    if not content:
        return
    style = styles.get(paragraph._p.style or "", "")  # pyright: ignore[reportPrivateUsage]  the style's id, without a search
    heading = _HEADING.match(style)
    if heading or style == "Title":
        yield f"{'#' * min(int(heading[1]) if heading else 1, 6)} {' '.join(content.split())}"
    else:
        yield f"- {content}" if style.startswith("List") else content


def _table(table: Table) -> Iterator[str]:
    """One paragraph per row, cells separated by `|`; a merged cell appears once."""
    for row in table.rows:
        cells = {cell._tc: cell for cell in row.cells}.values()  # pyright: ignore[reportPrivateUsage]  its identity
        content = " | ".join(text for text in map(_cell, cells) if text)
        if content:
            yield content


def _cell(cell: _Cell) -> str:
    """The cell's text in one line, including nested tables."""
    parts = (" ".join(_table(item)) if isinstance(item, Table) else item.text for item in cell.iter_inner_content())
    return " ".join(cleaned(" ".join(parts)).split())


def _unwrap(body: Any) -> None:
    """Replace form controls and inserted or moved parts by their content, so that python-docx reads it."""
    for wrapper in list(body.iter(*(qn(name) for name in WRAPPERS))):
        content = wrapper.find(qn("w:sdtContent")) if wrapper.tag == qn("w:sdt") else wrapper
        for child in list(content if content is not None else ()):
            wrapper.addprevious(child)
        wrapper.getparent().remove(wrapper)
