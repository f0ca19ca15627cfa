"""Reads PDF page by page, and the filled fields of forms. Pages that are pictures have no text; there is no OCR here.

A page that cannot be read, or that is a picture among pages with text, is a problem of the document.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final

from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError, WrongPasswordError
from pypdf.generic import DictionaryObject

from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEncrypted,
    DocumentError,
    DocumentTooComplex,
    DocumentWithoutText,
    TooManyPages,
)
from app.services.documents.extraction.pdf_forms import filled_fields, is_placeholder, xfa_form
from app.services.documents.extraction.plain import BROKEN
from app.services.documents.extraction.reading import Source, Text
from app.services.documents.extraction.text import cleaned

TRAILER: Final = b"\ntrailer\n<< /Size %d >>\nstartxref\n0\n%%%%EOF\n"
"""The end of a PDF, which makes pypdf search for its objects."""
NO_END: Final = "its end is missing, and pages or their order may be missing with it"
MAX_UNTOLD_SHARE: Final = 0.2
"""The share of unreadable characters from which a page is left out."""
XFA_HINT: Final = "an XFA form, which only Adobe Reader shows: print it to a PDF, and store that"
MISSING_FORM: Final = "If this message is not eventually replaced by the proper contents of the document"
"""What the page of an XFA form says if the form itself was lost."""
_OBJECT = re.compile(rb"\b(\d{1,7}) \d{1,5} obj\b")
_LOSS = re.compile(r"Impossible to decode|not a dictionary|not a stream|not defined|Error\(")
"""Warnings of pypdf that mean missing text."""


def read(source: Source) -> Text:
    """Read the text of each page, the filled fields, and the title from the file's metadata.

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
    text = Text(source)
    reader = _open(source, text)
    if reader.is_encrypted and not reader.decrypt(""):  # An empty password opens a PDF that anybody may read.
        raise DocumentEncrypted(source.name)
    _count_pages(reader, text)
    if not _add_form_instead_of_pages(reader, text):
        _add_pages(reader, text)
        _add_fields(reader, text)
    if not any(text.parts) and text.problems[:1] == [NO_END]:
        raise DocumentCorrupt(source.name, NO_END)
    if not any(text.parts):
        raise DocumentWithoutText(source.name, next(iter(text.problems), f"{text.pages} pages"))
    text.title = _title(reader)
    return text


def _open(source: Source, text: Text) -> PdfReader:
    """Open the file. One whose end is missing is read without its table of objects, as far as it goes."""
    try:
        return PdfReader(source.file, strict=False)
    except LimitReachedError:
        raise
    except PyPdfError as error:
        source.file.seek(0)
        content = source.file.read()
        last = max((int(number) for number in _OBJECT.findall(content)), default=0)
        try:
            reader = PdfReader(BytesIO(content + TRAILER % (last + 1)), strict=False)
            found = len(reader.pages)
        except PyPdfError:
            raise error from None
        if not found:
            raise
        text.add_problem(NO_END)
        return reader


def _count_pages(reader: PdfReader, text: Text) -> None:
    """Count the pages. The number that the file states is checked first: counting 100,000 pages takes long."""
    tree: Any = reader.root_object["/Pages"]
    stated, name, limit = _stated_count(tree), text.source.name, text.source.limits.pages
    if stated > limit:
        raise TooManyPages(name, f"{stated}, at most {limit}")
    pages = len(reader.pages)
    if pages > limit:
        raise TooManyPages(name, f"{pages}, at most {limit}")
    if not pages:
        raise DocumentWithoutText(name, "no pages")
    if pages < stated:
        text.add_problem(f"it states {stated} pages, but only {pages} can be found")
    text.pages = pages


def _stated_count(tree: Any) -> int:
    try:
        return int(tree.get("/Count", 0))
    except (AttributeError, TypeError, ValueError):
        return 0


