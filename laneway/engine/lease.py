"""A lease: the right to act on a leased message."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """A message's id and the token of its lease. Any process that has them can act on the message."""

    queue: str
    raw_id: bytes
    token: bytes

    def __str__(self) -> str:
        """The lease as text, for a message header."""
        return f"{self.raw_id.hex()} {self.token.hex()} {self.queue}"

    @classmethod
    def parse(cls, text: str) -> Lease:
        """The lease that `str(lease)` wrote. Raises ValueError for any other text."""
        raw_id, token, queue = text.split(" ", 2)
        lease = cls(queue, bytes.fromhex(raw_id), bytes.fromhex(token))
        if not (lease.raw_id and lease.token and queue) or str(lease) != text:
            raise ValueError("not the text of a lease")
        return lease
