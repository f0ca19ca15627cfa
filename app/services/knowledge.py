"""The documents that replies may cite: taken in, split into passages, searched and forgotten."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from unicodedata import normalize

from app.core import clock
from app.core.errors import NotFound, PermanentError
from app.db.repositories import passages
from app.db.repositories.passages import FoundPassage
from app.db.session import Database
from app.services.text_analysis import content_words

__all__ = ["FoundPassage", "IngestResult", "Knowledge", "KnownDocument", "split"]

MAX_BYTES: Final = 10 * 1024 * 1024
"""The largest document."""
MAX_PASSAGE: Final = 900
"""Characters of a passage, its heading included."""
FULL_PASSAGE: Final = 600
"""A passage that has so many characters ends at the next paragraph,"""
SHORT_PASSAGE: Final = 300
"""and one that has so many at the next heading."""
MAX_HEADING: Final = 120
MAX_ID: Final = 200
MAX_TITLE: Final = 300
MAX_FOUND: Final = 50
MAX_QUESTION_WORDS: Final = 50
ENDINGS: Final = frozenset({".md", ".markdown", ".txt"})

_SPLITTING = "1"
"""Part of a document's digest: raise it when `split` changes, and every document is split again when it comes in."""
_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s*(```|~~~)")
_SENTENCE_START = re.compile(r"(?<=[.!?…])\s+(?=\S)|\n(?=\s*(?:[-*+]|\d+[.)])\s)")


class DocumentError(PermanentError):
    """A document cannot be taken in."""

    title, reason = "Document refused", "it cannot be taken in"

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail

    def __str__(self) -> str:
        return f"Document {self.name!r}: {self.reason}" + (f" ({self.detail})." if self.detail else ".")


class DocumentMissing(DocumentError):
    """There is no such file, or it cannot be opened."""

    status, title, reason = 404, "Document missing", "there is no file that can be read"


class DocumentEmpty(DocumentError):
    """There is no text in it."""

    title, reason = "Document empty", "it has no text"


class NotText(DocumentError):
    """The content is not text in UTF-8."""

    status, title, reason = 415, "Not a text", "its content is not text in UTF-8"


class DocumentTooLarge(DocumentError):
    """It has more than 10 MB."""

    status, title, reason = 413, "Document too large", f"it is larger than {MAX_BYTES // 1024**2} MB"


class UnsupportedDocument(DocumentError):
    """The file is of a kind that is not read here."""

    status, title = 415, "Unsupported document"
    reason = f"only files ending in {', '.join(sorted(ENDINGS))} are read"


class BadDocumentName(DocumentError):
    """Its id or title is empty, too long, or has control characters."""

    title, reason = "Bad document name", f"ids have 1 to {MAX_ID} and titles 1 to {MAX_TITLE} printable characters"


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
        _check_names(document_id, title)
        text = _checked(document_id, text)
        digest = hashlib.sha256("\0".join((_SPLITTING, title, text)).encode()).hexdigest()
        with self._database.transaction() as session:
            document = passages.lock_document(session, document_id, title=title, now=clock.now())
            changed = document.digest != digest
            if changed:
                document.title, document.digest, document.updated_at = title, digest, clock.now()
                passages.replace_passages(session, document, split(text))
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


def split(text: str) -> list[str]:
    """The passages of a text: at most 900 characters, ended at a heading, a paragraph or a sentence where possible.

    Each begins with the Markdown heading that it stands under, as its own paragraph.
    """
    done: list[str] = []
    passage, heading = "", ""
    for is_heading, separator, piece in _pieces(text):
        enough = SHORT_PASSAGE if is_heading else FULL_PASSAGE if separator == "\n\n" else MAX_PASSAGE
        if passage and (len(passage) >= enough or len(passage) + len(separator) + len(piece) > MAX_PASSAGE):
            done.append(passage)
            passage = piece if is_heading or not heading else f"{heading}\n\n{piece}"
        else:
            passage = passage + separator + piece if passage else piece
        heading = piece if is_heading else heading
    return [*done, passage] if passage else done


def _pieces(text: str) -> Iterator[tuple[bool, str, str]]:
    """(is it a heading, what stands before it, piece): headings, and sentences that fit into a passage with one."""
    room = MAX_PASSAGE - MAX_HEADING - len("\n\n")
    for is_heading, block in _blocks(text):
        if is_heading:
            yield True, "\n\n", block[:MAX_HEADING].rstrip()
            continue
        separator = "\n\n"
        for sentence in _sentences(block):
            for piece in _cut(sentence, room):
                yield False, separator, piece
                separator = " "
            separator = "\n" if sentence.endswith("\n") else " "


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """(is it a heading, block): headings and paragraphs; a line that begins with # in a code block is no heading."""
    paragraph: list[str] = []
    fenced = False
    for line in [*text.split("\n"), ""]:
        fenced ^= bool(_FENCE.match(line))
        is_heading = not fenced and bool(_HEADING.match(line))
        if paragraph and (is_heading or not line.strip()):
            yield False, "\n".join(paragraph)
            paragraph = []
        if is_heading:
            yield True, line.rstrip()
        elif line.strip():
            paragraph.append(line.rstrip())
    if paragraph:
        yield False, "\n".join(paragraph)


def _sentences(paragraph: str) -> Iterator[str]:
    """Sentences and list items; one that was followed by a line break keeps it."""
    start = 0
    for gap in _SENTENCE_START.finditer(paragraph):
        yield paragraph[start : gap.start()] + ("\n" if "\n" in gap.group() else "")
        start = gap.end()
    yield paragraph[start:]


def _cut(sentence: str, room: int) -> Iterator[str]:
    """The sentence, or pieces of it between words, and a word without end in pieces of its own."""
    sentence = sentence.strip("\n")
    if len(sentence) <= room:
        yield sentence
        return
    piece = ""
    for word in re.findall(rf"\S{{1,{room}}}", sentence):
        if piece and len(piece) + 1 + len(word) > room:
            yield piece
            piece = ""
        piece = f"{piece} {word}" if piece else word
    yield piece


def _check_names(document_id: str, title: str) -> None:
    for name, most in ((document_id, MAX_ID), (title, MAX_TITLE)):
        if not name.strip() or len(name) > most or not name.isprintable():
            raise BadDocumentName(document_id[:MAX_ID])


def _checked(name: str, text: str) -> str:
    """The text in one normal form, with plain line ends."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise NotText(name, "a broken character") from error
    if size > MAX_BYTES:
        raise DocumentTooLarge(name)
    if "\0" in text:
        raise NotText(name, "a null byte")
    text = normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if not text:
        raise DocumentEmpty(name)
    return text


def _read(path: Path) -> str:
    if path.suffix.lower() not in ENDINGS:
        raise UnsupportedDocument(path.name)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentMissing(path.name, error.strerror or "") from error
    if len(content) > MAX_BYTES:
        raise DocumentTooLarge(path.name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotText(path.name) from error


def _title(path: Path, text: str) -> str:
    """The first heading, or the file's name without its ending."""
    heading = next((block for is_heading, block in _blocks(text) if is_heading), "")
    title = "".join(character for character in heading.lstrip("#").strip() if character.isprintable())
    return title[:MAX_TITLE].strip() or path.stem
