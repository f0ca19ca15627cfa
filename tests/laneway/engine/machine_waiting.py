"""The rules of the state machine for consumers that wait: no message that may run is unseen while one of them waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from math import inf
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from laneway.engine import Delivery, Message, NamedLimit, RoundRobin
from laneway.engine.wake import wake
from tests.laneway.engine.clock import set_clock
from tests.laneway.engine.dump import put_detail
from tests.laneway.engine.machine_bulk import BulkRules
from tests.laneway.engine.machine_values import ONE, queues, tasks, waiting_messages

LEASE_MS = 1_000
MOST_FETCHES = 100
LONG_MS = 1_000_000_000
"""An idle poll that does not come within a test: a consumer that waits fetches only when the server has asked it to."""
either, soon = st.sampled_from(("a", "b")), st.sampled_from((None, None, 400))
SMALL = NamedLimit(max_running=1)
FencedDelivery: TypeAlias = tuple[Delivery, int]
"""A delivery, and the number of the fetch that leased it: the model's fence."""


@dataclass(eq=False)
class Consumer:
    """A consumer and its like in the model. `fetches_at`: when it fetches unasked (ms); None: it does not wait."""

    round_robin: RoundRobin
    model_round_robin: RoundRobin
    labels: tuple[str, ...]
    fetches_at: float | None = None
    waits_since: int = 0


