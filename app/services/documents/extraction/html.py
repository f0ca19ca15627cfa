"""HTML, as Markdown: scripts, styles, navigation and hidden parts are left out."""

from __future__ import annotations

import codecs
import re
from html import unescape
from typing import Final

from html_to_markdown import ConversionError, ConversionOptions, convert

from app.services.documents.extraction.errors import DocumentCorrupt, DocumentTooComplex
from app.services.documents.extraction.plain import decoded
from app.services.documents.extraction.reading import Source, Text
from app.services.documents.extraction.splitting import first_heading
from app.services.documents.extraction.text import cleaned

TAGS: Final = 2
"""A page may have so many times the bytes of the largest text: tags go."""
LOOKED_AT: Final = 4096
"""Bytes from its beginning in which a page declares its encoding (the HTML standard asks for 1024)."""
_DECLARED = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9._:-]{1,40})", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^>]{0,500}>([^<]{1,2000})", re.IGNORECASE)
_OPTIONS: Final = ConversionOptions(
    extract_metadata=False, skip_images=True, autolinks=False, inline_data_media="drop_element", compact_tables=True
)


def read(source: Source) -> Text:
    """The text of a page; its title, or its first heading. Raises what `decoded` does, and DocumentTooComplex."""
    page = decoded(source, most=TAGS * source.limits.text_bytes, declared=_declared(source))
    source.tell(20, "extracting")
    try:
        converted = convert(page, _OPTIONS)
    except ConversionError as error:
        raise DocumentCorrupt(source.name, type(error).__name__) from error
    if converted.warnings and not (converted.content or "").strip():
        raise DocumentTooComplex(source.name, "nested too deeply")
    text = Text(source)
    text.add(cleaned(converted.content or ""))
    found = _TITLE.search(page[:100_000])
    text.title = unescape(found[1]) if found else first_heading(text.whole()[:100_000])
    return text


def _declared(source: Source) -> str | None:
    head = source.file.read(LOOKED_AT)
    source.file.seek(0)
    found = _DECLARED.search(head)
    if found is None:
        return None
    name = found[1].decode("ascii").lower()
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        return name
    # Browsers read both as this, and so are pages written (WHATWG, Encoding).
    return "cp1252" if codec in ("iso8859-1", "ascii") else codec
