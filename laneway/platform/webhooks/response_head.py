"""Removes from the head of a response what the HTTP parser would refuse, so that an odd header costs only itself.

A receiver that has answered 200 has the webhook: to send it again because of a header would be wrong. Servers and
proxies do send names with spaces, control characters, folded lines and two lengths.
"""

from __future__ import annotations

import re
from typing import Final

MAX_HEAD: Final = 65_536
"""Bytes of a head. A longer one is left to the parser, which refuses it."""
PROTOCOL: Final = b"HTTP/"

_END: Final = re.compile(rb"\r?\n\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/\d(?:\.\d)? 1\d\d\b")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
"""A field that every parser reads (RFC 9112, section 5)."""


class HeadFilter:
    """Gets the bytes of a connection, and gives them back with clean heads. A body is given back unchanged."""

    def __init__(self) -> None:
        self._buffer, self._is_body = b"", False

    def feed(self, block: bytes) -> bytes:
        """Take the next bytes (empty at the end of the connection), and return those that can go to the parser.

        Returns nothing while a head is incomplete.
        """
        if self._is_body:
            return block
        self._buffer += block
        ready = b""
        while (end := _END.search(self._buffer)) is not None and self._buffer.startswith(PROTOCOL):
            head, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
            ready += _cleaned(head)
            if not _INTERIM.match(head):
                return ready + self._give_up()
        if not block or len(self._buffer) > MAX_HEAD or not _may_be_http(self._buffer):
            return ready + self._give_up()
        return ready

    def _give_up(self) -> bytes:
        """Filter nothing from here on."""
        rest, self._buffer, self._is_body = self._buffer, b"", True
        return rest


def _may_be_http(start: bytes) -> bool:
    return start[: len(PROTOCOL)] == PROTOCOL[: len(start)]


def _cleaned(head: bytes) -> bytes:
    """The status line, and the fields that a parser reads."""
    status, *lines = re.split(rb"\r?\n", head)
    fields = [found.groups() for found in map(_FIELD.fullmatch, lines) if found]
    lengths = {value for name, value in fields if name.lower() == b"content-length"}
    kept = [b"%s: %s" % field for field in fields if _is_usable(*field)]
    if len(lengths) == 1 and (length := lengths.pop()).isdigit():
        kept.append(b"Content-Length: " + length)
    return b"\r\n".join([status, *kept, b"", b""])


def _is_usable(name: bytes, value: bytes) -> bool:
    """Whether a field may stay. Lengths are written anew; an unknown coding means: until the connection ends."""
    if name.lower() == b"content-length":
        return False
    return name.lower() != b"transfer-encoding" or value.lower() == b"chunked"