class WaitingRules(BulkRules):
    """Drawn with the rules of `EngineMachine`.

    `idle_poll_ms`: 0 when no consumer waits. `idle`: after each step all consumers take what they can, and wait.
    """

    consumers: list[Consumer]
    idle_poll_ms: int
    idle: bool
    fetches: Iterator[int]
    weights: Mapping[str, int]
    strict: bool
    leases: list[FencedDelivery]

    def start_consumers(self, weights: Mapping[str, int], *, strict: bool, waiting: str) -> None:
        """One of all queues, one of the second alone, and one with labels. `strict`: by class."""
        self.weights, self.strict = weights, strict
        self.idle_poll_ms, self.idle, self.fetches = 0 if waiting == "never" else LONG_MS, waiting == "all", count()
        self.consumers = [self._consumer(), self._consumer("b"), self._consumer(labels=("gpu", "x"))]

    def _consumer(self, *queues: str, labels: tuple[str, ...] = ()) -> Consumer:
        weights = {queue: weight for queue, weight in self.weights.items() if not queues or queue in queues}
        one, other = (RoundRobin(weights, classes=weights if self.strict else None, labels=labels) for _ in range(2))
        return Consumer(one, other, labels)

    @rule(n=st.integers(1, 5), lease_ms=st.sampled_from((300, LEASE_MS)), number=st.sampled_from((0, 1, 2)))
    def fetch(self, n: int, lease_ms: int, number: int = 0) -> None:
        self._fetch(self.consumers[number], n, lease_ms)

    def _fetch(self, consumer: Consumer, n: int, lease_ms: int) -> None:
        batch = self.engine.fetch(consumer.round_robin, n, lease_ms=lease_ms, idle_poll_ms=self.idle_poll_ms)
        expected = self.model.fetch(consumer.model_round_robin, n, lease_ms, consumer.labels)
        assert [(d.queue, d.id, d.deliveries) for d in batch.deliveries] == [lease[:3] for lease in expected]
        assert consumer.round_robin.position == consumer.model_round_robin.position
        if self.idle_poll_ms:
            again_at = inf if batch.again_at is None else batch.again_at
            consumer.fetches_at = None if batch.deliveries else again_at
            consumer.waits_since = next(self.fetches)
        else:
            assert batch.again_at == self.model.again_at(consumer.model_round_robin)
        self.leases += [(d, fence) for d, (*_, fence) in zip(batch.deliveries, expected, strict=True)]

    @property
    def _waiting(self) -> list[Consumer]:
        return [consumer for consumer in self.consumers if consumer.fetches_at is not None]

    @precondition(lambda self: self._waiting)
    @rule(n=st.integers(1, 3))
    def answer(self, n: int) -> None:
        """A consumer that waits is woken, or fetches because it is time."""
        if asked := self._take_asked():
            self._fetch(asked, n, LEASE_MS)

    @rule(queue=queues, task=tasks)
    def wake(self, queue: str, task: str) -> None:
        assert tuple(wake(self.engine, queue, task)) == self.model.wake(queue, task)

    @precondition(lambda self: self.idle_poll_ms)
    @rule(data=st.data(), batch=st.lists(st.tuples(waiting_messages, either, soon), min_size=1, max_size=3))
    def work_while_others_wait(self, data: st.DataObject, batch: list[tuple[Message, str, int | None]]) -> None:
        """Put messages for which consumers must be woken, and end some: chance alone combines this too rarely."""
        self.engine.set_named_limit(ONE.name, SMALL)
        self.model.set_named_limit(ONE.name, SMALL)
        self._let_all_wait()
        for message, queue, delay in batch:
            due = [message if delay is None else replace(message, eta_ms=self.model.now + delay)]
            results = self.engine.put_many(queue, due)
            assert [(put.code, put_detail(put)) for put in results] == self.model.put(queue, due)
        for _ in range(3):
            if data.draw(st.booleans()):
                self._let_all_wait()
            else:
                for _ in range(data.draw(st.integers(1, 4))):
                    self.answer(1)
            self.no_message_is_unseen_while_a_consumer_waits()
            if data.draw(st.booleans()):
                self._end_oldest(data.draw(st.booleans()))
            else:
                self._move_to(self.model.us + 400_001)
            self.no_message_is_unseen_while_a_consumer_waits()

    def _end_oldest(self, released: bool) -> None:
        """Ack the oldest message that a consumer holds, or give it back."""
        held = [(d, fence) for d, fence in self.leases if self.model.is_held(d.queue, d.id, fence)]
        for delivery, fence in held[:1]:
            if released:
                expected = self.model.release(delivery.queue, delivery.id, fence, delay_ms=0, counted=False)
                assert self.engine.release([delivery], counted=False) == [expected]
            else:
                assert self.engine.ack([delivery]) == [self.model.ack(delivery.queue, delivery.id, fence)]

    @invariant()
    def no_message_is_unseen_while_a_consumer_waits(self) -> None:
        if not hasattr(self, "consumers"):
            return
        if not any(map(self._is_asked, self._waiting)):  # who is asked may let messages of other queues go on
            for consumer in self._waiting:
                copy = self._consumer(*consumer.round_robin.queues).model_round_robin
                unseen = self.model.copy().fetch(copy, 1, LEASE_MS, consumer.labels)
                assert unseen == [], f"{unseen} may run, and nobody who waits is asked to fetch"
        if self.idle:
            self._let_all_wait()

    def _move_to(self, us: int) -> None:
        self.model.us = us
        set_clock(self.engine, us)

    def _let_all_wait(self) -> None:
        """Each consumer fetches whenever it is asked to, until nothing is left for it, and it waits."""
        for _ in range(MOST_FETCHES):
            working = [consumer for consumer in self.consumers if consumer.fetches_at is None]
            consumer = working[0] if working else self._take_asked()
            if consumer is None:
                return
            self._fetch(consumer, 5, LEASE_MS)
        raise AssertionError("consumers ask each other without end")

    def _is_asked(self, consumer: Consumer) -> bool:
        """Whether a consumer that waits will fetch now."""
        keys = consumer.round_robin.wakeups(self.engine.keys)
        return consumer.fetches_at <= self.model.now or self.engine.runner.call("EXISTS", *keys) > 0

    def _take_asked(self) -> Consumer | None:
        """The consumer that is asked to fetch: it is time, or it takes a wakeup, and has waited longest."""
        for consumer in sorted(self._waiting, key=lambda consumer: consumer.waits_since):
            if consumer.fetches_at <= self.model.now:
                return consumer
            for key in consumer.round_robin.wakeups(self.engine.keys):
                if self.engine.runner.call("ZPOPMIN", key):
                    return consumer
        return None
