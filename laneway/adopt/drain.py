"""Goes through the messages of a source page by page, and moves or counts them.

A run that was killed is repeated: what was moved is not in the source any more, and what was left is passed over again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from laneway.adopt.mover import MOVED, Move, Mover
from laneway.adopt.stock_lists import Source, StockLists
from laneway.adopt.stock_message import StockMessage
from laneway.engine.replies import PutCode

MOST_EXAMPLES: Final = 5
MOST_NAMES: Final = 1_000
"""Task names that are counted singly."""
REFUSALS: Final = {
    PutCode.FULL: "the queue is full; workers make room, then repeat the command",
    PutCode.JOURNAL_FULL: "the journal of the queue is full; repeat the command when a worker has recorded it",
    PutCode.DUPLICATE: "another task holds its uniqueness key",
    PutCode.TOO_LATE: "it came too late",
}
Decide: TypeAlias = Callable[[StockMessage], Move | str]
"""Returns what is to be moved and where, or the reason to leave a message where it is."""


@dataclass(slots=True)
class Counted:
    """What a run found in one source. `moved`: with a dry run, what it would move."""

    source: Source
    before: int
    moved: int = 0
    copies: int = 0
    left: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    tasks: Counter[str] = field(default_factory=Counter[str])
    queues: Counter[str] = field(default_factory=Counter[str])
    with_eta: int = 0
    oldest: float | None = None
    after: int = 0

    @property
    def unexplained(self) -> int:
        """How many messages came (or, negative, were taken) by others while the run worked."""
        return self.after - (self.before - self.moved)

    def note(self, found: StockMessage) -> None:
        """Count a message by its task."""
        name = found.name or "(unreadable)"
        self.tasks[name if name in self.tasks or len(self.tasks) < MOST_NAMES else "(other tasks)"] += 1
        self.with_eta += bool(found.raw and found.raw["headers"].get("eta"))
        if found.delivered_at is not None:
            self.oldest = min(self.oldest or found.delivered_at, found.delivered_at)

    def leave(self, found: StockMessage, reason: str) -> None:
        """Count a message that stays, and keep it as an example of the reason."""
        self.left[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(f"{found.name} {found.task_id}"[:200] if found.raw else f"sha1 {found.digest}")


class Drain:
    """Moves the messages of sources, or only counts them when there is no mover."""

    def __init__(
        self,
        lists: StockLists,
        decide: Decide,
        mover: Mover | None,
        *,
        progress: Callable[[int], object] = int,
        make_room: Callable[[], object] | None = None,
    ) -> None:
        """`progress` gets the number of messages of each page. `make_room` is called when a journal is full."""
        self._lists, self._decide, self._mover = lists, decide, mover
        self._progress, self._make_room = progress, make_room

    def run(self, source: Source) -> Counted:
        """Go through a source. It ends when all that is left has been looked at."""
        counted = Counted(source, self._size(source))
        skip = 0
        while page := self._lists.page(source, skip=skip):
            stays, refused = self._handle(source, page, counted)
            skip += stays
            self._progress(len(page))
            if refused is not None:
                counted.left[REFUSALS[refused]] += max(0, self._size(source) - skip)
                break
        if source.index:
            self._run_unindexed(source, counted)
        counted.after = self._size(source)
        return counted

    def _run_unindexed(self, source: Source, counted: Counted) -> None:
        cursor = b"0"
        while True:
            cursor, found = self._lists.unindexed(cursor)
            self._handle(source, found, counted)
            if cursor == b"0":
                return

    def _handle(self, source: Source, page: Sequence[StockMessage], counted: Counted) -> tuple[int, PutCode | None]:
        """Move or count a page; return how many messages stay in front of the next page, and why there is no room."""
        moves, stays = list[Move](), 0
        for found in page:
            if isinstance(found.place, bytes) and not found.member:  # acknowledged since the index was read
                stays += 1
                continue
            counted.note(found)
            decided = self._decide(found)
            if isinstance(decided, str):
                counted.leave(found, decided)
                stays += 1
            else:
                moves.append(decided)
        if self._mover is None:
            counted.moved += len(moves)
            counted.queues.update(move.queue for move in moves)
            return len(page), None
        codes = self._move(self._mover, source, moves)
        for move, code in zip(moves, codes, strict=True):
            if code in MOVED:
                counted.moved += 1
                counted.copies += code is PutCode.EXISTS
                counted.queues[move.queue] += 1
            elif code is not PutCode.GONE:
                counted.leave(move.found, REFUSALS[code])
                stays += 1
        return stays, next((code for code in (PutCode.FULL, PutCode.JOURNAL_FULL) if code in codes), None)

    def _move(self, mover: Mover, source: Source, moves: Sequence[Move]) -> list[PutCode]:
        codes = mover.move(source, moves) if moves else []
        if self._make_room is None or PutCode.JOURNAL_FULL not in codes:
            return codes
        self._make_room()
        again = [number for number, code in enumerate(codes) if code is PutCode.JOURNAL_FULL]
        for number, code in zip(again, mover.move(source, [moves[number] for number in again]), strict=True):
            codes[number] = code
        return codes

    def _size(self, source: Source) -> int:
        if not source.index:
            return self._lists.lengths([source.key])[0]
        reply: object = self._lists.runner.pipeline([("HLEN", source.key)])[0]
        return reply if isinstance(reply, int) else 0


def total(counted: Iterable[Counted]) -> Counted:
    """The sum of what was found in several sources."""
    found = Counted(Source(""), 0)
    for each in counted:
        found.before, found.after = found.before + each.before, found.after + each.after
        found.moved, found.copies = found.moved + each.moved, found.copies + each.copies
        found.with_eta += each.with_eta
        found.left.update(each.left)
        found.queues.update(each.queues)
    return found
