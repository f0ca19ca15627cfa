"""Unpacks objects that are stored compressed, as `Content-Encoding: gzip` says of them.

The content tells it, not the header: a copy in a folder has no headers, and no supported kind begins like gzip.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final

MAGIC: Final = b"\x1f\x8b\x08"
BLOCK: Final = 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
"""zlib's number for the format of gzip."""


class BadGzip(ValueError):
    """The content is damaged or cut."""


class UnpackedTooLarge(ValueError):
    """The content unpacks to more than allowed."""


def unpack(packed: BinaryIO, into: BinaryIO, *, max_bytes: int) -> bool:
    """Unpack a file into another one, a block at a time; returns False if it is not compressed.

    Raises BadGzip, UnpackedTooLarge.
    """
    packed.seek(0)
    is_packed = packed.read(len(MAGIC)) == MAGIC
    packed.seek(0)
    if is_packed:
        _unpack_members(packed, into, max_bytes=max_bytes)
        into.flush()
    return is_packed


def _unpack_members(packed: BinaryIO, into: BinaryIO, *, max_bytes: int) -> None:
    """Unpack the members of the file, which are joined; what follows the last one is ignored, as gzip does."""
    member, left, size = zlib.decompressobj(_GZIP), b"", 0
    while True:
        left = left or packed.read(BLOCK)
        if not left:
            if not member.eof:
                raise BadGzip("it is cut")
            return
        if member.eof:
            if not left.startswith(MAGIC[:1]):
                return
            member = zlib.decompressobj(_GZIP)
        try:
            content = member.decompress(left, BLOCK)
        except zlib.error as error:
            raise BadGzip(str(error)) from error
        size += len(content)
        if size > max_bytes:
            raise UnpackedTooLarge
        into.write(content)
        left = member.unused_data if member.eof else member.unconsumed_tail
