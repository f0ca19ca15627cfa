"""PDF, page by page. Pages that are pictures have no text: that takes OCR, which is not done here."""

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
    """The text of each page; the title that the file has for itself.

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
    except Exception as error:  # what a broken file makes of a parser
        raise DocumentCorrupt(source.name, f"{type(error).__name__}: {error}"[:200]) from error


def _read(source: Source) -> Text:
    reader = PdfReader(source.file, strict=False)
    if reader.is_encrypted and not reader.decrypt(""):  # without a password for reading it is open to everybody
        raise DocumentEncrypted(source.name)
    text = Text(source, pages=_page_count(source, reader))
    for number, page in enumerate(reader.pages, 1):
        source.tell(100 * number / max(text.pages or 1, 1), f"extracting: page {number} of {text.pages}")
        text.add(cleaned(page.extract_text()).strip())
    if not any(text.parts):
        raise DocumentWithoutText(source.name, f"{text.pages} pages")
    text.title = _title(reader)
    return text


def _page_count(source: Source, reader: PdfReader) -> int:
    """How many pages it has. What it says itself is looked at first: to count a hundred thousand takes long."""
    root: Any = reader.trailer["/Root"]
    said: Any = root["/Pages"].get("/Count", 0)
    most = source.limits.pages
    for count in (lambda: int(said), lambda: len(reader.pages)):
        if (pages := count()) > most:
            raise TooManyPages(source.name, f"{pages}, at most {most}")
    if not pages:
        raise DocumentWithoutText(source.name, "no pages")
    return pages


def _title(reader: PdfReader) -> str:
    try:
        found: object = reader.metadata.title if reader.metadata else None
    except Exception:  # noqa: BLE001  a title is not worth a failure
        return ""
    return cleaned(found) if isinstance(found, str) else ""
