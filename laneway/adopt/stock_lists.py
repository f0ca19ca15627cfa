"""The Redis lists in which kombu's own transport keeps a queue, and the hash of the messages that it has delivered.

A program without Laneway that sends to the same database pushes its messages there: the list has the queue's name, and
a queue has one more list for each further step of priority. 0, the default, is delivered first. A worker of kombu's
moves a message into the hash of unacknowledged messages, and deletes it there when the task is acknowledged.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from laneway.adopt.layout import BINDING, Layout
from laneway.adopt.stock_message import NOT_ADDRESSED, StockMessage, priority_of, read_listed, read_unacked
from laneway.engine.connection import Argument
from laneway.engine.engine import Engine
from laneway.engine.script_runner import ScriptRunner

MOST_NAMES: Final = 10_000
PAGE: Final = 500
PAGE_BYTES: Final = 1_048_576
"""Messages and bytes of one read. A larger message is read alone."""


@dataclass(frozen=True, slots=True)
class Source:
    """A list, or with an `index` the hash of the delivered messages. `queue` and `step` are those of a list."""

    key: str
    queue: str = ""
    step: int = 0
    index: str = ""

    @property
    def keys(self) -> list[bytes]:
        """Its keys, as the scripts take them. No key is empty: an ACL would not allow that one."""
        return [key.encode() for key in (self.key, self.index) if key]


class StockLists:
    """The lists of kombu's Redis transport in a database."""

    def __init__(self, runner: ScriptRunner, layout: Layout) -> None:
        self.runner, self.layout = runner, layout
        self._bound: dict[tuple[str, str], str | None] = {}

    @classmethod
    def of(cls, engine: Engine) -> StockLists:
        """The lists in the database of an engine, under its key prefix and with kombu's default names."""
        return cls(engine.runner, Layout(prefix=engine.keys.key_prefix))

    def names(self) -> list[str]:
        """The names of all queues that have a list in the database."""
        parsed = (self.layout.parse(key) for key in self.scan(f"{_escaped(self.layout.prefix)}*", "list"))
        return sorted({found[0] for found in parsed if found})

    def scan(self, pattern: str, kind: str = "") -> list[str]:
        """The keys that match, at most `MOST_NAMES`; keys that are no text are left out. `kind`: a type of Redis."""
        return scan(self.runner, pattern, *(("TYPE", kind) if kind else ()))

    def has_any(self, queues: Sequence[str], *, engine_keys: Sequence[bytes] = ()) -> bool:
        """Whether a list of these queues, or one of the other keys, exists. One command."""
        keys: list[Argument] = [key for queue in queues for _step, key in self.layout.keys(queue)]
        return bool(self.runner.call("EXISTS", *keys, *engine_keys))

    def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        """Queue → number of messages in its lists, for the queues that have any."""
        keys = [(queue, key) for queue in queues for _step, key in self.layout.keys(queue)]
        sizes: dict[str, int] = {}
        for (queue, _key), size in zip(keys, self.lengths([key for _queue, key in keys]), strict=True):
            if size:
                sizes[queue] = sizes.get(queue, 0) + size
        return sizes

    def lengths(self, keys: Sequence[str]) -> list[int]:
        """The length of each list; 0 for a key that is no list, and so none of kombu's."""
        replies = self.runner.pipeline([("LLEN", key) for key in keys]) if keys else []
        return [reply if isinstance(reply, int) else 0 for reply in replies]

    def sources(self, queue: str) -> list[Source]:
        """The lists of a queue, in the order in which kombu delivers them."""
        return [Source(key, queue, step) for step, key in self.layout.keys(queue)]

    @property
    def unacked(self) -> Source:
        """The messages that were delivered and not acknowledged."""
        return Source(self.layout.unacked_key, index=self.layout.unacked_index_key)

    def page(self, source: Source, *, skip: int, most: int = PAGE) -> list[StockMessage]:
        """The next messages, the one that kombu would deliver first in front; bounded by number and bytes."""
        reply: list[Any] = self.runner.run("read_source", source.keys, (skip, most, PAGE_BYTES))
        rows = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        if source.index:
            return [self._delivered(place, member, float(score)) for place, member, score in rows]
        return [
            read_listed(member, place=int(place), queue=source.queue, step=source.step) for place, member, _ in rows
        ]

    def unindexed(self, cursor: bytes) -> tuple[bytes, list[StockMessage]]:
        """Delivered messages that the index does not name, so that kombu never delivers them again; next cursor."""
        reply: Any = self.runner.pipeline([("HSCAN", self.layout.unacked_key, cursor, "COUNT", 200)])[0]
        if isinstance(reply, Exception):  # the key is no hash, and so not kombu's
            return b"0", []
        tags = list(zip(reply[1][::2], reply[1][1::2], strict=True))
        index = self.layout.unacked_index_key
        scores = self.runner.pipeline([("ZSCORE", index, tag) for tag, _member in tags]) if tags else []
        found = [
            self._delivered(tag, member, None)
            for (tag, member), score in zip(tags, scores, strict=True)
            if score is None
        ]
        return reply[0], found

    def _delivered(self, tag: bytes, member: bytes | None, at: float | None) -> StockMessage:
        message, (exchange, routing_key) = read_unacked(member, tag=tag, at=at)
        if message.raw is None:
            return message
        queue = self._queue_bound_to(exchange, routing_key)
        if queue is None:
            return replace(message, raw=None, problem=NOT_ADDRESSED)
        steps = self.layout.steps
        step = steps[max(0, bisect(steps, priority_of(message.raw)) - 1)]
        return replace(message, queue=queue, step=step)

    def _queue_bound_to(self, exchange: str, routing_key: str) -> str | None:
        """The only queue to which kombu would return a message; None when there is none, or several."""
        if not exchange:
            return routing_key or None
        address = exchange, routing_key
        if address not in self._bound:
            if len(self._bound) > MOST_NAMES:
                self._bound.clear()
            queues = {row[2] for row in self.bindings(exchange) if _matches(row[0], row[1], routing_key)}
            self._bound[address] = queues.pop() if len(queues) == 1 else None
        return self._bound[address]

    def bindings(self, exchange: str) -> list[list[str]]:
        """The bindings of an exchange, each routing key, pattern and queue."""
        key = self.layout.bindings_key(exchange)
        reply: Any = self.runner.pipeline([("SMEMBERS", key)])[0]
        members = () if isinstance(reply, Exception) else cast("Iterable[bytes]", reply)
        rows = [member.decode(errors="replace").split(self.layout.separator) for member in members]
        return [row for row in rows if len(row) == 3]

    def exchanges(self) -> list[str]:
        """The exchanges that have bindings."""
        head = f"{self.layout.prefix}{BINDING}"
        return [key.removeprefix(head) for key in self.scan(f"{_escaped(head)}*", "set")]


def scan(runner: ScriptRunner, pattern: str, *options: str) -> list[str]:
    """The keys that match, at most `MOST_NAMES`; keys that are no text are left out."""
    found, cursor = set[bytes](), b"0"
    while True:
        reply: Any = runner.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, *options)
        cursor = reply[0]
        found.update(reply[1])
        if cursor == b"0" or len(found) >= MOST_NAMES:
            break
    names = (key.decode(errors="replace") for key in found)
    return sorted(name for name in names if "\N{REPLACEMENT CHARACTER}" not in name)


def _escaped(text: str) -> str:
    """The text as a pattern of `SCAN` that matches itself."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)


def _matches(routing_key: str, pattern: str, sent: str) -> bool:
    if routing_key == sent:
        return True
    try:
        return bool(pattern) and re.match(pattern, sent) is not None
    except re.error:
        return False
