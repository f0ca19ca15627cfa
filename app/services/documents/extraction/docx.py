"""Reads Word documents: body, text boxes, notes, headers and footers, as Markdown.

Comments, deleted and hidden text are left out on purpose. What cannot be read is a problem of the document.
"""

from __future__ import annotations

from typing import Final
from zipfile import BadZipFile

from app.services.documents.extraction.errors import DocumentCorrupt, DocumentError, UnsupportedDocument
from app.services.documents.extraction.hostile_xml import Element, local
from app.services.documents.extraction.reading import Source, Text
from app.services.documents.extraction.text import cleaned
from app.services.documents.extraction.word_package import BadPart, Package
from app.services.documents.extraction.word_text import Style, WordText, notes_in, styles_in

NOTE_PARTS: Final = {"footnotes": "footnote", "endnotes": "endnote"}
PAGE_PARTS: Final = ("header", "footer")
DIAGRAM: Final = "diagramData"


def read(source: Source) -> Text:
    """Read the text.

    Raises UnsupportedDocument for other archives, DocumentEncrypted, DocumentCorrupt, DocumentTooComplex, TextTooLarge.
    """
    try:
        package = Package(source)
        source.report(20, "extracting")
        return _read(source, package)
    except (DocumentError, MemoryError, RecursionError):
        raise
    except (BadZipFile, BadPart) as error:
        raise DocumentCorrupt(source.name, str(error)[:200]) from error
    except Exception as error:  # A broken file may make a parser raise anything.
        raise DocumentCorrupt(source.name, f"{type(error).__name__}: {error}"[:200]) from error


def _read(source: Source, package: Package) -> Text:
    name = package.body()
    root, damage = package.read(name)
    if local(root) != "document":
        raise UnsupportedDocument(source.name, "it is a zip archive but not a Word document")
    text = Text(source)
    parts = _Parts(package, name, text)
    words = WordText(parts.styles(), parts.notes(), text.add_problem)
    for block in words.blocks(root):
        text.add(block)
    if damage:
        if not text.parts:
            raise DocumentCorrupt(source.name, damage[:200])
        text.add_problem(f"its body is damaged, and text after the damage may be missing: {damage}")
    parts.add_rest(words)
    text.title = parts.title()
    return text


class _Parts:
    """The parts beside the body. One that cannot be read is a problem of the text."""

    def __init__(self, package: Package, body: str, text: Text) -> None:
        self._package, self._body, self._text = package, body, text

    def styles(self) -> dict[str, Style]:
        roots = self._roots("styles", "its styles cannot be read, so that headings look like text")
        return {id: style for root in roots for id, style in styles_in(root).items()}

    def notes(self) -> dict[tuple[str, str], Element]:
        notes: dict[tuple[str, str], Element] = {}
        for kind, note in NOTE_PARTS.items():
            for root in self._roots(kind, f"its {kind} cannot be read"):
                notes |= notes_in(root, note)
        return notes

    def add_rest(self, words: WordText) -> None:
        """Add the notes without a reference, headers, footers and diagrams, each text once."""
        rest = [block for note in list(words.notes.values()) for block in words.blocks(note)]
        for kind in PAGE_PARTS:
            for root in self._roots(kind, f"a {kind} cannot be read"):
                rest.extend(words.blocks(root))
        for root in self._roots(DIAGRAM, "a diagram cannot be read"):
            rest.append("\n".join(cleaned(t.text or "") for t in root.iter("{*}t")))
        for block in dict.fromkeys(rest):
            self._text.add(block)

    def title(self) -> str:
        """The title in the core properties."""
        for part in self._package.related("", "core-properties"):
            try:
                root, _ = self._package.read(part)
            except BadPart:
                return ""
            return cleaned(root.findtext("{*}title") or "")
        return ""

    def _roots(self, kind: str, problem: str) -> list[Element]:
        """The related parts of a kind."""
        roots: list[Element] = []
        for part in self._package.related(self._body, kind):
            try:
                root, damage = self._package.read(part)
            except BadPart as error:
                self._text.add_problem(f"{problem}: {error}")
                continue
            if damage:
                self._text.add_problem(f"{problem} completely: {damage}")
            roots.append(root)
        return roots
