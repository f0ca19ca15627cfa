"""Consumers of one server whose time stands still: they wait, fetch and work as workers do, and the time is a number.

So a test counts script calls and reads off when a message was delivered, and nothing depends on the machine's speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from laneway.engine import Delivery, Engine, RoundRobin
from tests.laneway.engine.clock import NOW_MS, move_to


@dataclass(eq=False)
class FleetConsumer:
    """A consumer. Times are in ms from the start. While it works it neither fetches nor waits for a wakeup.

    `is_polling`: its next fetch is not one that the server has asked for.
    """

    round_robin: RoundRobin
    next_fetch_at: float
    idle_since: float = 0
    is_polling: bool = True
    done_at: float = inf
    running: list[Delivery] = field(default_factory=list[Delivery])

    @property
    def next_event_at(self) -> float:
        return self.done_at if self.running else self.next_fetch_at


class Fleet:
    """Consumers of the same queues. Each takes up to `room` messages and works on them for `busy_ms`."""

    def __init__(
        self, engine: Engine, n: int, *queues: str, idle_poll_ms: int, room: int = 1, busy_ms: float = 0
    ) -> None:
        """Start the consumers one after another, within the time of an idle poll."""
        self.engine, self.queues = engine, queues
        self.idle_poll_ms, self.room, self.busy_ms = idle_poll_ms, room, busy_ms
        self.now, self.fetches, self.polls = 0.0, 0, 0
        self.delivered: dict[str, float] = {}
        weights: Mapping[str, int] = dict.fromkeys(queues, 1)
        self.consumers = [FleetConsumer(RoundRobin(weights), index * idle_poll_ms / n) for index in range(n)]
        self.run(idle_poll_ms)
        self.fetches = self.polls = 0

    @property
    def asked_fetches(self) -> int:
        """The fetches that a wakeup or a time has caused: all but the idle polls."""
        return self.fetches - self.polls

    def run(self, until: float) -> None:
        """Let the time go on until then."""
        self.answer_wakeups()
        while (at := min((consumer.next_event_at for consumer in self.consumers), default=inf)) <= until:
            consumer = min(self.consumers, key=lambda consumer: consumer.next_event_at)
            self._move_to(max(at, self.now))
            if consumer.running:
                self.engine.ack(consumer.running)
                consumer.running, consumer.idle_since = [], self.now
            else:
                self.polls += consumer.is_polling
                self._fetch(consumer)
            self.answer_wakeups()
        self._move_to(until)

    def answer_wakeups(self) -> None:
        """Have the consumers that wait fetch, one for each wakeup, until there is none."""
        while woken := self.take_wakeup():
            consumer, queue = woken
            consumer.round_robin.ring(queue)
            self._fetch(consumer)

    def take_wakeup(self) -> tuple[FleetConsumer, str] | None:
        """Take a wakeup from the server for the consumer that has waited longest, as BZPOPMIN does."""
        idle = [consumer for consumer in self.consumers if not consumer.running]
        for queue in self.queues if idle else ():
            if self.engine.runner.call("ZPOPMIN", self.engine.keys.wakeup(queue)):
                return min(idle, key=lambda consumer: consumer.idle_since), queue
        return None

    def next_to_fetch(self) -> FleetConsumer:
        """The consumer that fetches next, if nothing wakes another one."""
        return min(self.consumers, key=lambda consumer: consumer.next_fetch_at)

    def kill(self, consumer: FleetConsumer) -> None:
        """The consumer does nothing any more."""
        self.consumers.remove(consumer)

    def _fetch(self, consumer: FleetConsumer) -> None:
        self.fetches += 1
        batch = self.engine.fetch(consumer.round_robin, self.room, idle_poll_ms=self.idle_poll_ms)
        self.delivered |= {delivery.id: self.now for delivery in batch.deliveries}
        consumer.running, consumer.done_at, consumer.idle_since = batch.deliveries, self.now + self.busy_ms, self.now
        asked_at = inf if batch.again_at is None else batch.again_at - NOW_MS
        consumer.next_fetch_at = min(asked_at, self.now + self.idle_poll_ms)
        consumer.is_polling = asked_at > consumer.next_fetch_at

    def _move_to(self, ms: float) -> None:
        self.now = ms
        move_to(self.engine, ms)
