"""Which of many queues a consumer looks at next.

A fetch from hundreds of queues would cost the server milliseconds if it looked at all of them. So it looks at:

1. the queues that are known to have work: one that woke this consumer, one from which the last fetch did not take
   everything, one with a message that is due. At first, every queue.
2. the queues in which something becomes due before the consumer would fetch unasked.
3. a few of the others, in rotation. That finds what nobody was told of, so that no message waits for ever.

The turns of the queues with work follow the cycle of the round-robin, so that a part of the queues shares as all do.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

MIN_WORKING, MAX_WORKING = 8, 120
"""The most queues with work that a fetch looks at: one per message that is asked for, within these bounds."""
MAX_SOON = 32
MIN_PATROL, MAX_PATROL = 8, 96
"""The other queues that a fetch looks at: twice as many after one that has found work among them, else half as many."""
IDLE_PATROLS = 8
"""While no queue is known to have work, a fetch looks at this part of the others: an eighth, at most `MAX_PATROL`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The queues that one fetch looks at, by index from 0, and their turns.

    `turns`: each byte is the number of a queue in this choice, from 1. `positions`: where the first of these turns
    stand in the cycle of all queues. `partial`: not all queues with work are in the choice. `known`: how many queues,
    the first ones, are in it for what is known about them.
    """

    queues: Sequence[int]
    turns: bytes
    positions: Sequence[int] = ()
    partial: bool = False
    known: int = 0

    def position_after(self, passed: int, position: int) -> int:
        """The position in the cycle of all queues after so many turns have passed."""
        if not self.positions or not (passed or self.partial):
            return position
        last = (passed - 1) % len(self.turns)
        return self.positions[min(last, len(self.positions) - 1)] + 1


class Watchlist:
    """What a consumer knows about its queues: which have work, and when something becomes due in the others."""

    def __init__(self, cycle: Sequence[int], queues: int) -> None:
        """`cycle`: the queues' indexes, from 0, in the order of their turns. `queues`: how many there are."""
        self._cycle, self._count = cycle, queues
        self._positions: list[list[int]] = [[] for _ in range(queues)]
        for position, queue in enumerate(cycle):
            self._positions[queue].append(position)
        self._working = set(range(queues))
        self._soon: dict[int, int] = {}
        self._at: dict[int, int] = {}
        """Queue -> when something becomes due in it (ms by the server's clock)."""
        self._later: list[tuple[int, int]] = []
        """A heap of the times in `_at` that are not in `_soon`, and of old ones."""
        self._patrol_size = MIN_PATROL
        self._next_patrolled = random.randrange(queues)
        self._server_ahead = 0.0
        """The server's clock minus the monotonic clock of this process (ms)."""

    def choose(self, n: int, idle_poll_ms: int, *, position: int) -> Choice:
        """Choose the queues for a fetch of `n` messages. `position`: the next turn in the cycle."""
        now = time.monotonic() * 1000 + self._server_ahead
        self._note_what_is_due(now, until=now + idle_poll_ms)
        most = min(max(n, MIN_WORKING), MAX_WORKING)
        positions = self._next_positions(position, most)
        turns = [self._cycle[position] for position in positions]
        numbers = {queue: number for number, queue in enumerate(dict.fromkeys(turns), 1)}
        worked, partial = len(numbers), len(numbers) < len(self._working)
        for queue in heapq.nsmallest(MAX_SOON, self._soon, key=self._soon.__getitem__):
            numbers.setdefault(queue, len(numbers) + 1)
        known = len(numbers)
        for queue in self._patrol():
            numbers.setdefault(queue, len(numbers) + 1)
        turns += list(numbers)[worked:]
        return Choice(tuple(numbers), bytes([numbers[queue] for queue in turns]), positions, partial, known)

    def learn(
        self, choice: Choice, *, now: int, delivering: Sequence[int], times: Sequence[int], expiring: Sequence[int]
    ) -> None:
        """Take in what a fetch has found. The arguments are those of `RoundRobin.learn`."""
        self._server_ahead = now - time.monotonic() * 1000
        found = any(number > choice.known for number in delivering)
        self._patrol_size = min(max(self._patrol_size * 2 if found else self._patrol_size // 2, MIN_PATROL), MAX_PATROL)
        for queue in choice.queues:
            self._working.discard(queue)
            self._soon.pop(queue, None)
            self._at.pop(queue, None)
        for number, at in zip(times[::2], times[1::2], strict=True):
            self._note(choice.queues[number - 1], at, now)
        for number, expires in zip(expiring[::2], expiring[1::2], strict=True):  # a look makes the queue live on
            self._note(choice.queues[number - 1], now + expires // 2, now)

    def look_at(self, queue: int) -> None:
        """Look at the queue in one of the next fetches, in its turn."""
        self._working.add(queue)

    def again_at(self, now: int) -> int | None:
        """When to fetch again (ms by the server's clock); None: at the next wakeup."""
        if self._working:
            return now
        while self._later and self._at.get(self._later[0][1]) != self._later[0][0]:
            heapq.heappop(self._later)
        times = [*self._soon.values(), *(at for at, _ in self._later[:1])]
        return min(times, default=None)

    def _note(self, queue: int, at: int, now: int) -> None:
        if at <= now:
            self._working.add(queue)
        elif at < self._at.get(queue, at + 1):
            self._at[queue] = at
            heapq.heappush(self._later, (at, queue))
            if len(self._later) > 2 * len(self._at) + 64:
                self._later = [(at, queue) for queue, at in self._at.items() if queue not in self._soon]
                heapq.heapify(self._later)

    def _note_what_is_due(self, now: float, *, until: float) -> None:
        while self._later and self._later[0][0] <= until:
            at, queue = heapq.heappop(self._later)
            if self._at.get(queue) == at:
                self._soon[queue] = at
        for queue in [queue for queue, at in self._soon.items() if at <= now]:
            del self._soon[queue]
            self._working.add(queue)

    def _next_positions(self, position: int, most: int) -> list[int]:
        """Where the next turns of queues with work stand in the cycle, in the order of the cycle from `position`."""
        size = len(self._cycle)
        if len(self._working) > most:
            positions: list[int] = []
            for step in range(size):
                if self._cycle[(position + step) % size] in self._working:
                    positions.append((position + step) % size)
                    if len(positions) == most:
                        break
            return positions
        turns = (turn for queue in self._working for turn in self._positions[queue])
        return heapq.nsmallest(MAX_WORKING, turns, key=lambda turn: (turn - position) % size)

    def _patrol(self) -> list[int]:
        size = self._patrol_size if self._working else max(self._patrol_size, self._count // IDLE_PATROLS)
        start, size = self._next_patrolled, min(size, MAX_PATROL, self._count)
        self._next_patrolled = (start + size) % self._count
        return [(start + step) % self._count for step in range(size)]
