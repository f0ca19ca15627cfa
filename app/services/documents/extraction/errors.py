"""What can be wrong with a document. Each is permanent: the same file would fail the same way."""

from __future__ import annotations

from typing import Final

from laneway.platform.errors import PermanentError

SUPPORTED: Final = "PDF, Word (.docx), HTML, Markdown and plain text"


class DocumentError(PermanentError):
    """A document cannot be taken in."""

    title, reason = "Document refused", "it cannot be taken in"

    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"Document {self.name!r}: {self.reason}" + (f" ({self.detail})." if self.detail else ".")


class DocumentMissing(DocumentError):
    """There is no such file or object, or it cannot be opened."""

    status, title, reason = 404, "Document missing", "there is no file that can be read"


class DocumentEmpty(DocumentError):
    """There is nothing in it."""

    title, reason = "Document empty", "it has no text"


class DocumentWithoutText(DocumentError):
    """It can be read, and holds no text: scanned pages, for example."""

    title, reason = "Document without text", "no text can be read in it; a scanned document needs OCR first"


class NotText(DocumentError):
    """The content is not text in UTF-8."""

    status, title, reason = 415, "Not a text", "its content is not text in UTF-8"


class DocumentTooLarge(DocumentError):
    """The file has more bytes than are taken."""

    status, title, reason = 413, "Document too large", "the file is larger than is taken"


class TextTooLarge(DocumentTooLarge):
    """The file may pass, its text is more than is kept of one document."""

    title, reason = "Text too large", "it has more text than is taken"


class TooManyPages(DocumentError):
    """It has more pages than are read."""

    status, title, reason = 413, "Too many pages", "it has more pages than are read"


class UnsupportedDocument(DocumentError):
    """The file is of a kind that is not read here."""

    status, title, reason = 415, "Unsupported document", f"only {SUPPORTED} are read"


class DocumentTypeMismatch(DocumentError):
    """The file is not what it is said to be."""

    status, title, reason = 415, "Document type mismatch", "it is not what it is said to be"


class DocumentEncrypted(DocumentError):
    """It needs a password."""

    title, reason = "Document encrypted", "it is encrypted; store it without a password"


class DocumentCorrupt(DocumentError):
    """It is broken, or cut off."""

    title, reason = "Document corrupt", "it is broken or incomplete"


class DocumentTooComplex(DocumentError):
    """Reading it takes more memory or time than one document may take: a bomb, nested too deeply, or just so large."""

    title, reason = "Document too complex", "to read it takes more than one document may take"


class BadDocumentName(DocumentError):
    """Its id or title is empty, too long, or has control characters."""

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
"""What a reading process may say by name."""


def megabytes(number: float) -> str:
    """A number of bytes for people."""
    size = number / 1_048_576
    return f"{size:.0f} MB" if size >= 10 else f"{size:.2g} MB"
