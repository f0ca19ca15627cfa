"""Reads Markdown and plain text, and decodes every text: by its byte order mark, its declaration, or as UTF-8."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from app.services.documents.extraction.encodings import codec_of, mark_of
from app.services.documents.extraction.errors import NotText, TextTooLarge, megabytes
from app.services.documents.extraction.reading import Source, Text

MAX_CONTROL_SHARE: Final = 0.01
"""The share of control characters in a text; more means binary data that happens to be valid UTF-8."""
MAX_BROKEN_SHARE: Final = 0.02
"""The share of characters that may be broken; more means another encoding."""
ADVICE: Final = "not utf-8: store it as UTF-8, or name its encoding in content_type, as in text/plain; charset=cp1252"
BROKEN: Final = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def read(source: Source) -> Text:
    """Read Markdown or plain text. Raises NotText, TextTooLarge."""
    text = Text(source)
    content = read_content(source, max_bytes=source.limits.text_bytes)
    text.add(decoded(source.name, content, declared=source.charset, tell=text.add_problem))
    return text


def read_content(source: Source, *, max_bytes: int) -> bytes:
    """The whole file. Raises TextTooLarge."""
    content = source.file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TextTooLarge(source.name, f"at most {megabytes(max_bytes)}")
    return content


def decoded(name: str, content: bytes, *, declared: str | None, tell: Callable[[str], None]) -> str:
    """The content as text; `declared` is the encoding that it names, and `tell` gets the problems.

    A few broken characters are replaced. Raises NotText.
    """
    mark, encoding = mark_of(content) or (b"", _declared_codec(declared, tell))
    try:
        text = content[len(mark) :].decode(encoding or "utf-8", "replace")
    except (UnicodeError, LookupError) as error:
        raise NotText(name, f"not {encoding}") from error
    if "\0" in text:
        raise NotText(name, "a null byte")
    if len(_CONTROLS.findall(text)) > MAX_CONTROL_SHARE * len(text):
        raise NotText(name, "control characters")
    if BROKEN in text:
        _check_broken(name, content[len(mark) :], text, encoding=encoding, tell=tell)
    return text


def _declared_codec(declared: str | None, tell: Callable[[str], None]) -> str | None:
    codec = codec_of(declared) if declared else None
    if declared and codec is None:
        tell(f"its encoding {declared[:40]!r} is not known; it was read as UTF-8")
    return codec


def _check_broken(name: str, content: bytes, text: str, *, encoding: str | None, tell: Callable[[str], None]) -> None:
    """Tell how many characters are broken. Raises NotText if they are many: the encoding is another one."""
    broken = text.count(BROKEN)
    if encoding in (None, "utf-8"):
        broken -= content.count(BROKEN.encode())  # Somebody else has replaced these.
    if broken > MAX_BROKEN_SHARE * len(text):
        raise NotText(name, f"not {encoding}" if encoding else ADVICE)
    if broken:
        tell(f"{broken} characters are broken and were replaced by {BROKEN}" if broken > 1 else "a character is broken")
