"""The filled fields of a PDF: of an AcroForm, and of an XFA form.

The pages of a dynamic XFA form say only that the reader's program is too old ("Please wait…"). Its text is in an XML
packet: a template with captions and texts, and the data (XML Forms Architecture 3.3).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, StreamObject

from app.services.documents.extraction.hostile_xml import Element, local, parsed
from app.services.documents.extraction.text import cleaned

PASSWORD_FLAG: Final = 1 << 13
"""The flag of a text field that hides its value (ISO 32000, table 228)."""
UNSET: Final = ("", "/Off", "Off")
MAX_XFA_BYTES: Final = 20 * 1024 * 1024
_PLACEHOLDER = re.compile(r"please wait|adobe (acrobat )?reader|pdf viewer may not be able", re.IGNORECASE)
HIDDEN: Final = ("hidden", "invisible")
"""What `presence` says of an element that nobody sees."""


@dataclass(frozen=True, slots=True)
class XfaForm:
    """An XFA form. One that needs rendering has its text only in `lines`; `has_fields`: an AcroForm has it too."""

    needs_rendering: bool
    has_fields: bool
    lines: list[str]


def filled_fields(reader: PdfReader) -> list[str]:
    """The filled fields as `name: value`, in the order of the form; the name that people see, if there is one."""
    lines: list[str] = []
    for name, entry in (reader.get_fields() or {}).items():
        value = _shown(entry.get("/V"))
        flags = entry.get("/Ff")
        if value in UNSET or entry.get("/FT") == "/Sig" or (isinstance(flags, int) and flags & PASSWORD_FLAG):
            continue
        label = cleaned(str(entry.get("/TU") or name)).strip()
        lines.append(f"{label}: {value}")
    return lines


def _shown(value: Any) -> str:
    """A field's value as text; several selected entries are separated by commas."""
    value = value.get_object() if hasattr(value, "get_object") else value
    if isinstance(value, ArrayObject):
        return ", ".join(filter(None, (_shown(item) for item in list(value))))
    if isinstance(value, StreamObject):
        content: Any = value.get_data()
        return cleaned(content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)).strip()
    if value is None or isinstance(value, DictionaryObject):
        return ""
    return cleaned(str(value)).removeprefix("/").strip()


def xfa_form(reader: PdfReader) -> XfaForm | None:
    """The XFA form of a PDF; None if it has none. Raises BadXml and what pypdf raises for a damaged one."""
    catalog = reader.root_object
    form: Any = catalog.get("/AcroForm")
    form = form.get_object() if form is not None else None
    if not isinstance(form, DictionaryObject) or "/XFA" not in form:
        return None
    fields: Any = form.get("/Fields")
    has_fields = bool(fields is not None and fields.get_object())
    needs_rendering = str(catalog.get("/NeedsRendering")) == "True"
    return XfaForm(needs_rendering, has_fields, list(_lines(_packets(form["/XFA"]))))


def is_placeholder(text: str) -> bool:
    """Whether a page says only that another program is needed."""
    return len(text) < 1500 and bool(_PLACEHOLDER.search(text))


def _packets(entry: Any) -> Iterator[Element]:
    """The packets of the form: one stream, or an array of names and streams that follow each other as one text."""
    entry = entry.get_object()
    streams = list(entry)[1::2] if isinstance(entry, ArrayObject) else [entry]
    content = b"".join(_data(stream.get_object()) for stream in streams)
    if len(content) > MAX_XFA_BYTES:
        raise ValueError("the XFA form is too large")
    root, _ = parsed(content)
    yield from (root, *root.iterchildren("*")) if local(root) == "template" else root.iterchildren("*")


def _data(stream: Any) -> bytes:
    return stream.get_data() if isinstance(stream, StreamObject) else b""


def _lines(packets: Iterator[Element]) -> Iterator[str]:
    """Texts and captions in the order of the template, with the values of the fields, then further values."""
    found = {local(packet): packet for packet in packets}
    template, datasets = found.get("template"), found.get("datasets")
    values: dict[str, deque[str]] = {}
    for name, value in _values(datasets) if datasets is not None else ():
        values.setdefault(name, deque()).append(value)
    for element in template.iter("{*}draw", "{*}field") if template is not None else ():
        own = _text(element, "value")
        line = own if local(element) == "draw" else _field(element, own, values)
        if line and not any(outer.get("presence") in HIDDEN for outer in (element, *element.iterancestors())):
            yield line
    yield from (f"{name}: {value}" for name, rest in values.items() for value in rest)


def _field(field: Element, default: str, values: dict[str, deque[str]]) -> str:
    """A field with its next value; the values are in the order of the fields. A password is not shown."""
    name, caption = field.get("name") or "", _text(field, "caption")
    value = values[name].popleft() if values.get(name) else default
    if field.find("{*}ui/{*}passwordEdit") is not None:
        value = ""
    return f"{(caption or name).rstrip(' :')}: {value}" if value else caption


def _values(datasets: Element) -> Iterator[tuple[str, str]]:
    """(name, value) of the data that is filled in."""
    for data in datasets.iterchildren("{*}data"):
        for element in data.iter("*"):
            if next(element.iterchildren("*"), None) is None and (value := _joined(element)):
                yield local(element), value


def _text(element: Element, part: str) -> str:
    """The text in a direct child of an element, such as its value or its caption."""
    child = element.find(f"{{*}}{part}")
    if child is not None and part == "caption":
        child = child.find("{*}value")
    return _joined(child) if child is not None else ""


def _joined(element: Element) -> str:
    return " ".join(cleaned(" ".join(element.itertext())).split())
