"""Weighted round-robin over queues. No queue starves, and the server stores no state for it.

A cycle lists the turns of one round. With the weights 6, 3 and 1, the first queue has six of ten turns, the second
three and the third one, spread evenly. A consumer goes through the cycle, and keeps its position between fetches. The
turn of an empty queue goes to the next queue in the cycle that has messages.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from math import gcd

from laneway.engine.flow_fields import joined
from laneway.engine.keys import Keyspace
from laneway.engine.watchlist import Choice, Watchlist

MAX_WEIGHT = 100
MAX_CLASS = 255
LOOK_AT_ALL = 16
"""A fetch looks at all queues of a consumer that has no more than these, and at a part of the queues of the others."""


class RoundRobin:
    """The queues of one consumer, the cycle of their turns, and the consumer's position in the cycle.

    `consumer` names the consumer to the server, which has one of several idle consumers fetch what becomes due.
    """

    def __init__(
        self,
        weights: Mapping[str, int],
        *,
        labels: Sequence[str] = (),
        classes: Mapping[str, int] | None = None,
    ) -> None:
        """`weights`: queue -> 1 to 100. Raises ValueError for other weights, and when there is no queue.

        `labels` of the consumer: only it, and others with the same, get messages that need one of them. `classes`:
        queue -> 1 to 255, for a strict order: a queue waits while one of a lower class has work, among those that a
        fetch looks at. None: all queues share.
        """
        if classes is not None and not all(1 <= classes.get(queue, 0) <= MAX_CLASS for queue in weights):
            raise ValueError(f"a class from 1 to {MAX_CLASS} for each queue")
        self._classes = bytes(classes[queue] for queue in weights) if classes else b""
        self.labels = f",{joined(labels)}," if labels else ""
        self._label_names = tuple(labels)
        self.queues = tuple(weights)
        self.cycle = cycle(tuple(weights.values()))
        self.position = 0
        self.consumer = secrets.token_hex(6).encode()
        self._prefixes: tuple[Keyspace, tuple[bytes, ...]] | None = None
        self._indexes = {queue: index for index, queue in enumerate(self.queues)}
        self._watchlist = Watchlist([turn - 1 for turn in self.cycle], len(self.queues))
        self._all: Choice | None = None
        if len(self.queues) <= LOOK_AT_ALL:
            self._all = Choice(range(len(self.queues)), bytes(self.cycle))

    def choose(self, n: int, idle_poll_ms: int) -> tuple[Choice, int]:
        """The queues that a fetch of `n` messages looks at, and the index of the next of their turns."""
        if self._all:
            return self._all, self.position
        return self._watchlist.choose(n, idle_poll_ms, position=self.position), 0

    def learn(
        self,
        choice: Choice,
        *,
        now: int,
        passed: int,
        delivering: Sequence[int],
        times: Sequence[int],
        expiring: Sequence[int],
    ) -> int | None:
        """Take in the reply to a fetch. Returns when to fetch again (ms by the server's clock; None: at a wakeup).

        `passed`: how many turns have passed. `delivering`: the numbers (from 1, in the choice) of the queues that have
        delivered messages. `times`: the number of a queue, when something becomes due in it (ms), the next number, and
        so on. `expiring`: the number of a queue that expires when it is unused, after how long (ms), and so on.
        """
        if self._all:
            self.position = (self.position + passed) % len(self.cycle)
            return min(times[1::2], default=None)
        self.position = choice.position_after(passed, self.position) % len(self.cycle)
        self._watchlist.learn(choice, now=now, delivering=delivering, times=times, expiring=expiring)
        return self._watchlist.again_at(now)

    def ring(self, queue: str) -> None:
        """Note that the queue has woken this consumer, so that the next fetch looks at it."""
        if queue in self._indexes:
            self._watchlist.look_at(self._indexes[queue])

    def wakeups(self, keys: Keyspace) -> dict[bytes, str]:
        """The keys on which this consumer is woken, with their queues."""
        found = {keys.wakeup(queue): queue for queue in self.queues}
        return found | {keys.label_wakeup(queue, label): queue for queue in self.queues for label in self._label_names}

    def consumer_of(self, choice: Choice) -> tuple[bytes, str, bytes]:
        """What a fetch says of the consumer: its name, its labels, and the classes of the chosen queues."""
        return self.consumer, self.labels, self._classes_of(choice)

    def _classes_of(self, choice: Choice) -> bytes:
        if choice is self._all or not self._classes:
            return self._classes
        return bytes(self._classes[index] for index in choice.queues)

    def prefixes(self, keys: Keyspace, choice: Choice) -> Sequence[bytes]:
        """The prefixes of the keys of the chosen queues."""
        if self._prefixes is None or self._prefixes[0] is not keys:
            self._prefixes = keys, tuple(keys.queue(queue) for queue in self.queues)
        prefixes = self._prefixes[1]
        return prefixes if choice is self._all else [prefixes[index] for index in choice.queues]


def cycle(weights: Sequence[int]) -> Sequence[int]:
    """The turns of one round: each is the index (from 1) of a queue. Raises ValueError for invalid weights."""
    if not weights or not all(1 <= weight <= MAX_WEIGHT for weight in weights):
        raise ValueError(f"one queue or more with weights from 1 to {MAX_WEIGHT}, not {list(weights[:20])}")
    unit = gcd(*weights)
    turns = [
        ((2 * turn + 1) / (2 * (weight // unit)), index)
        for index, weight in enumerate(weights, 1)
        for turn in range(weight // unit)
    ]
    return [index for _, index in sorted(turns)]
