"""Errors of documents. All are permanent: the same file would fail the same way."""

from __future__ import annotations

from typing import Final

from laneway.platform.errors import PermanentError

SUPPORTED: Final = "PDF, Word (.docx), HTML, Markdown and plain text"


class DocumentError(PermanentError):
    """A document cannot be ingested."""

    title, reason = "Document refused", "it cannot be ingested"

    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"Document {self.name!r}: {self.reason}" + (f" ({self.detail})." if self.detail else ".")


class DocumentMissing(DocumentError):
    """The file does not exist or cannot be opened."""

    status, title, reason = 404, "Document missing", "the file does not exist or cannot be read"


class DocumentEmpty(DocumentError):
    """The document is empty."""

    title, reason = "Document empty", "it has no text"


class DocumentWithoutText(DocumentError):
    """The document can be read but has no text: scanned pages, for example."""

    title, reason = "Document without text", "it has no text; a scanned document needs OCR first"


class NotText(DocumentError):
    """The content is not text in UTF-8."""

    status, title, reason = 415, "Not a text", "its content is not text in UTF-8"


class DocumentTooLarge(DocumentError):
    """The file is larger than allowed."""

    status, title, reason = 413, "Document too large", "the file is larger than allowed"


class TextTooLarge(DocumentTooLarge):
    """The text of the document is larger than allowed."""

    title, reason = "Text too large", "it has more text than allowed"


class TooManyPages(DocumentError):
    """The document has more pages than allowed."""

    status, title, reason = 413, "Too many pages", "it has more pages than allowed"


class UnsupportedDocument(DocumentError):
    """The file is of an unsupported kind."""

    status, title, reason = 415, "Unsupported document", f"only {SUPPORTED} are supported"


class DocumentTypeMismatch(DocumentError):
    """The content of the file is not of the claimed type."""

    status, title, reason = 415, "Document type mismatch", "its content is not of the claimed type"


class DocumentEncrypted(DocumentError):
    """The document needs a password."""

    title, reason = "Document encrypted", "it is encrypted; store it without a password"


class DocumentCorrupt(DocumentError):
    """The document is broken or incomplete."""

    title, reason = "Document corrupt", "it is broken or incomplete"


class DocumentTooComplex(DocumentError):
    """Reading the document exceeds the limits of memory or time: a bomb, nested too deeply, or really that large."""

    title, reason = "Document too complex", "reading it exceeds the limits of memory or time"


class BadDocumentName(DocumentError):
    """The id or title is empty, too long, or has control characters."""

    title, reason = "Bad document name", "ids have 1 to 200 and titles 1 to 300 printable characters"


BY_NAME: Final[dict[str, type[DocumentError]]] = {
    kind.__name__: kind
    for kind in (
        DocumentMissing,
        DocumentEmpty,
        DocumentWithoutText,
        NotText,
        DocumentTooLarge,
        TextTooLarge,
        TooManyPages,
        UnsupportedDocument,
        DocumentTypeMismatch,
        DocumentEncrypted,
        DocumentCorrupt,
        DocumentTooComplex,
    )
}
"""The errors that the reading process reports by name."""


def megabytes(number: float) -> str:
    """A number of bytes as text in MB."""
    size = number / 1_048_576
    return f"{size:.0f} MB" if size >= 10 else f"{size:.2g} MB"
