"""What a command writes: its head and its tail are kept, and its lines are told while they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST_LINE: Final = 500
"""Bytes of a line that is told."""


class Output:
    """Takes bytes, keeps at most `limit` of them: half from the head, half from the tail."""

    def __init__(self, limit: int, *, tell: Callable[[str], None]) -> None:
        self._head_limit, self._tail_limit, self._tell = limit - limit // 2, limit // 2, tell
        self._head, self._tail, self._line = bytearray(), bytearray(), bytearray()
        self.size = 0
        """Bytes in all."""

    def take(self, data: bytes) -> None:
        """Some more."""
        self.size += len(data)
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room < len(data) else b""
        if len(self._tail) > 2 * self._tail_limit:
            self._cut()
        self._tell_lines(data)

    def end(self) -> None:
        """There is no more."""
        if self._line:
            self._tell(readable(bytes(self._line)))
            self._line.clear()

    @property
    def truncated(self) -> bool:
        """Whether some of it was left out."""
        return self.size > self._head_limit + self._tail_limit

    def text(self) -> str:
        """What is kept, and where something is missing."""
        self._cut()
        missing = self.size - len(self._head) - len(self._tail)
        gap = f"\n[{missing} bytes left out]\n" if missing else ""
        return readable(bytes(self._head)) + gap + readable(bytes(self._tail))

    def last(self, size: int) -> str:
        """The end of it, at most so many characters."""
        return self.text()[-size:].strip()

    def _cut(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._tail_limit)]

    def _tell_lines(self, data: bytes) -> None:
        *whole, rest = (bytes(self._line[:LONGEST_LINE]) + data).split(b"\n")
        for line in whole:
            self._tell(readable(line[:LONGEST_LINE]))
        self._line = bytearray(rest[:LONGEST_LINE])


def readable(data: bytes) -> str:
    """Bytes of unknown making as text that any database takes."""
    return data.decode("utf-8", "replace").replace("\x00", "").replace("\r\n", "\n")
