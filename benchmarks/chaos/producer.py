"""A producer: sends tasks until it is stopped, and records which of them were accepted.

`python -m benchmarks.chaos.producer NUMBER INCARNATION`
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from uuid import UUID

from benchmarks.chaos.app import app, plan
from benchmarks.chaos.forks import WAYS
from benchmarks.chaos.ledger import ACCEPTED, OFFERED, REFUSED, Ledger
from benchmarks.chaos.plan import MIXED, SHORT
from benchmarks.chaos.profiles import headers

KINDS = {MIXED: {"short": 55, "long": 3, "delayed": 12, "keyed": 17, "forking": 5, "limited": 8}, SHORT: {"short": 1}}
"""Work → kind of task → its share."""
SECONDS = {MIXED: (0.005, 0.05), SHORT: (0.002, 0.01)}
"""Work → the shortest and the longest task that is not `long`."""
KEYS = 5
"""Ordering keys of one producer. A key has one producer, so the order of its tasks is known."""


@dataclass(frozen=True, slots=True)
class Work:
    """One task to send; `place` is its number among the tasks of its key."""

    mark: str
    task_id: str
    kind: str
    key: str | None
    place: int
    seconds: float
    countdown: float
    priority: int
    fork: str


class Producer:
    """Draws tasks from the seed and sends them."""

    def __init__(self, number: str, incarnation: str) -> None:
        self._name = f"{number}.{incarnation}"
        self._random = Random(f"{plan.seed}/{self._name}")
        self._places: Counter[str] = Counter()
        self._ledger = Ledger(plan.accepted_log)
        self._stop = threading.Event()
        signal.signal(signal.SIGTERM, self._on_signal)

    def run(self) -> None:
        """Send tasks until SIGTERM, or until the harness has ended."""
        parent, pause = os.getppid(), plan.producers / plan.rate
        for number in itertools.count():
            if self._stop.wait(self._random.expovariate(1 / pause)) or os.getppid() != parent:
                return
            while plan.hold.exists() and not self._stop.wait(0.05):
                pass
            self._send(self._make(number))

    def _on_signal(self, *_: object) -> None:
        self._stop.set()

    def _make(self, number: int) -> Work:
        draw = self._random
        shares = KINDS[plan.work]
        kind = draw.choices(list(shares), list(shares.values()))[0]
        key = f"{self._name}/{draw.randrange(KEYS)}" if kind == "keyed" else None
        if key:
            self._places[key] += 1
        return Work(
            mark=f"{self._name}-{number}",
            task_id=str(UUID(int=draw.getrandbits(128), version=4)),
            kind=kind,
            key=key,
            place=self._places[key] if key else 0,
            seconds=round(draw.uniform(2, 5) if kind == "long" else draw.uniform(*SECONDS[plan.work]), 4),
            countdown=round(draw.uniform(1, 5), 3) if kind == "delayed" else 0.0,
            priority=draw.randrange(10) if key is None else 5,
            fork=draw.choice(WAYS) if kind == "forking" else "",
        )

    def _send(self, one: Work) -> None:
        self._ledger.write(OFFERED, one.mark, one.task_id, one.kind, one.key, one.place, one.countdown)
        try:
            app.signature("chaos.work").apply_async(
                (one.mark, one.seconds, one.fork),
                task_id=one.task_id,
                countdown=one.countdown or None,
                priority=one.priority,
                headers=headers(plan, key=one.key, limited=one.kind == "limited"),
            )
        except Exception as error:  # noqa: BLE001  any error means that publish did not return
            self._ledger.write(REFUSED, one.mark, type(error).__name__)
            time.sleep(0.1)
        else:
            self._ledger.write(ACCEPTED, one.mark)


if __name__ == "__main__":
    with app.connection_for_write():
        Producer(*sys.argv[1:3]).run()
