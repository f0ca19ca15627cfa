"""Counters of recorded events, kept with each queue, and how long work has waited there.

The reader of a journal counts the events that it records. The script that adds its counts also stores up to which
cursor they go, and adds nothing a second time. So the counters are exact over all processes that record, also when one
of them is killed between two steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from laneway.engine.engine import Engine
from laneway.engine.journal import cursor_order

MAX_LABELS: Final = 100
"""The most labels of the counters of one queue. What has another label is counted under `OTHER`."""
OTHER: Final = "(other)"
IF_KNOWN: Final = "\1"
"""Before a label: it is counted if the queue has the label already, else under `OTHER`."""
Counts: TypeAlias = Mapping[tuple[str, str], int]
"""(label, counter) → a number."""


@dataclass(frozen=True, slots=True)
class QueueLags:
    """How long work has waited in a queue. Times are ms since 1970 by the server's clock.

    `ready_since`: since when the message has waited that has been ready for the longest time; None: none is ready. It
    counts from its put or its due time, and a message that is retried from its first put. `unread`: events in the
    journal. `unread_since`: when the first of them happened.
    """

    queue: str
    ready_since: int | None
    unread: int
    unread_since: int | None


class EventCounts:
    """The counters of an engine's queues."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, queue: str, counts: Counts, *, after: str, until: str) -> str:
        """Add what was counted in the journal after one cursor, up to and including another one.

        Returns the cursor up to which events were counted before this call. The counts were added if that is `after`.
        """
        arguments: list[str | int] = [after, until, MAX_LABELS, OTHER]
        for (label, counter), number in counts.items():
            arguments += [label, counter, number]
        before: bytes = self._engine.runner.run("count_events", [self._engine.keys.queue(queue)], arguments)
        return before.decode()

    def read(self, queues: Sequence[str]) -> list[dict[tuple[str, str], int]]:
        """The counters of each queue, in one round trip; none of a queue whose counters somebody has damaged."""
        commands = [("HGETALL", self._engine.keys.key(queue, "event_counts")) for queue in queues]
        return [_read_counts(reply) for reply in self._engine.runner.pipeline(commands)]

    def lags(self, queues: Sequence[str]) -> list[QueueLags]:
        """How long work has waited in each queue, all read at one moment."""
        rows: list[Any] = self._engine.runner.read("lags", [self._engine.keys.queue(queue) for queue in queues])
        return [
            QueueLags(queue, since, unread, cursor_order(first.decode())[0] if first else None)
            for queue, (since, unread, first) in zip(queues, rows, strict=True)
        ]


def _read_counts(reply: object) -> dict[tuple[str, str], int]:
    """The counters in the fields of the hash; fields of another form are not read."""
    if not isinstance(reply, list):
        return {}
    found: dict[tuple[str, str], int] = {}
    flat = cast("list[bytes]", reply)
    for field, value in zip(flat[::2], flat[1::2], strict=True):
        counter, between, label = field.decode(errors="replace").partition("\0")
        if between and counter != "label" and value.isdigit():
            found[label, counter] = int(value)
    return found
