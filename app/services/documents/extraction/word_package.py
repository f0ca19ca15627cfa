"""The parts of a Word file: a zip archive whose parts are found by their relationships (ECMA-376, part 2).

No part has a fixed name: Word Online calls the body `word/document2.xml`. Names are compared without case. A part that
is missing or damaged costs only itself.
"""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote
from zipfile import BadZipFile, ZipFile, ZipInfo

from app.services.documents.extraction.errors import (
    DocumentEncrypted,
    DocumentTooComplex,
    UnsupportedDocument,
    megabytes,
)
from app.services.documents.extraction.hostile_xml import BadXml, Element, parsed
from app.services.documents.extraction.reading import UNPACKED_FACTOR, Source

MAX_PARTS: Final = 10_000
BLOCK: Final = 4096
"""Bytes of one read: so much of a part is lost before a damage."""
BODY_KIND: Final = "officeDocument"
_DEFAULT_BODY: Final = "word/document.xml"
_BODY_TYPE: Final = ".main+xml"
"""The end of the content types of a body: of documents, templates, and those with macros."""
_ENCRYPTED: Final = 0x1
"""The flag of an encrypted zip entry (APPNOTE 4.4.4)."""


class BadPart(Exception):
    """A part is missing or cannot be read."""


class Package:
    """An open Word file."""

    def __init__(self, source: Source) -> None:
        """Check the archive's directory. Raises BadZipFile, DocumentTooComplex, DocumentEncrypted."""
        self._archive = ZipFile(source.file)
        entries = self._archive.infolist()
        if len(entries) > MAX_PARTS:
            raise DocumentTooComplex(source.name, f"{len(entries)} parts")
        # The directory states the unpacked size of each part, and no part is read beyond that.
        unpacked, limit = sum(entry.file_size for entry in entries), UNPACKED_FACTOR * source.limits.file_bytes
        if unpacked > limit:
            raise DocumentTooComplex(source.name, f"it unpacks to {megabytes(unpacked)}, at most {megabytes(limit)}")
        self._entries = {_plain(entry.filename): entry for entry in entries}
        if any(entry.flag_bits & _ENCRYPTED for entry in entries):
            raise DocumentEncrypted(source.name)
        self._name = source.name

    def body(self) -> str:
        """The name of the part with the body. Raises UnsupportedDocument if the archive has none."""
        for name in (*self.related("", BODY_KIND), *self._declared_bodies(), _DEFAULT_BODY):
            if _plain(name) in self._entries:
                return name
        raise UnsupportedDocument(self._name, "it is a zip archive but not a Word document")

    def related(self, part: str, kind: str) -> Iterator[str]:
        """The names of the parts to which a part has a relationship of this kind; `""` is the package itself.

        External targets are left out, as are relationships that cannot be read.
        """
        folder, file = posixpath.split(part)
        try:
            relationships, _ = self.read(posixpath.join(folder, "_rels", f"{file}.rels"))
        except BadPart:
            return
        for item in relationships.iter("{*}Relationship"):
            is_wanted = item.get("Type", "").rpartition("/")[2] == kind
            if is_wanted and item.get("TargetMode") != "External":
                yield posixpath.normpath(posixpath.join("/", folder, item.get("Target", ""))).lstrip("/")

    def read(self, part: str) -> tuple[Element, str]:
        """The root element of a part, and what is wrong with it; it is then read up to there.

        Raises BadPart.
        """
        entry = self._entries.get(_plain(part))
        if entry is None:
            raise BadPart("it is missing")
        content, damage = self._unpack(entry)
        try:
            root, fault = parsed(content)
        except BadXml as error:
            raise BadPart(str(error)) from error
        return root, damage or fault

    def _unpack(self, entry: ZipInfo) -> tuple[bytes, str]:
        """What can be unpacked of an entry, and what is wrong with it."""
        content = bytearray()
        try:
            with self._archive.open(entry) as packed:
                while block := packed.read(BLOCK):
                    content += block
        except (BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            if not content:
                raise BadPart(f"it cannot be unpacked: {error}") from error
            return bytes(content), str(error)
        return bytes(content), ""

    def _declared_bodies(self) -> Iterator[str]:
        try:
            types, _ = self.read("[Content_Types].xml")
        except BadPart:
            return
        for item in types.iter("{*}Override"):
            if item.get("ContentType", "").endswith(_BODY_TYPE):
                yield item.get("PartName", "")


def _plain(name: str) -> str:
    """A part's name as it is compared."""
    return unquote(name).replace("\\", "/").strip("/").lower()
