"""Reads HTML as Markdown, without scripts, styles, navigation and hidden parts."""

from __future__ import annotations

import re
from html import unescape
from typing import Final

from html_to_markdown import ConversionError, ConversionOptions, convert

from app.services.documents.extraction.errors import DocumentCorrupt, DocumentTooComplex
from app.services.documents.extraction.plain import decoded, read_content
from app.services.documents.extraction.reading import Source, Text
from app.services.documents.extraction.text import cleaned

TAG_FACTOR: Final = 2
"""A page may have this many times the bytes of the largest text, because its tags are removed."""
HEAD_BYTES: Final = 4096
"""Bytes at the start of a page that are searched for its encoding (the HTML standard requires 1024)."""
_DECLARED = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9._:-]{1,40})", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^>]{0,500}>([^<]{1,2000})", re.IGNORECASE)
_OPTIONS: Final = ConversionOptions(
    extract_metadata=False, skip_images=True, autolinks=False, inline_data_media="drop_element", compact_tables=True
)


def read(source: Source) -> Text:
    """Read the text and the title of a page.

    Raises NotText, TextTooLarge, DocumentCorrupt, DocumentTooComplex.
    """
    text = Text(source)
    content = read_content(source, max_bytes=TAG_FACTOR * source.limits.text_bytes)
    declared = source.charset or _declared_encoding(content)
    page = decoded(source.name, content, declared=declared, tell=text.add_problem)
    source.report(20, "extracting")
    try:
        converted = convert(page, _OPTIONS)
    except ConversionError as error:
        raise DocumentCorrupt(source.name, type(error).__name__) from error
    if converted.warnings and not (converted.content or "").strip():
        raise DocumentTooComplex(source.name, "nested too deeply")
    text.add(cleaned(converted.content or ""))
    title = _TITLE.search(page[:100_000])
    text.title = unescape(title[1]) if title else ""
    return text


def _declared_encoding(content: bytes) -> str | None:
    declaration = _DECLARED.search(content[:HEAD_BYTES])
    return declaration[1].decode("ascii") if declaration else None
