"""Drives the model and a real server with the same calls, and compares everything after each call."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from redis.connection import ConnectionPool

from laneway.engine import (
    AckAction,
    Delivery,
    Engine,
    EventKind,
    Flow,
    HandOn,
    Lease,
    Limits,
    Message,
    MessageInfo,
    MessageState,
    NamedLimit,
    PutCode,
    UnknownMessage,
)
from tests.laneway.engine.clock import CLOCK_LUA
from tests.laneway.engine.dump import assert_expiring, assert_limit_waits, assert_same, put_detail, server_dump
from tests.laneway.engine.ledger import Ledger
from tests.laneway.engine.machine_values import (
    ONE,
    START_MS,
    ack_actions,
    delays,
    journal_sizes,
    limits,
    messages,
    named_limits,
    plain_messages,
    queues,
    tasks,
    versions,
)
from tests.laneway.engine.machine_waiting import LEASE_MS, FencedDelivery, WaitingRules
from tests.laneway.engine.model import Model
from tests.laneway.engine.model_queue import ModelMessage

QUEUES = ("a", "b")
START_US = START_MS * 1000
LABELS, KEPT_LIMITS = ((), (), ("gpu", "x")), ("paused", "journal", "handed_on", "task_limits")
HAND_ON = HandOn(longest=6, reason="unregistered", error="No worker knows the task.", note='{"text": "handed on"}')


class EngineMachine(WaitingRules):
    """One engine, two queues, and a clock that stands still unless it is moved."""

    pool: ConnectionPool

    @initialize(
        journal_a=journal_sizes,
        journal_b=journal_sizes,
        strict=st.booleans(),
        waiting=st.sampled_from(("never", "some", "all")),
    )
    def start(self, journal_a: int | None, journal_b: int | None, strict: bool, waiting: str) -> None:
        self.engine = Engine(self.pool, clock=CLOCK_LUA)
        self.engine.runner.call("FLUSHDB")
        self.model = Model()
        self.start_consumers({"a": 2, "b": 1}, strict=strict, waiting=waiting)
        self.leases: list[FencedDelivery] = []
        self.calls: dict[Lease, bytes] = {}
        self.ledgers: dict[str, Ledger] = {}
        self._move_to(START_US)
        self.enable_journal("a", journal_a)
        self.enable_journal("b", journal_b)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()

    @rule(ms=st.sampled_from((1, 50, 400, 1_000, 2_500)))
    def move_time(self, ms: int) -> None:
        self._move_to(self.model.us + ms * 1000 + 1)

    @rule(queue=queues, batch=st.lists(st.tuples(messages, delays), min_size=1, max_size=4))
    def put(self, queue: str, batch: list[tuple[Message, int | None]]) -> None:
        now = self.model.now
        due = [replace(message, eta_ms=None if delay is None else now + delay) for message, delay in batch]
        results = self.engine.put_many(queue, due)
        assert [(put.code, put_detail(put)) for put in results] == self.model.put(queue, due)

    @rule(queue=queues, batch=st.lists(messages, min_size=1, max_size=3), version=versions)
    def put_version(self, queue: str, batch: list[Message], version: int | None) -> None:
        results = self.engine.put_many(queue, batch, version=version)
        assert [(put.code, put_detail(put)) for put in results] == self.model.put(queue, batch, version=version)

    @rule(queue=queues, batch=st.lists(plain_messages, min_size=1, max_size=4))
    def put_plain(self, queue: str, batch: list[Message]) -> None:
        self.put(queue, [(message, None) for message in batch])

    @rule(queue=queues, batch=st.lists(messages, min_size=1, max_size=3), spare=st.sampled_from((-0.9, 0.0, 0.9)))
    def put_not_after(self, queue: str, batch: list[Message], spare: float) -> None:
        results = self.engine.put_many(queue, batch, not_after=self.model.now / 1000 + spare)
        late = [(PutCode.TOO_LATE, message.id or message.task_id) for message in batch]
        assert [(put.code, put_detail(put)) for put in results] == (late if spare < 0 else self.model.put(queue, batch))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        chosen = self._draw_leases(data)
        expected = [self.model.ack(d.queue, d.id, fence) for d, fence in chosen]
        assert self.engine.ack([d for d, _ in chosen]) == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        chosen = self._draw_leases(data)
        expected = [self.model.renew(d.queue, d.id, fence, LEASE_MS) for d, fence in chosen]
        assert self.engine.renew([d for d, _ in chosen], lease_ms=LEASE_MS) == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), delay_ms=st.sampled_from((0, 0, 600)), counted=st.booleans())
    def release(self, data: st.DataObject, delay_ms: int, counted: bool) -> None:
        chosen = self._draw_leases(data)
        expected = [self.model.release(d.queue, d.id, fence, delay_ms=delay_ms, counted=counted) for d, fence in chosen]
        assert self.engine.release([d for d, _ in chosen], delay_ms=delay_ms, counted=counted) == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def hand_on(self, data: st.DataObject) -> None:
        chosen = self._draw_leases(data)
        expected = [self.model.hand_on(d.queue, d.id, fence, HAND_ON) for d, fence in chosen]
        assert self.engine.hand_on([d for d, _ in chosen], HAND_ON) == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        chosen = self._draw_leases(data)
        expected = [self.model.bury(d.queue, d.id, fence, "bad", "error é") for d, fence in chosen]
        assert self.engine.bury([d for d, _ in chosen], reason="bad", error="error é") == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), repeated=st.sampled_from((False, False, True)))
    def start_attempt(self, data: st.DataObject, repeated: bool) -> None:
        self._start_attempt(*data.draw(st.sampled_from(self.leases[-6:])), repeated=repeated)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), action=ack_actions, delay_ms=st.sampled_from((0, 0, 600)))
    def finish_attempt(self, data: st.DataObject, action: AckAction, delay_ms: int) -> None:
        self._finish_attempt(*data.draw(st.sampled_from(self.leases[-6:])), action, delay_ms)

    @rule(data=st.data(), queue=queues, batch=st.lists(messages, min_size=1, max_size=3))
    def run_attempts(self, data: st.DataObject, queue: str, batch: list[Message]) -> None:
        """Chance alone combines the parts of attempts too rarely."""
        if not self._held_leases():
            self.pause(queue, False)
            self.put(queue, [(message, None) for message in batch])
            self.fetch(5, LEASE_MS)
        for delivery, fence in self._held_leases():
            self._run_attempt(data, delivery, fence)

    def _run_attempt(self, data: st.DataObject, delivery: Delivery, fence: int) -> None:
        action = data.draw(st.none() | ack_actions)
        delay_ms = data.draw(st.sampled_from((0, 0, 600)))
        cancelled = data.draw(st.sampled_from(("", "", "", "before", "within")))
        task = delivery.stored.message.task_id
        if cancelled == "before":
            self.cancel(delivery.queue, task)
        for repeated in (False, True):
            self._start_attempt(delivery, fence, repeated=repeated)
        if cancelled == "within":
            self.cancel(delivery.queue, task)
        if action:
            self._finish_attempt(delivery, fence, action, delay_ms)
        match data.draw(st.sampled_from(("ack", "release", "bury", "hand on", "expire", "start again"))):
            case "ack":
                assert self.engine.ack([delivery]) == [self.model.ack(delivery.queue, delivery.id, fence)]
            case "release":
                expected = self.model.release(delivery.queue, delivery.id, fence, delay_ms=0, counted=True)
                assert self.engine.release([delivery]) == [expected]
            case "bury":
                expected = self.model.bury(delivery.queue, delivery.id, fence, "bad", "")
                assert self.engine.bury([delivery], reason="bad") == [expected]
            case "hand on":
                expected = self.model.hand_on(delivery.queue, delivery.id, fence, HAND_ON)
                assert self.engine.hand_on([delivery], HAND_ON) == [expected]
                self.fetch(5, LEASE_MS)
                self.move_time(data.draw(st.sampled_from((1_900, 2_100, 3_000))))
                self.fetch(5, LEASE_MS)
            case "expire":
                self.move_time(LEASE_MS)
                self.fetch(5, LEASE_MS)
            case _:
                self._start_attempt(delivery, fence, repeated=False)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def check_leases(self, data: st.DataObject) -> None:
        chosen = self._draw_leases(data)
        expected = [self.model.check_leases(d.queue, d.id, fence) for d, fence in chosen]
        assert self.engine.check_leases([Lease.parse(str(d.lease)) for d, _ in chosen]) == expected

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), kind=st.sampled_from((EventKind.PROGRESS, EventKind.LOG)))
    def report(self, data: st.DataObject, kind: EventKind) -> None:
        delivery, fence = data.draw(st.sampled_from(self.leases[-6:]))
        expected = self.model.report(delivery.queue, delivery.id, fence, kind, "half ½")
        assert self.engine.report(delivery.lease, kind, "half ½") == expected

    @rule(queue=queues, max_unread=journal_sizes)
    def enable_journal(self, queue: str, max_unread: int | None) -> None:
        self.engine.enable_journal(queue, max_unread)
        model_limits = self.model.queue(queue).limits
        model_limits.pop("journal", None)
        if max_unread is None:
            self.ledgers.pop(queue, None)
            return
        model_limits["journal"] = max_unread
        if queue not in self.ledgers:
            opening = server_dump(self.engine, queue)
            self.ledgers[queue] = Ledger(opening)
            self.ledgers[queue].skip(opening["events"])

    @rule(queue=queues, share=st.sampled_from((0.5, 1.0, 1.0)))
    def trim_journal(self, queue: str, share: float) -> None:
        q = self.model.queue(queue)
        read = self.engine.events(queue, limit=max(1, int(q.unread * share)))
        if read:
            self.engine.trim_journal(queue, until=read[-1].cursor)
            del q.journal[: len(read)]
        assert self.engine.unread([queue]) == [q.unread]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), message=messages)
    def continue_and_cancel(self, data: st.DataObject, message: Message) -> None:
        """A retry, a cancel and another retry while the task runs: chance alone combines them too rarely."""
        delivery, _ = data.draw(st.sampled_from(self.leases[-6:]))
        task = delivery.stored.message.task_id
        retry = replace(message, task_id=task, id=None, key=delivery.stored.message.key)
        self.put(delivery.queue, [(retry, None)])
        if data.draw(st.booleans()):
            self.cancel(delivery.queue, task)
            self.put(delivery.queue, [(retry, None), (retry, 400)])

    @rule(queue=queues, task=tasks, version=versions)
    def cancel(self, queue: str, task: str, version: int | None = None) -> None:
        cancelled = self.engine.cancel(queue, task, version=version)
        assert (cancelled.removed, cancelled.marked, cancelled.dead) == self.model.cancel(queue, task, version)

    @precondition(lambda self: any(self.model.queue(queue).in_states(MessageState.DEAD) for queue in QUEUES))
    @rule(queue=queues, data=st.data(), discard=st.booleans())
    def requeue_or_discard(self, queue: str, data: st.DataObject, discard: bool) -> None:
        dead = [m.id for m in self.model.queue(queue).in_states(MessageState.DEAD)]
        ids = data.draw(st.lists(st.sampled_from([*dead, "unknown"]), max_size=3))
        if discard:
            assert self.engine.discard(queue, ids) == self.model.discard(queue, ids)
        else:
            assert self.engine.requeue(queue, ids) == self.model.requeue(queue, ids)

    @rule(queue=queues, paused=st.sampled_from((False, False, True)))
    def pause(self, queue: str, paused: bool) -> None:
        (self.engine.pause if paused else self.engine.resume)(queue)
        model_limits = self.model.queue(queue).limits
        model_limits.pop("paused", None)
        if paused:
            model_limits["paused"] = 1

    @rule(queue=queues, limits=limits)
    def limit(self, queue: str, limits: Limits) -> None:
        self.engine.limit(queue, limits)
        model_limits = self.model.queue(queue).limits
        kept = {
            name: model_limits[name]
            for name in ("paused", "journal", "handed_on", "task_limits")
            if name in model_limits
        }
        model_limits.clear()
        model_limits.update({name: value for name, value in limits.fields().items() if value is not None} | kept)

    @rule(name=st.sampled_from(("l1", "l1", "l2", "task:app.work")), limit=st.none() | named_limits, on=st.booleans())
    def set_named_limit(self, name: str, limit: NamedLimit | None, on: bool) -> None:
        self.engine.set_named_limit(name, limit)
        self.model.set_named_limit(name, limit)
        self.engine.limit_task_names("a", on=on)
        model_limits = self.model.queue("a").limits
        model_limits.pop("task_limits", None)
        model_limits |= {"task_limits": 1} if on else {}

    @rule(data=st.data(), queue=queues, batch=st.lists(messages, min_size=2, max_size=4), limit=named_limits)
    def work_at_a_limit(self, data: st.DataObject, queue: str, batch: list[Message], limit: NamedLimit) -> None:
        """Let messages wait for a limit until others have ended."""
        self.set_named_limit("l1", limit, False)
        for name in QUEUES:
            self.pause(name, False)
        self.put(queue, [(replace(message, key=None, flow=Flow(limits=(ONE,))), None) for message in batch])
        for _ in range(3):
            self.fetch(5, LEASE_MS)
            for delivery, fence in self._held_leases():
                if data.draw(st.booleans()):
                    assert self.engine.ack([delivery]) == [self.model.ack(delivery.queue, delivery.id, fence)]
            self.move_time(data.draw(st.sampled_from((1, 400, 1_000))))

    @rule(name=st.sampled_from(("l1", "l2")), key=st.sampled_from(("", "x")), seconds=st.sampled_from((0.3, 2.0)))
    def block_limit(self, name: str, key: str, seconds: float) -> None:
        self.engine.block_limit(name, seconds, key=key)
        self.model.block_limit(name, seconds, key)

    @rule(queue=queues)
    def purge(self, queue: str) -> None:
        assert self.engine.purge(queue) == self.model.purge(queue)

    @rule(queue=queues, task=tasks)
    def find(self, queue: str, task: str) -> None:
        q = self.model.queue(queue)
        of_task = q.of_task(task)
        try:
            found = self.engine.find(queue, task)
        except UnknownMessage:
            assert not of_task
            return
        m = max(of_task, key=lambda m: m.sequence)
        self._assert_info(found, m)
        assert (found.cancelled, found.attempts) == (m.cancelled, m.started)
        assert (found.lease is not None) is (found.owner is not None) is (m.state is MessageState.LEASED)
        ready = [other.id for other in q.in_states(MessageState.READY)]
        assert found.position == (ready.index(m.id) if m.id in ready else None)
        head = q.head(m.message.key) if m.message.key else None
        assert found.behind == (head.message.task_id if head and m.state is MessageState.HELD else None)

    @rule(queue=queues, state=st.sampled_from(MessageState), offset=st.sampled_from((0, 0, 1)))
    def peek(self, queue: str, state: MessageState, offset: int) -> None:
        expected = self.model.queue(queue).in_states(state)[offset : offset + 3]
        page = self.engine.peek(queue, state, offset=offset, limit=3)
        for info, m in zip(page, expected, strict=True):
            self._assert_info(info, m)

    @invariant()
    def server_and_model_are_equal(self) -> None:
        if hasattr(self, "engine"):
            for queue in QUEUES:
                real = assert_same(self.engine, queue, self.model.queue(queue))
                assert_expiring(self.engine, queue, expires="expires" in real["limits"])
                assert_limit_waits(self.engine, self.model, queue)
                if ledger := self.ledgers.get(queue):
                    ledger.read(real["events"])
                    ledger.assert_agrees(real)

    def _assert_info(self, info: MessageInfo, m: ModelMessage) -> None:
        timed = m.state not in (MessageState.READY, MessageState.HELD, MessageState.LIMITED)
        assert (info.stored.id, info.state, info.deliveries) == (m.id, m.state, m.deliveries)
        assert info.at == (m.at if timed else info.at if m.state is MessageState.LIMITED else None)
        dead_info = info.dead_info and (info.deliveries, info.dead_info.reason, info.dead_info.error)
        assert dead_info == (m.dead_info if m.state is MessageState.DEAD else None)

    def _start_attempt(self, delivery: Delivery, fence: int, *, repeated: bool) -> None:
        last = self.calls.get(delivery.lease)
        call = last if repeated and last else len(self.calls).to_bytes(3) + self.model.us.to_bytes(8)
        self.calls[delivery.lease] = call
        most = None if self.model.us % 3 else 2
        expected = self.model.start_attempt(delivery.queue, delivery.id, fence, worker="w1", call=call, most=most)
        assert self.engine.start_attempt(delivery.lease, worker="w1", call=call, most=most)[:2] == expected

    def _finish_attempt(self, delivery: Delivery, fence: int, action: AckAction, delay_ms: int) -> None:
        expected = self.model.finish_attempt(
            delivery.queue, delivery.id, fence, action, outcome="{…}", delay_ms=delay_ms
        )
        assert self.engine.finish_attempt(delivery.lease, action, outcome="{…}", delay_ms=delay_ms) == expected

    def _held_leases(self) -> list[FencedDelivery]:
        return [
            (delivery, fence)
            for delivery, fence in self.leases[-12:]
            if self.model.is_held(delivery.queue, delivery.id, fence)
        ]

    def _draw_leases(self, data: st.DataObject) -> list[FencedDelivery]:
        recent = self.leases[-12:]
        chosen = data.draw(st.lists(st.sampled_from(range(len(recent))), unique=True, max_size=4))
        picked: dict[tuple[str, str], FencedDelivery] = {}
        for index in chosen:
            delivery, fence = recent[index]
            picked.setdefault((delivery.queue, delivery.id), (delivery, fence))
        return sorted(picked.values(), key=lambda lease: lease[0].queue)  # the engine groups by queue
