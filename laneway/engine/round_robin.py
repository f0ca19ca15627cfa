"""Weighted round-robin over queues. No queue starves, and the server stores no state for it.

A cycle lists the turns of one round. With the weights 6, 3 and 1, the first queue has six of ten turns, the second
three and the third one, spread evenly. A consumer goes through the cycle, and keeps its position between fetches. The
turn of an empty queue goes to the next queue in the cycle that has messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from laneway.engine.keys import Keyspace

MAX_WEIGHT = 100
MAX_QUEUES = 255


class RoundRobin:
    """The queues of one consumer, the cycle of their turns, and the consumer's position in the cycle."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        """`weights`: queue -> 1 to 100."""
        self.queues = tuple(weights)
        self._prefixes: tuple[Keyspace, tuple[bytes, ...]] | None = None
        self.cycle = cycle(tuple(weights.values()))
        self.position = 0

    def prefixes(self, keys: Keyspace) -> tuple[bytes, ...]:
        """The prefixes of the queues' keys."""
        if self._prefixes is None or self._prefixes[0] is not keys:
            self._prefixes = keys, tuple(keys.queue(queue) for queue in self.queues)
        return self._prefixes[1]

    def queue_at(self, index: int) -> str:
        """The queue with this index in the cycle, from 1."""
        return self.queues[index - 1]


def cycle(weights: Sequence[int]) -> bytes:
    """The turns of one round: each byte is the index (from 1) of a queue. Raises ValueError for invalid weights."""
    if not 0 < len(weights) <= MAX_QUEUES or not all(1 <= weight <= MAX_WEIGHT for weight in weights):
        raise ValueError(f"1 to {MAX_QUEUES} queues with weights from 1 to {MAX_WEIGHT}, not {list(weights)}")
    unit = gcd(*weights)
    shares = [weight // unit for weight in weights]
    credit, turns = [0] * len(shares), bytearray()
    for _ in range(sum(shares)):
        for index, share in enumerate(shares):
            credit[index] += share
        chosen = max(range(len(shares)), key=lambda index: (credit[index], -index))
        credit[chosen] -= sum(shares)
        turns.append(chosen + 1)
    return bytes(turns)
