"""A lease: the right to act on a leased message."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
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


class LeaseTokens(Iterator[bytes]):
    """The tokens of one process's leases, one per fetch: owner, random part, number."""

    def __init__(self, owner: str) -> None:
        self.pid = os.getpid()
        self._prefix, self._numbers = f"{owner}/{secrets.token_hex(3)}", itertools.count(1)

    def __next__(self) -> bytes:
        """The next token."""
        return f"{self._prefix}/{next(self._numbers)}".encode()


@dataclass(frozen=True, slots=True)
class HandOn:
    """Why a consumer hands a message on, and what becomes of a message that no consumer takes.

    `longest`: seconds after which it becomes a dead letter with `reason` and `error`. `note`: a log line, as a JSON
    object, that the journal gets when the message is handed on for the first time.
    """

    longest: float
    reason: str
    error: str
    note: str = "{}"
