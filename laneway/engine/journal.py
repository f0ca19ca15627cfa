"""The journal: what happened to the messages of a queue, in order.

A queue with the limit `journal` appends an event to a stream for each change, in the same script as the change. A
reader stores the events together with the cursor of the last one, and then trims the journal up to that cursor. The
fields of an entry:

    e   kind (`EventKind`)     n   number of the attempt               o   outcome or note, as the caller gave it
    t   task id, packed        w   worker                              x y reason, detail
    m   message id, packed     v d ack action (replies.py), delay in ms    r   the stored record (message.py)
    l   of a purge, instead of t and m: length byte and task id, length byte and message id, and so on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from laneway.engine.message import Stored, decode, unpack_id
from laneway.engine.replies import AckAction

MAX_DETAIL = 1000
START = "0-0"
"""The cursor before the first entry of a journal."""


class EventKind(StrEnum):
    """What happened to a message.

    `START` and `FINISH`: an attempt was started or finished. `LOST`: an attempt ended without an ack action. `ACK`: the
    message was acked without an ack action. `CANCEL_REQUESTED`: its task was cancelled while it was leased. `TRIM`: a
    dead letter was deleted by the queue's limits. `UNREADABLE`: an entry of an unknown kind or form; `detail` shows it.
    """

    PUT = "put"
    START = "begin"
    FINISH = "end"
    LOST = "lost"
    PROGRESS = "progress"
    LOG = "log"
    OUTPUT = "output"
    ACK = "ack"
    BURY = "bury"
    CANCEL = "cancel"
    CANCEL_REQUESTED = "mark"
    REQUEUE = "requeue"
    DISCARD = "discard"
    PURGE = "purge"
    TRIM = "forget"
    UNREADABLE = "unreadable"


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


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Events of a journal, and what the queue knows of its reader.

    `recorded`: the cursor up to which the reader has stored the events and trimmed the journal; `START`: never.
    `has_position`: the journal still has the entry at the reader's cursor, so that it only has to be trimmed.
    """

    recorded: str
    has_position: bool
    events: list[Event]


def cursor_order(cursor: str) -> tuple[int, int]:
    """The milliseconds and the number of a cursor: what cursors are compared by."""
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds), int(number)


def read_entry(cursor: bytes, flat_fields: Sequence[bytes]) -> list[Event]:
    """The events in one entry of the stream, at least one. Only the entry of a purge has more."""
    event = read_event(cursor, flat_fields)
    if event.kind is not EventKind.PURGE:
        return [event]
    ids = _texts(dict(zip(flat_fields[::2], flat_fields[1::2], strict=True)).get(b"l", b""))
    events = [replace(event, task_id=task, message_id=id) for task, id in zip(ids[::2], ids[1::2], strict=False)]
    if not (events or event.task_id):
        return [replace(event, kind=EventKind.UNREADABLE, detail=f"no message in {flat_fields!r}"[:MAX_DETAIL])]
    return events or [event]


def _texts(data: bytes) -> list[str]:
    """The ids in the data, each of which begins with its length byte."""
    found, offset = list[str](), 0
    while offset < len(data):
        end = offset + 1 + data[offset]
        found.append(unpack_id(data[offset + 1 : end]))
        offset = end
    return found


def read_event(cursor: bytes, flat_fields: Sequence[bytes]) -> Event:
    """The event in one entry of the stream: its cursor, and its field names and values.

    An entry that cannot be read is an event `UNREADABLE`, so that the reader goes on with the next one.
    """
    try:
        return _read(cursor, flat_fields)
    except (ValueError, LookupError, ArithmeticError) as error:
        detail = f"{type(error).__name__}: {error} in {flat_fields!r}"[:MAX_DETAIL]
        return Event(cursor.decode(), EventKind.UNREADABLE, "", "", detail=detail)


def _read(cursor: bytes, flat_fields: Sequence[bytes]) -> Event:
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
