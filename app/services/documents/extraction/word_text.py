"""The text of WordprocessingML (ECMA-376, part 1), strict and transitional, as Markdown.

Everything is text unless it is named here: an unknown element is entered, because words within it are words of the
document. Elements are known by their local names, because the strict form of the standard has other namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from app.services.documents.extraction.hostile_xml import Element, attribute, local
from app.services.documents.extraction.text import cleaned

LEFT_OUT: Final = frozenset(
    {
        *("del", "delText", "delInstrText", "moveFrom", "instrText", "fldData"),  # deleted text, and codes of fields
        *("pPr", "rPr", "sectPr", "tblPr", "tblGrid", "trPr", "tcPr", "sdtPr", "sdtEndPr", "smartTagPr", "customXmlPr"),
        *("rt", "pPrChange", "annotationRef", "footnoteRef", "endnoteRef"),  # reading aids over characters; marks
        *("binData", "posOffset", "positionH", "positionV", "sizeRelH", "sizeRelV", "extLst"),  # numbers of drawings
    }
)
"""Elements whose content is no text of the document."""
CHARACTERS: Final = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
NOTES: Final = {"footnoteReference": "footnote", "endnoteReference": "endnote"}
OTHER_FILES: Final = {"altChunk": "an embedded document", "subDoc": "a linked document"}
OFF: Final = ("0", "false", "off")
_HEADING = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_MAX_BASES = 10


@dataclass(frozen=True, slots=True)
class Style:
    """A style of paragraphs: `level` is that of a heading, from 1; 0 for no heading."""

    name: str = ""
    level: int = 0
    based_on: str = ""


@dataclass(slots=True)
class WordText:
    """Reads elements; `notes` has the footnotes and endnotes by kind and id, `tell` gets the problems."""

    styles: Mapping[str, Style]
    notes: dict[tuple[str, str], Element]
    tell: Callable[[str], None]
    read_notes: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def blocks(self, container: Element) -> Iterator[str]:
        """The paragraphs, and rows of tables, in the order of the document; text boxes after their paragraph."""
        for child in container.iterchildren("*"):
            name = local(child)
            if name == "p":
                yield from self._paragraph(child)
            elif name == "tbl":
                yield from self._table(child)
            elif name in OTHER_FILES:
                self.tell(f"{OTHER_FILES[name]} within it was not read")
            elif name not in LEFT_OUT and not _is_hidden(child):
                yield from self.blocks(_chosen(child) if name == "AlternateContent" else child)

    def _paragraph(self, element: Element) -> Iterator[str]:
        found = _Inline()
        self._collect(element, found)
        notes = "".join(f" ({note})" for note in map(self._note, found.notes) if note)
        content = cleaned("".join(found.text)).strip()
        mark = self._mark(element) if content else ""
        if mark.startswith("#"):
            yield f"{mark}{' '.join(content.split())}"
            content, mark = "", ""
        if whole := f"{content}{notes}".strip():
            yield f"{mark}{whole}"
        for box in found.boxes:
            yield from self.blocks(box)

    def _collect(self, element: Element, found: _Inline) -> None:
        """Collect the characters of a paragraph, and its notes and text boxes."""
        for child in element.iterchildren("*"):
            name = local(child)
            if (characters := _characters(child)) is not None:
                found.text.append(characters)
            elif name in NOTES:
                found.notes.append((NOTES[name], attribute(child, "id")))
            elif name == "txbxContent":
                found.boxes.append(child)
            elif name == "AlternateContent":
                self._collect(_chosen(child), found)
            elif name == "p":  # a paragraph within a drawing
                self._collect(child, found)
                found.text.append("\n")
            elif name in OTHER_FILES:
                self.tell(f"{OTHER_FILES[name]} within it was not read")
            elif name not in LEFT_OUT and not _is_hidden(child):
                self._collect(child, found)

    def _note(self, key: tuple[str, str]) -> str:
        """The text of a note at its first reference; a note cannot contain itself."""
        element = self.notes.pop(key, None)
        if element is None:
            if key not in self.read_notes:
                self.tell(f"a {key[0]} is missing")
            return ""
        self.read_notes.add(key)
        return " ".join(" ".join(self.blocks(element)).split())

    def _mark(self, paragraph: Element) -> str:
        """What Markdown puts before a heading or a list item."""
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return ""
        outline, style = _value(properties, "outlineLvl"), _value(properties, "pStyle")
        level = _outline_level(outline) or self._level(style)
        if level:
            return f"{'#' * min(level, 6)} "
        is_item = properties.find("{*}numPr") is not None or self.styles.get(style, Style()).name.startswith("List")
        return "- " if is_item else ""

    def _level(self, id: str) -> int:
        """The level of a style's headings: its own, or that of a style on which it is based."""
        for _ in range(_MAX_BASES):
            style = self.styles.get(id)
            if style is None or style.level:
                return style.level if style else 0
            id = style.based_on
        return 0

    def _table(self, table: Element) -> Iterator[str]:
        """One paragraph per row, cells separated by `|`."""
        for row in _descendants(table, "tr"):
            if row.find("{*}trPr/{*}del") is not None:
                continue
            cells = (" ".join(" ".join(self.blocks(cell)).split()) for cell in _descendants(row, "tc"))
            if content := " | ".join(filter(None, cells)):
                yield content


