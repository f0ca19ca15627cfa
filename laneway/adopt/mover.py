"""Moves messages of kombu's Redis transport into queues of the engine.

Where one server holds both, a message is put and removed by one script: it is in exactly one of the two at any moment.
Between two servers the message is put first, and noted in a set of the second server by the same script. Then it is
removed from the first server, then the note. A run that was killed in between finds the note, and puts nothing again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from laneway.adopt.stock_lists import Source
from laneway.adopt.stock_message import StockMessage
from laneway.engine.connection import Argument
from laneway.engine.engine import Engine
from laneway.engine.message import Message, encode
from laneway.engine.replies import PutCode
from laneway.engine.script_runner import ScriptRunner

MOVED: Final = frozenset({PutCode.ACCEPTED, PutCode.CANCELLED, PutCode.EXISTS})
"""The codes of a message that has left kombu's keys: it was queued, its task was cancelled, or it was a copy."""


@dataclass(frozen=True, slots=True)
class Move:
    """A message, and the queue and message of the engine into which it is moved."""

    found: StockMessage
    queue: str
    message: Message


class Mover:
    """Moves messages into the engine. Safe in many processes at once, if one server holds both."""

    def __init__(self, engine: Engine, source: ScriptRunner) -> None:
        """`source`: where kombu's keys are; the engine's own runner when one database holds both."""
        self._engine, self._source = engine, source
        keys = engine.keys
        self._counts = f"{keys.key_prefix}laneway:adopted".encode()
        self._notes = f"{keys.key_prefix}laneway:adopting".encode()

    @property
    def is_atomic(self) -> bool:
        """Whether one database holds both."""
        return self._source is self._engine.runner

    def moved_ever(self) -> dict[str, int]:
        """Source → number of messages that all runs have moved from it, also runs that were killed."""
        reply: list[bytes] = self._engine.runner.call("HGETALL", self._counts)
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return {name.decode(errors="replace"): int(number) for name, number in pairs}

    def move(self, source: Source, moves: Sequence[Move]) -> list[PutCode]:
        """Move messages of one source, in this order within each queue; return the code of each.

        `GONE`: somebody else has taken the message since it was read. Raises ServerLost; what was moved then is known
        by reading the source again.
        """
        codes: list[PutCode] = [PutCode.GONE] * len(moves)
        for queue, numbers in _by_queue(moves):
            chosen = [moves[number] for number in numbers]
            reply = self._move_here(source, queue, chosen) if self.is_atomic else self._copy(source, queue, chosen)
            for number, code in zip(numbers, reply, strict=True):
                codes[number] = PutCode(code)
        return codes

    def forget_notes(self) -> None:
        """Delete the notes, when nothing that they name is left on the first server."""
        self._engine.runner.call("DEL", self._notes)

    def _move_here(self, source: Source, queue: str, moves: Sequence[Move]) -> list[int]:
        keys = [self._engine.keys.queue(queue), self._counts, *source.keys]
        return self._engine.runner.run("adopt", keys, (source.key, "", *_arguments(moves)), repeatable=False)

    def _copy(self, source: Source, queue: str, moves: Sequence[Move]) -> list[int]:
        keys = [self._engine.keys.queue(queue), self._counts, self._notes]
        codes: list[int] = self._engine.runner.run("adopt", keys, (source.key, "1", *_arguments(moves)))
        done = [move.found for move, code in zip(moves, codes, strict=True) if code in MOVED]
        if done:
            places: list[Argument] = []
            for found in done:
                places += (found.place, found.digest)
            self._source.run("remove_source", source.keys, places)
            self._engine.runner.call("SREM", self._notes, *(found.digest for found in done))
        return codes


def _by_queue(moves: Sequence[Move]) -> Iterator[tuple[str, list[int]]]:
    numbers = sorted(range(len(moves)), key=lambda number: moves[number].queue)
    for queue, group in groupby(numbers, key=lambda number: moves[number].queue):
        yield queue, list(group)


def _arguments(moves: Sequence[Move]) -> Iterator[Any]:
    for move in moves:
        yield move.found.place
        yield move.found.digest
        yield from encode(move.message)
