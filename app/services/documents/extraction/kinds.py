"""Detects the kind of a file by its content; the claimed kind must agree with it."""

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
    """A supported kind of file; the value is its content type."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    PLAIN = "text/plain"


TEXT_KINDS: Final = (Kind.HTML, Kind.MARKDOWN, Kind.PLAIN)
NAMES: Final = {
    Kind.PDF: "PDF",
    Kind.DOCX: "Word document",
    Kind.HTML: "HTML",
    Kind.MARKDOWN: "Markdown",
    Kind.PLAIN: "plain text",
}
ALIASES: Final = {"application/xhtml+xml": Kind.HTML, "text/x-markdown": Kind.MARKDOWN, "application/x-pdf": Kind.PDF}
UNSPECIFIC: Final = ("", "application/octet-stream", "binary/octet-stream")
"""Content types that do not name a kind."""
SUFFIXES: Final = {
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

HEAD_BYTES: Final = 65_536
"""Bytes at the start of a file that decide its kind."""
MAX_PDF_OFFSET: Final = 1024
"""A PDF may have this many bytes before its header, as readers traditionally allow."""
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
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
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
_MAX_HTML_OFFSET = 4096
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)


def claimed_kind(content_type: str | None, file_name: str) -> Kind | None:
    """The kind that a content type, or else the file's suffix, claims; None if neither names one.

    Raises UnsupportedDocument.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type in UNSPECIFIC:
        return SUFFIXES.get(PurePosixPath(file_name).suffix.lower())
    kind = ALIASES.get(media_type) or next((kind for kind in Kind if kind.value == media_type), None)
    if kind is None:
        raise UnsupportedDocument(file_name, f"not {media_type[:100]}")
    return kind


def charset(content_type: str | None) -> str | None:
    """The encoding that a content type names, as in `text/html; charset=gb2312`."""
    named = _CHARSET.search(content_type or "")
    return named[1] if named else None


def detect(file: BinaryIO, name: str, claimed: Kind | None) -> Kind:
    """Detect the kind of a file by its content.

    Raises DocumentEmpty, DocumentTypeMismatch, UnsupportedDocument, DocumentEncrypted, DocumentCorrupt.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        raise DocumentEmpty(name, "no bytes")
    text = _is_text(head)
    may_have_prefix = claimed is Kind.PDF or not text
    if head.lstrip().startswith(_PDF) or (may_have_prefix and _PDF in head[:MAX_PDF_OFFSET]):
        return _require_match(name, claimed, Kind.PDF)
    if head.startswith(_ZIP):
        return _require_match(name, claimed, Kind.DOCX)  # The reader rejects other zip archives.
    if head.startswith(_OLE) and _has_encrypted_package(file):
        raise DocumentEncrypted(name)
    signatures = _MARKUP if text else _OTHERS
    other = next((label for magic, label in signatures.items() if head.startswith(magic)), None)
    if other:
        raise UnsupportedDocument(name, f"it is {other}")
    if text:
        return _text_kind(name, claimed, head)
    if claimed is Kind.PDF or claimed is Kind.DOCX:
        raise DocumentCorrupt(name, f"it does not begin like a {NAMES[claimed]}")
    return claimed or _markup_or_plain(head)  # It may have another encoding; the reader reports the errors of the text.


def _require_match(name: str, claimed: Kind | None, detected: Kind) -> Kind:
    if claimed is not None and claimed is not detected:
        raise DocumentTypeMismatch(name, f"claimed to be {NAMES[claimed]}, but is a {_detected_name(detected)}")
    return detected


def _detected_name(kind: Kind) -> str:
    return "zip archive, as Word documents are" if kind is Kind.DOCX else NAMES[kind]


def _text_kind(name: str, claimed: Kind | None, head: bytes) -> Kind:
    if claimed is Kind.PDF or claimed is Kind.DOCX:
        raise DocumentTypeMismatch(name, f"claimed to be a {NAMES[claimed]}, but is text")
    return claimed or _markup_or_plain(head)


def _markup_or_plain(head: bytes) -> Kind:
    is_html = head.lstrip().startswith(b"<") and _HTML.search(head[:_MAX_HTML_OFFSET])
    return Kind.HTML if is_html else Kind.PLAIN


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
    """Search the whole file, a megabyte at a time: the OLE directory may be anywhere in it."""
    rest = b""
    while block := file.read(1_048_576):
        if _ENCRYPTED_PACKAGE in rest + block:
            return True
        rest = block[-len(_ENCRYPTED_PACKAGE) :]
    return False
