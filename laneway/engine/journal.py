"""What happened to messages, in the order in which it happened.

A queue with the limit `journal` notes each change in a stream, in the same script as the change itself. Whoever
keeps the history reads it, stores what it read together with its place, and then lets go of it. An entry:

    e   kind (`Kind`)          n   number of the attempt          o   outcome, as the caller gave it
    t   task id, packed        w   worker                         x y reason and detail
    m   message id, packed     v d verdict (answers.Verdict), delay in ms      r   the stored record (envelope.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from laneway.engine.message import Stored, decode, unpack_id
from laneway.engine.replies import AckAction


class Kind(StrEnum):
    """What can happen to a message. `ACK`: ended without a verdict; `MARK`: its running task was cancelled."""

    PUT = "put"
    BEGIN = "begin"
    END = "end"
    LOST = "lost"
    PROGRESS = "progress"
    LOG = "log"
    ACK = "ack"
    BURY = "bury"
    CANCEL = "cancel"
    MARK = "mark"
    REQUEUE = "requeue"
    DISCARD = "discard"
    PURGE = "purge"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry. `place` is its id in the stream, which begins with the time (ms) of the server."""

    place: str
    kind: Kind
    task_id: str
    message_id: str
    attempt: int = 0
    worker: str = ""
    verdict: AckAction | None = None
    delay_ms: int = 0
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    stored: Stored | None = None

    @property
    def at(self) -> int:
        """When it happened: ms since 1970 by the server's clock."""
        return int(self.place.partition("-")[0])


def read_event(place: bytes, flat: Sequence[bytes]) -> Event:
    """One entry of the stream."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    raw_id, record = fields[b"m"], fields.get(b"r")
    return Event(
        place=place.decode(),
        kind=Kind(text(b"e")),
        task_id=unpack_id(fields[b"t"]),
        message_id=unpack_id(raw_id),
        attempt=int(fields.get(b"n", 0)),
        worker=text(b"w"),
        verdict=AckAction(int(fields[b"v"])) if b"v" in fields else None,
        delay_ms=int(float(fields.get(b"d", 0))),
        outcome=text(b"o"),
        reason=text(b"x"),
        detail=text(b"y"),
        stored=decode(raw_id, record) if record else None,
    )
