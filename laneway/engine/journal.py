"""The journal: what happened to the messages of a queue, in order.

A queue with the limit `journal` appends an event to a stream for each change, in the same script as the change. A
reader stores the events together with the cursor of the last one, and then trims the journal up to that cursor. The
fields of an entry:

    e   kind (`EventKind`)     n   number of the attempt               o   outcome, as the caller gave it
    t   task id, packed        w   worker                              x y reason, detail
    m   message id, packed     v d ack action (replies.py), delay in ms    r   the stored record (message.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from laneway.engine.message import Stored, decode, unpack_id
from laneway.engine.replies import AckAction


class EventKind(StrEnum):
    """What happened to a message.

    `START` and `FINISH`: an attempt was started or finished. `LOST`: an attempt ended without an ack action. `ACK`: the
    message was acked without an ack action. `CANCEL_REQUESTED`: its task was cancelled while it was leased. `TRIM`: a
    dead letter was deleted by the queue's limits.
    """

    PUT = "put"
    START = "begin"
    FINISH = "end"
    LOST = "lost"
    PROGRESS = "progress"
    LOG = "log"
    ACK = "ack"
    BURY = "bury"
    CANCEL = "cancel"
    CANCEL_REQUESTED = "mark"
    REQUEUE = "requeue"
    DISCARD = "discard"
    PURGE = "purge"
    TRIM = "forget"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a journal. `cursor` is its id in the stream, which begins with the server's time in ms."""

    cursor: str
    kind: EventKind
    task_id: str
    message_id: str
    attempt: int = 0
    worker: str = ""
    ack_action: AckAction | None = None
    delay_ms: int = 0
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    stored: Stored | None = None

    @property
    def at(self) -> int:
        """When it happened: ms since 1970 by the server's clock."""
        return int(self.cursor.partition("-")[0])


def read_event(cursor: bytes, flat_fields: Sequence[bytes]) -> Event:
    """The event in one entry of the stream: id, then field names and values. Raises ValueError for an unknown kind."""
    fields = dict(zip(flat_fields[::2], flat_fields[1::2], strict=True))

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    raw_id, record = fields[b"m"], fields.get(b"r")
    return Event(
        cursor=cursor.decode(),
        kind=EventKind(text(b"e")),
        task_id=unpack_id(fields[b"t"]),
        message_id=unpack_id(raw_id),
        attempt=int(fields.get(b"n", 0)),
        worker=text(b"w"),
        ack_action=AckAction(int(fields[b"v"])) if b"v" in fields else None,
        delay_ms=int(float(fields.get(b"d", 0))),
        outcome=text(b"o"),
        reason=text(b"x"),
        detail=text(b"y"),
        stored=decode(raw_id, record) if record else None,
    )
