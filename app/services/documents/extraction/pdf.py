"""Reads PDF page by page. Pages that are pictures have no text; there is no OCR here."""

from __future__ import annotations

from typing import Any

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError, WrongPasswordError

from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEncrypted,
    DocumentError,
    DocumentTooComplex,
    DocumentWithoutText,
    TooManyPages,
)
from app.services.documents.extraction.reading import Source, Text
from app.services.documents.extraction.text import cleaned


def read(source: Source) -> Text:
    """Read the text of each page, and the title from the file's metadata.

    Raises DocumentEncrypted, TooManyPages, DocumentWithoutText, DocumentCorrupt, DocumentTooComplex, TextTooLarge.
    """
    try:
        return _read(source)
    except (DocumentError, MemoryError, RecursionError):
        raise
    except (FileNotDecryptedError, WrongPasswordError, DependencyError) as error:
        raise DocumentEncrypted(source.name) from error
    except LimitReachedError as error:
        raise DocumentTooComplex(source.name, "a part of it unpacks to too much") from error
    except PyPdfError as error:
        raise DocumentCorrupt(source.name, str(error)[:200]) from error
    except Exception as error:  # A broken file may make a parser raise anything.
        raise DocumentCorrupt(source.name, f"{type(error).__name__}: {error}"[:200]) from error


def _read(source: Source) -> Text:
    reader = PdfReader(source.file, strict=False)
    if reader.is_encrypted and not reader.decrypt(""):  # An empty password opens a PDF that anybody may read.
        raise DocumentEncrypted(source.name)
    text = Text(source, pages=_page_count(source, reader))
    for number, page in enumerate(reader.pages, 1):
        source.report(100 * number / max(text.pages or 1, 1), f"extracting: page {number} of {text.pages}")
        text.add(cleaned(page.extract_text()).strip())
    if not any(text.parts):
        raise DocumentWithoutText(source.name, f"{text.pages} pages")
    text.title = _title(reader)
    return text


def _page_count(source: Source, reader: PdfReader) -> int:
    """The number of pages. The number that the file states is checked first: counting 100,000 pages takes long."""
    root: Any = reader.trailer["/Root"]
    stated: Any = root["/Pages"].get("/Count", 0)
    limit = source.limits.pages
    for count in (lambda: int(stated), lambda: len(reader.pages)):
        if (pages := count()) > limit:
            raise TooManyPages(source.name, f"{pages}, at most {limit}")
    if not pages:
        raise DocumentWithoutText(source.name, "no pages")
    return pages


def _title(reader: PdfReader) -> str:
    try:
        title: object = reader.metadata.title if reader.metadata else None
    except Exception:  # noqa: BLE001  A broken title must not fail the document.
        return ""
    return cleaned(title) if isinstance(title, str) else ""
