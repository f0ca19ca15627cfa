"""The documents that replies may cite: stored as passages, searched and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from app.db.queries import passages
from app.db.queries.passages import FoundPassage
from app.services.documents.extraction.errors import (
    BadDocumentName,
    DocumentMissing,
    DocumentTooLarge,
    UnsupportedDocument,
)
from app.services.documents.extraction.plain import decoded
from app.services.documents.extraction.splitting import digest, first_heading, split
from app.services.documents.extraction.text import MAX_TITLE_LENGTH, as_title, normalized_text
from app.services.documents.ranking import ranked
from app.services.documents.search_form import indexed_form
from app.services.integrations.language.questions import asked_fact
from app.services.integrations.language.scripts import is_piece
from app.services.integrations.language.words import content_words, variants
from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound

MAX_BYTES: Final = 10 * 1024 * 1024
"""The largest text that is ingested directly."""
MAX_ID_LENGTH: Final = 200
MAX_RESULTS: Final = 50
MAX_QUESTION_WORDS: Final = 50
CANDIDATES: Final = 20
"""The number of passages that the index returns, to be ranked by their sentences."""
TEXT_SUFFIXES: Final = frozenset({".md", ".markdown", ".txt"})
"""Suffixes of text files; `Documents.ingest_file` reads all others."""


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The result of an ingestion."""

    document_id: str
    title: str
    passage_count: int
    changed: bool
    """False: the same text was stored already, and nothing was changed."""
    problems: tuple[str, ...] = ()
    """What is missing from the text, and why."""


class PassageStore:
    """Stores documents and finds the passages that match a question, on SQLite and PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ingest(self, *, document_id: str, title: str, text: str) -> IngestResult:
        """Store a document, replacing an older one; readers see either all old or all new passages.

        Raises BadDocumentName, DocumentEmpty, NotText or DocumentTooLarge.
        """
        text = normalized_text(document_id, text, max_bytes=MAX_BYTES)
        pieces = split(text)
        with self._database.transaction() as session:
            return self.store(session, document_id=document_id, title=title, digest=digest(title, text), pieces=pieces)

    def store(
        self, session: Session, *, document_id: str, title: str, digest: str, pieces: Sequence[str]
    ) -> IngestResult:
        """Store a document that is split already, in the caller's transaction.

        Raises BadDocumentName.
        """
        _check_names(document_id, title)
        document = passages.lock_document(session, document_id, title=title, now=clock.now())
        changed = document.digest != digest
        if changed:
            document.title, document.digest, document.updated_at = title, digest, clock.now()
            passages.replace_passages(session, document, [(piece, indexed_form(piece)) for piece in pieces])
        return IngestResult(document_id, title, document.passage_count, changed)

    def ingest_file(self, path: Path, *, document_id: str | None = None) -> IngestResult:
        """Store a Markdown or text file. Its id is the file's name, its title the first heading or the file's name.

        Raises DocumentMissing, UnsupportedDocument, and the errors of `ingest`.
        """
        problems: list[str] = []
        text = decoded(path.name, _read(path), declared=None, tell=problems.append)
        result = self.ingest(document_id=document_id or path.name, title=_title(path, text), text=text)
        return replace(result, problems=tuple(problems))

    def search(self, text: str, *, limit: int = 5) -> list[FoundPassage]:
        """The passages that match a question, best first, at most 50; none for a question without content words.

        Any text is allowed: only its first 50 distinct content words count, and nothing is parsed as query syntax.
        """
        limit = max(1, min(limit, MAX_RESULTS))
        words = content_words(text, limit=MAX_QUESTION_WORDS)
        pieces = {word.key for word in words if is_piece(word.text)}
        with self._database.reading() as session:
            terms = passages.weigh(session, {word.key: variants(word) for word in words}, uncertain=pieces)
            found = passages.search(session, list(terms.values()), limit=max(limit, CANDIDATES))
        weights = {key: term.weight for key, term in terms.items()}
        return ranked(found, weights, asked=asked_fact(text))[:limit]

    def titles(self, *, limit: int = 5) -> list[str]:
        """Titles of documents that can be cited, those stored last first, each once."""
        with self._database.reading() as session:
            return passages.titles(session, limit=limit)

    def delete(self, document_id: str) -> None:
        """Delete a document and its passages. Raises NotFound."""
        with self._database.transaction() as session:
            if not passages.delete_document(session, document_id):
                raise NotFound("document", document_id)
            record(session, "document.delete", ("document", document_id))


def _check_names(document_id: str, title: str) -> None:
    for name, max_length in ((document_id, MAX_ID_LENGTH), (title, MAX_TITLE_LENGTH)):
        if not name.strip() or len(name) > max_length or not name.isprintable():
            raise BadDocumentName(document_id[:MAX_ID_LENGTH])


def _read(path: Path) -> bytes:
    if path.suffix.lower() not in TEXT_SUFFIXES:
        raise UnsupportedDocument(path.name)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentMissing(path.name, error.strerror or "") from error
    if len(content) > MAX_BYTES:
        raise DocumentTooLarge(path.name, f"at most {MAX_BYTES // 1024**2} MB")
    return content


def _title(path: Path, text: str) -> str:
    """The first heading, or the file's name without its suffix."""
    return as_title(first_heading(text)) or path.stem
