"""Reads the Redis lists in which kombu's own transport keeps a queue, and empties them message by message.

A program without Laneway that sends to the same database pushes its messages there: the list has the queue's name, and
a queue has one more list for each further step of priority. 0, the default, is delivered first.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from kombu.utils.json import loads

from laneway.engine.connection import Argument
from laneway.engine.engine import Engine
from laneway.transport.codec import UNREADABLE

_SEPARATOR = "\x06\x16"
_STEPS = (0, 3, 6, 9)
MOST_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class StockMessage:
    """A message of a list. `raw`: as kombu has it; None when it is no task message of Celery's protocol 2."""

    key: str
    member: bytes
    step: int
    raw: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The name of its task, or nothing."""
        return str(self.raw["headers"]["task"]) if self.raw else ""


class StockLists:
    """The lists of kombu's Redis transport in the database of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._prefix = engine.keys.key_prefix

    def names(self) -> list[str]:
        """The names of all lists of the database, without those of further steps of priority."""
        found = _scan(self._engine, f"{self._prefix}*", "TYPE", "list")
        return [name.removeprefix(self._prefix) for name in found if _SEPARATOR not in name]

    def has_any(self, queues: Sequence[str], *, engine_queues: Sequence[str]) -> bool:
        """Whether a list of these queues, or an engine's queue of these names, holds a message. One command."""
        keys: list[Argument] = [key for queue in queues for _step, key in self._keys(queue)]
        keys += [self._engine.keys.key(queue, "messages") for queue in engine_queues]
        return bool(self._engine.runner.call("EXISTS", *keys))

    def sizes(self, queues: Sequence[str]) -> dict[str, int]:
        """Queue → number of messages in its lists, for the queues that have any."""
        keys = [(queue, key) for queue in queues for _step, key in self._keys(queue)]
        replies = self._engine.runner.pipeline([("LLEN", key) for _queue, key in keys])
        sizes: dict[str, int] = {}
        for (queue, _key), reply in zip(keys, replies, strict=True):
            if isinstance(reply, int) and reply:  # an error reply: the key is no list, and so none of kombu's
                sizes[queue] = sizes.get(queue, 0) + reply
        return sizes

    def oldest(self, queue: str, *, limit: int) -> Iterator[StockMessage]:
        """Yield up to `limit` messages of each of its lists, in the order in which kombu would deliver them."""
        for step, key in self._keys(queue):
            reply: Any = self._engine.runner.pipeline([("LRANGE", key, -limit, -1)])[0]
            members = cast("list[bytes]", reply) if isinstance(reply, list) else []
            for member in reversed(members):
                yield StockMessage(key, member, step, _read(member))

    def remove(self, message: StockMessage) -> bool:
        """Remove a message from its list; False when somebody else has taken it."""
        return bool(self._engine.runner.call("LREM", message.key, -1, message.member))

    def _keys(self, queue: str) -> list[tuple[int, str]]:
        return [(step, f"{self._prefix}{queue}{f'{_SEPARATOR}{step}' if step else ''}") for step in _STEPS]


def queue_names(engine: Engine) -> list[str]:
    """The engine's own queues that hold messages."""
    pattern = engine.keys.key("*", "messages").decode()
    return [engine.keys.queue_of(name.encode()) for name in _scan(engine, pattern)]


def _scan(engine: Engine, pattern: str, *options: str) -> list[str]:
    """The keys that match, at most `MOST_NAMES`; keys that are no text are left out."""
    found, cursor = set[bytes](), b"0"
    while True:
        reply: Any = engine.runner.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, *options)
        cursor = reply[0]
        found.update(reply[1])
        if cursor == b"0" or len(found) >= MOST_NAMES:
            break
    names = (key.decode(errors="replace") for key in found)
    return sorted(name for name in names if "\N{REPLACEMENT CHARACTER}" not in name)


def _read(member: bytes) -> dict[str, Any] | None:
    try:
        raw: dict[str, Any] = loads(member)
        body, encoding, headers = raw["body"], raw["properties"].get("body_encoding"), raw["headers"]
        if encoding == "base64":
            body = b64decode(body, validate=True)
            body = body if raw["content-encoding"] == "binary" else body.decode(raw["content-encoding"])
        is_call = all(isinstance(headers.get(name), str) and headers[name] for name in ("task", "id"))
        if not (is_call and isinstance(body, str | bytes) and isinstance(raw["content-type"], str)):
            return None
    except UNREADABLE:
        return None
    return raw | {"body": body}
