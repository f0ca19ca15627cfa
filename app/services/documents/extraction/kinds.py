"""Which kind a file is, by its content; what it is said to be must agree with that."""

from __future__ import annotations

import codecs
import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from app.services.documents.extraction.errors import (
    DocumentCorrupt,
    DocumentEmpty,
    DocumentEncrypted,
    DocumentTypeMismatch,
    UnsupportedDocument,
)


class Kind(StrEnum):
    """A kind of file that is read; the value is its content type."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    PLAIN = "text/plain"


TEXTS: Final = (Kind.HTML, Kind.MARKDOWN, Kind.PLAIN)
NAMES: Final = {
    Kind.PDF: "PDF",
    Kind.DOCX: "Word document",
    Kind.HTML: "HTML",
    Kind.MARKDOWN: "Markdown",
    Kind.PLAIN: "plain text",
}
ALIASES: Final = {"application/xhtml+xml": Kind.HTML, "text/x-markdown": Kind.MARKDOWN, "application/x-pdf": Kind.PDF}
UNSPECIFIC: Final = ("", "application/octet-stream", "binary/octet-stream")
"""Content types that say nothing."""
ENDINGS: Final = {
    ".pdf": Kind.PDF,
    ".docx": Kind.DOCX,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".txt": Kind.PLAIN,
    ".text": Kind.PLAIN,
}

HEAD: Final = 65_536
"""Bytes from its beginning by which a file is judged."""
PDF_WITHIN: Final = 1024
"""A PDF may have so many bytes before its header, as readers have always allowed."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
"""The stream of an OLE file in which Office keeps an encrypted document (MS-OFFCRYPTO 2.3.4.4)."""
_OTHERS: Final = {
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x1f\x8b": "a gzip file",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"RIFF": "a media file",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    _OLE: "an old Office file",
}
_MARKUP: Final = {b"{\\rtf": "an RTF file", b"%!PS": "a PostScript file"}
_PDF = b"%PDF-"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HTML = re.compile(rb"<(!doctype\s+html|html)\b", re.IGNORECASE)
_HTML_WITHIN = 4096


def claimed(content_type: str | None, file_name: str) -> Kind | None:
    """What a file is said to be by its content type, or its name's ending; None when neither says anything.

    Raises UnsupportedDocument.
    """
    said = (content_type or "").partition(";")[0].strip().lower()
    if said in UNSPECIFIC:
        return ENDINGS.get(PurePosixPath(file_name).suffix.lower())
    found = ALIASES.get(said) or next((kind for kind in Kind if kind.value == said), None)
    if found is None:
        raise UnsupportedDocument(file_name, f"not {said[:100]}")
    return found


def detect(file: BinaryIO, name: str, said: Kind | None) -> Kind:
    """What it is by its content.

    Raises DocumentEmpty, DocumentTypeMismatch, UnsupportedDocument, DocumentEncrypted, DocumentCorrupt.
    """
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise DocumentEmpty(name, "no bytes")
    text = _is_text(head)
    if head.lstrip().startswith(_PDF) or (not text and _PDF in head[:PDF_WITHIN]):
        return _agreeing(name, said, Kind.PDF)
    if head.startswith(_ZIP):
        return _agreeing(name, said, Kind.DOCX)  # what else is in a zip archive is the reader's to say
    if head.startswith(_OLE) and _has_encrypted_package(file):
        raise DocumentEncrypted(name)
    other = next((what for magic, what in (_MARKUP if text else _OTHERS).items() if head.startswith(magic)), None)
    if other:
        raise UnsupportedDocument(name, f"it is {other}")
    if text:
        return _text_kind(name, said, head)
    if said is Kind.PDF or said is Kind.DOCX:
        raise DocumentCorrupt(name, f"it does not begin like a {NAMES[said]}")
    return said or Kind.PLAIN  # its reader says what is wrong with the text


def _agreeing(name: str, said: Kind | None, found: Kind) -> Kind:
    if said is not None and said is not found:
        raise DocumentTypeMismatch(name, f"said to be {NAMES[said]}, and is a {_as_found(found)}")
    return found


def _as_found(kind: Kind) -> str:
    return "zip archive, as Word documents are" if kind is Kind.DOCX else NAMES[kind]


def _text_kind(name: str, said: Kind | None, head: bytes) -> Kind:
    if said is Kind.PDF or said is Kind.DOCX:
        raise DocumentTypeMismatch(name, f"said to be a {NAMES[said]}, and is text")
    is_html = head.lstrip().startswith(b"<") and _HTML.search(head[:_HTML_WITHIN])
    return said or (Kind.HTML if is_html else Kind.PLAIN)


def _is_text(head: bytes) -> bool:
    if head.startswith(_BOMS):
        return True
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _has_encrypted_package(file: BinaryIO) -> bool:
    """Looks through the whole file, a megabyte at a time: its directory may stand anywhere."""
    rest = b""
    while block := file.read(1_048_576):
        if _ENCRYPTED_PACKAGE in rest + block:
            return True
        rest = block[-len(_ENCRYPTED_PACKAGE) :]
    return False