def _add_form_instead_of_pages(reader: PdfReader, text: Text) -> bool:
    """Add the text of a dynamic XFA form, whose pages are none of the document. Returns False for every other PDF."""
    name = text.source.name
    try:
        form = xfa_form(reader)
    except MemoryError:
        raise
    except Exception as error:
        if is_placeholder(_first_page(reader)):
            raise DocumentWithoutText(name, f"{XFA_HINT}; its data cannot be read: {error}"[:300]) from error
        text.add_problem(f"its XFA form cannot be read: {error}")
        return False
    if form is None:
        return False
    is_dynamic = form.needs_rendering or is_placeholder(_first_page(reader))
    if is_dynamic and not form.lines:
        raise DocumentWithoutText(name, XFA_HINT)
    if is_dynamic or not form.has_fields:
        for line in form.lines:
            text.add(line)
    return is_dynamic


def _first_page(reader: PdfReader) -> str:
    try:
        return reader.pages[0].extract_text()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  Told when the pages are read.
        return ""


def _add_pages(reader: PdfReader, text: Text) -> None:
    """Add the pages. If none has text, raise the error of the first that cannot be read, or DocumentWithoutText."""
    pictures: list[int] = []
    first_error: Exception | None = None
    for number in range(1, (text.pages or 0) + 1):
        text.source.report(100 * number / max(text.pages or 1, 1), f"extracting: page {number} of {text.pages}")
        try:
            page = reader.pages[number - 1]
            content = _content(page, number, text)
        except (DocumentError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  A broken page may make a parser raise anything.
            first_error = first_error or error
            text.add_problem(f"page {number} cannot be read: {error}")
            continue
        if content is not None:
            text.add(content)
            pictures += [number] if not content and _has_pictures(page) else []
    if first_error is not None and not any(text.parts):
        raise first_error
    if pictures and any(text.parts):
        text.add_problem(f"pictures without text, which need OCR: page {', '.join(map(str, pictures))}")


class _Losses(logging.Handler):
    """Collects what pypdf only logs when it leaves out a part of a page."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if _LOSS.search(message):
            self.told[message] = None


def _content(page: PageObject, number: int, text: Text) -> str | None:
    """The text and the remarks of a page; None if its characters cannot be told. Raises what pypdf raises."""
    with _losses() as losses:
        content = "\n\n".join(filter(None, (cleaned(page.extract_text()).strip(), *_remarks(page))))
    if MISSING_FORM in " ".join(content[:1000].split()):
        raise DocumentWithoutText(text.source.name, XFA_HINT)
    for told in losses:
        text.add_problem(f"page {number} may lack text: {told}")
    if BROKEN in content:
        text.add_problem(f"page {number} has characters that its font does not tell")
    return content if content.count(BROKEN) <= MAX_UNTOLD_SHARE * len(content) else None


@contextmanager
def _losses() -> Generator[dict[str, None]]:
    """The losses while the block runs."""
    log, handler = logging.getLogger("pypdf"), _Losses()
    log.addHandler(handler)
    try:
        yield handler.told
    finally:
        log.removeHandler(handler)


def _remarks(page: PageObject) -> list[str]:
    """The texts that somebody typed onto a page with a PDF viewer."""
    remarks: list[str] = []
    for reference in page.get("/Annots") or ():
        annotation: Any = reference.get_object()
        if isinstance(annotation, DictionaryObject) and annotation.get("/Subtype") == "/FreeText":
            remarks.append(cleaned(str(annotation.get("/Contents") or "")).strip())
    return remarks


def _has_pictures(page: PageObject) -> bool:
    try:
        resources: Any = page["/Resources"]
        return bool(resources.get_object().get("/XObject"))
    except Exception:  # noqa: BLE001  Broken resources: there is nothing to tell.
        return False


def _add_fields(reader: PdfReader, text: Text) -> None:
    """Add the filled fields of a form after its pages."""
    try:
        lines = filled_fields(reader)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  A broken form may make a parser raise anything.
        text.add_problem(f"its form fields cannot be read: {error}")
        return
    if lines:
        text.add("\n".join(f"- {line}" for line in lines))


def _title(reader: PdfReader) -> str:
    try:
        title: object = reader.metadata.title if reader.metadata else None
    except Exception:  # noqa: BLE001  A broken title must not fail the document.
        return ""
    return cleaned(title) if isinstance(title, str) else ""
