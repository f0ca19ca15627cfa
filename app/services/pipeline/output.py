"""The output of a command: keeps its head and its tail, and passes on its lines as they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_LINE_BYTES: Final = 500
"""Bytes of a line that is passed on."""


class Output:
    """Collects bytes and keeps at most `limit` of them: half from the head, half from the tail."""

    def __init__(self, limit: int, *, on_line: Callable[[str], None]) -> None:
        self._head_limit, self._tail_limit, self._on_line = limit - limit // 2, limit // 2, on_line
        self._head, self._tail, self._line = bytearray(), bytearray(), bytearray()
        self.size = 0
        """The number of bytes written in total."""

    def append(self, data: bytes) -> None:
        """Add bytes that the command wrote."""
        self.size += len(data)
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room < len(data) else b""
        if len(self._tail) > 2 * self._tail_limit:
            self._cut_tail()
        self._pass_on_lines(data)

    def close(self) -> None:
        """Pass on the last line if it had no line end."""
        if self._line:
            self._on_line(as_text(bytes(self._line)))
            self._line.clear()

    @property
    def truncated(self) -> bool:
        """Whether a part of the output was dropped."""
        return self.size > self._head_limit + self._tail_limit

    def text(self) -> str:
        """The kept output, with a note where bytes are missing."""
        self._cut_tail()
        missing = self.size - len(self._head) - len(self._tail)
        gap = f"\n[{missing} bytes left out]\n" if missing else ""
        return as_text(bytes(self._head)) + gap + as_text(bytes(self._tail))

    def tail(self, length: int) -> str:
        """The end of the output, at most `length` characters."""
        return self.text()[-length:].strip()

    def _cut_tail(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._tail_limit)]

    def _pass_on_lines(self, data: bytes) -> None:
        *whole, rest = (bytes(self._line[:MAX_LINE_BYTES]) + data).split(b"\n")
        for line in whole:
            self._on_line(as_text(line[:MAX_LINE_BYTES]))
        self._line = bytearray(rest[:MAX_LINE_BYTES])


def as_text(data: bytes) -> str:
    """Decode bytes of unknown encoding into text that every database can store."""
    return data.decode("utf-8", "replace").replace("\x00", "").replace("\r\n", "\n")