@dataclass(slots=True)
class _Inline:
    """What a paragraph has."""

    text: list[str] = field(default_factory=list[str])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    boxes: list[Element] = field(default_factory=list[Element])


def styles_in(root: Element) -> dict[str, Style]:
    """The styles of paragraphs by their id."""
    return {attribute(style, "styleId"): _style(style) for style in root.iterchildren("{*}style")}


def notes_in(root: Element, kind: str) -> dict[tuple[str, str], Element]:
    """The notes of a part by kind and id, without the lines that separate them from the text."""
    notes = root.iterchildren(f"{{*}}{kind}")
    return {(kind, attribute(note, "id")): note for note in notes if attribute(note, "type") in ("", "normal")}


def _style(style: Element) -> Style:
    name = _value(style, "name")
    heading, properties = _HEADING.match(name), style.find("{*}pPr")
    level = int(heading[1]) if heading else 1 if name == "Title" else 0
    outline = _value(properties, "outlineLvl") if properties is not None else ""
    return Style(name, level or _outline_level(outline), _value(style, "basedOn"))


def _outline_level(value: str) -> int:
    """1 to 9 for the outline levels 0 to 8 of headings; 0 for body text."""
    return int(value) + 1 if value.isascii() and value.isdecimal() and len(value) == 1 and value != "9" else 0


def _value(element: Element, name: str) -> str:
    child = element.find(f"{{*}}{name}")
    return attribute(child, "val") if child is not None else ""


def _is_hidden(element: Element) -> bool:
    """Whether it is a hidden run, or a form control that shows only its prompt ("Click here to enter text")."""
    path = {"r": "{*}rPr/{*}vanish", "sdt": "{*}sdtPr/{*}showingPlcHdr"}.get(local(element))
    mark = element.find(path) if path else None
    return mark is not None and attribute(mark, "val") not in OFF


def _chosen(alternatives: Element) -> Element:
    """The newer of the two forms of the same content, or the other one if it is empty."""
    choice = alternatives.find("{*}Choice")
    fallback = alternatives.find("{*}Fallback")
    has_text = choice is not None and next(choice.iter("{*}t"), None) is not None
    return choice if has_text or fallback is None else fallback


def _characters(element: Element) -> str | None:
    """What an element without content stands for; None for every other element."""
    name = local(element)
    if name == "t":
        return element.text or ""
    if name == "fldChar":
        return _selected(element)
    return _symbol(element) if name == "sym" else CHARACTERS.get(name)


def _selected(mark: Element) -> str:
    """The selected entry of a drop-down field, which stands in no run."""
    choices = mark.find("{*}ffData/{*}ddList")
    if choices is None:
        return ""
    entries = [attribute(entry, "val") for entry in choices.iterchildren("{*}listEntry")]
    number = _value(choices, "result") or _value(choices, "default") or "0"
    index = int(number) if number.isascii() and number.isdecimal() and len(number) < 4 else 0
    return entries[index] if index < len(entries) else ""


def _symbol(element: Element) -> str:
    """A symbol that is a Unicode character. Those of symbol fonts are numbers for private use: ticks and arrows."""
    try:
        code = int(attribute(element, "char"), 16)
    except ValueError:
        return ""
    return chr(code) if 0x20 <= code < 0xD800 else ""


def _descendants(element: Element, name: str) -> Iterator[Element]:
    """The rows of a table or the cells of a row, also within form controls and tracked changes."""
    for child in element.iterchildren("*"):
        if local(child) == name:
            yield child
        elif local(child) not in LEFT_OUT and local(child) not in ("tbl", "p"):
            yield from _descendants(child, name)
