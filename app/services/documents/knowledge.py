"""The documents that replies may cite: taken in, split into passages, searched and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from app.db.queries import passages
from app.db.queries.passages import FoundPassage
from app.services.documents.extraction.errors import (
    BadDocumentName,
    DocumentMissing,
    DocumentTooLarge,
    NotText,
    UnsupportedDocument,
)
from app.services.documents.extraction.splitting import digest, first_heading, split
from app.services.documents.extraction.text import MAX_TITLE, checked, fitting_title
from app.services.integrations.text_analysis import content_words
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound

MAX_BYTES: Final = 10 * 1024 * 1024
"""The largest text that is handed in directly."""
MAX_ID: Final = 200
MAX_FOUND: Final = 50
MAX_QUESTION_WORDS: Final = 50
ENDINGS: Final = frozenset({".md", ".markdown", ".txt"})
"""Files that are text already; for others there is `Documents.ingest_file`."""


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of a document that was handed in."""

    document_id: str
    title: str
    passage_count: int
    changed: bool
    """False: the very same text was there already, and nothing was done."""


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A document that replies may cite."""

    document_id: str
    title: str
    passage_count: int
    updated_at: datetime


class Knowledge:
    """Takes documents in and finds the passages that fit a question, on either database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ingest(self, *, document_id: str, title: str, text: str) -> IngestResult:
        """Store a document in the place of what it was before; readers see all of the old or all of the new.

        Raises BadDocumentName, DocumentEmpty, NotText or DocumentTooLarge.
        """
        text = checked(document_id, text, most=MAX_BYTES)
        pieces = split(text)
        with self._database.transaction() as session:
            return self.store(session, document_id=document_id, title=title, digest=digest(title, text), pieces=pieces)

    def store(
        self, session: Session, *, document_id: str, title: str, digest: str, pieces: Sequence[str]
    ) -> IngestResult:
        """The same within a transaction of the caller's, for a text that has been split.

        Raises BadDocumentName.
        """
        _check_names(document_id, title)
        document = passages.lock_document(session, document_id, title=title, now=clock.now())
        changed = document.digest != digest
        if changed:
            document.title, document.digest, document.updated_at = title, digest, clock.now()
            passages.replace_passages(session, document, pieces)
        return IngestResult(document_id, title, document.passage_count, changed)

    def ingest_file(self, path: Path, *, document_id: str | None = None) -> IngestResult:
        """Store a Markdown or text file; its id is the file's name, its title its first heading or its name.

        Raises DocumentMissing, UnsupportedDocument, and what `ingest` raises.
        """
        text = _read(path)
        return self.ingest(document_id=document_id or path.name, title=_title(path, text), text=text)

    def search(self, text: str, *, limit: int = 5) -> list[FoundPassage]:
        """The passages that fit a question, best first, at most 50; none for a question without content words.

        Any text is allowed: only its first 50 distinct content words count, and none of it is query syntax.
        """
        words = content_words(text, limit=MAX_QUESTION_WORDS)
        with self._database.reading() as session:
            return passages.search(session, words, limit=max(1, min(limit, MAX_FOUND)))

    def documents(self, *, limit: int = 1000, after: str | None = None) -> list[KnownDocument]:
        """What has been taken in, by id; `after` is the last id of the page before."""
        with self._database.reading() as session:
            rows = passages.documents(session, limit=limit, after=after)
            return [KnownDocument(row.id, row.title, row.passage_count, row.updated_at) for row in rows]

    def forget(self, document_id: str) -> None:
        """Delete a document and its passages. Raises NotFound."""
        with self._database.transaction() as session:
            if not passages.forget(session, document_id):
                raise NotFound("document", document_id)


def _check_names(document_id: str, title: str) -> None:
    for name, most in ((document_id, MAX_ID), (title, MAX_TITLE)):
        if not name.strip() or len(name) > most or not name.isprintable():
            raise BadDocumentName(document_id[:MAX_ID])


def _read(path: Path) -> str:
    if path.suffix.lower() not in ENDINGS:
        raise UnsupportedDocument(path.name)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentMissing(path.name, error.strerror or "") from error
    if len(content) > MAX_BYTES:
        raise DocumentTooLarge(path.name, f"at most {MAX_BYTES // 1024**2} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotText(path.name) from error


def _title(path: Path, text: str) -> str:
    """The first heading, or the file's name without its ending."""
    return fitting_title(first_heading(text)) or path.stem
