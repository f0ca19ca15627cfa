"""Reads Markdown and plain text, and decodes every text: by its byte order mark, its declaration, or as UTF-8."""

from __future__ import annotations

import codecs
import re
from typing import Final

from app.services.documents.extraction.errors import NotText, TextTooLarge, megabytes
from app.services.documents.extraction.reading import Source, Text
from app.services.documents.extraction.splitting import first_heading

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks. Those of UTF-32 come first, because one of them begins like one of UTF-16."""
MAX_CONTROL_SHARE: Final = 0.01
"""The share of control characters in a text; more means binary data that happens to be valid UTF-8."""
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def read(source: Source) -> Text:
    """Read Markdown or plain text. Raises NotText, TextTooLarge."""
    text = Text(source)
    content = decoded(source, max_bytes=source.limits.text_bytes)
    text.title = first_heading(content[:100_000])
    text.add(content)
    return text


def decoded(source: Source, *, max_bytes: int, declared: str | None = None) -> str:
    """The whole file as text; `declared` is the encoding that the file names. Raises NotText, TextTooLarge."""
    content = source.file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TextTooLarge(source.name, f"at most {megabytes(max_bytes)}")
    mark, encoding = next(
        ((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", declared or "utf-8")
    )
    try:
        text = content[len(mark) :].decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise NotText(source.name, f"not {encoding[:40]}") from error
    if "\0" in text:
        raise NotText(source.name, "a null byte")
    if len(_CONTROLS.findall(text)) > MAX_CONTROL_SHARE * len(text):
        raise NotText(source.name, "control characters")
    return text
