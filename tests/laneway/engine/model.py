"""What the engine should do, in dictionaries and sorting, without a thought for speed.

It is written from docs/engine.md, not from the scripts: a message is an object with a state, and every
order is found by sorting. Time is a number that the test moves, in microseconds.
"""

from __future__ import annotations

from math import ceil, floor, inf

from laneway.engine import AckAction, Kind
from laneway.engine.message import EPOCH_MS, Message, UniqueMode
from laneway.engine.replies import LeaseStatus, MessageState, PutCode
from laneway.engine.round_robin import RoundRobin
from tests.laneway.engine.books import DEAD_AGE, DEAD_MAX, DEFAULT_DELIVERIES, WAITING, Attempt, Item, Queue


class Model:
    """Queues by name, and the operations of the engine on them."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.us = 0
        self.fence = 0

    @property
    def now(self) -> int:
        return self.us // 1000

    def queue(self, name: str) -> Queue:
        return self.queues.setdefault(name, Queue())

    def put(self, name: str, messages: list[Message]) -> list[tuple[PutCode, str]]:
        q = self.queue(name)
        sequence = max(q.sequence, (self.us - EPOCH_MS * 1000) // 10)
        answers: list[tuple[PutCode, str]] = []
        accepted = 0
        for message in messages:
            code, detail = self._put(q, message, sequence + 1)
            answers.append((code, detail))
            if code is PutCode.ACCEPTED:
                sequence, accepted = sequence + 1, accepted + 1
        if accepted:
            q.count("put", accepted)
            q.sequence = sequence
        return answers

    def _put(self, q: Queue, message: Message, sequence: int) -> tuple[PutCode, str]:
        id = message.id or message.task_id
        if id in q.items:
            if message.id:
                return PutCode.EXISTS, id
            id = str(sequence)
        others = q.of_task(message.task_id)
        if others:
            if any(other.cancelled for other in others):
                return PutCode.CANCELLED, message.id or message.task_id
        elif (limit := q.limits.get("max_size")) is not None and (size := len(q.having(*WAITING))) >= limit:
            return PutCode.FULL, str(size)
        elif (bound := q.limits.get("journal")) is not None and len(q.journal) >= bound:
            return PutCode.JOURNAL_FULL, str(len(q.journal))
        if message.unique:
            q.sweep(self.now)
            by = q.holder(message.unique.key, self.now)
            if by and by != message.task_id and not others:
                q.count("duplicates")
                return PutCode.DUPLICATE, by
            if not by:
                q.hold(message, self.now)
        item = Item(id, message, sequence)
        q.note(Kind.PUT, item, stored=(message, item.score))
        self._file(q, item, continues=bool(others))
        return PutCode.ACCEPTED, id

    def fetch(self, lanes: RoundRobin, n: int, lease_ms: int) -> list[tuple[str, str, int, int]]:
        """Queue, id, deliveries and fence of each message handed out."""
        self.fence += 1
        left: dict[str, float] = {}
        for name in lanes.queues:
            q = self.queue(name)
            self._promote(q)
            self._take_back(q)
            left[name] = min(self._allowance(q), len(q.having(MessageState.READY)))
        order = self._turns(lanes, left, n)
        handed = {name: self._lease(self.queue(name), order.count(name), lease_ms) for name in lanes.queues}
        return [(name, *handed[name].pop(0)) for name in order]

    def settle(self, name: str, id: str, fence: int) -> Item | LeaseStatus:
        """The item that this lease holds, or why it does not."""
        item = self.queue(name).items.get(id)
        if (
            item is None
            or item.state is MessageState.DEAD
            or (item.state is not MessageState.LEASED and item.times == 0)
        ):
            return LeaseStatus.UNKNOWN
        if item.state is not MessageState.LEASED or item.fence != fence:
            return LeaseStatus.STALE
        return item

    def ack(self, name: str, id: str, fence: int) -> LeaseStatus:
        item = self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        q, code = self.queue(name), LeaseStatus.CANCELLED if item.cancelled else LeaseStatus.DONE
        if item.verdict and item.verdict[0] is not AckAction.DONE:
            self._wind_up(q, item)
            return code
        if not item.verdict:
            q.note(Kind.ACK, item, attempt=item.begun)
        self._forget(q, item)
        q.count("acked")
        return code

    def start_attempt(self, name: str, id: str, fence: int, *, worker: str, call: bytes) -> tuple[LeaseStatus, int]:
        item = self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item, 0
        if item.cancelled:
            return LeaseStatus.CANCELLED, 0
        if item.verdict:
            return LeaseStatus.STALE, item.begun
        if item.attempt is None or not item.running or item.attempt.by != call:
            self._break_off(self.queue(name), item, "started again")
            item.attempt = Attempt(item.begun + 1, running=True, by=call)
            self.queue(name).note(Kind.BEGIN, item, attempt=item.begun, worker=worker)
        return LeaseStatus.DONE, item.begun

    def finish_attempt(
        self, name: str, id: str, fence: int, verdict: AckAction, *, outcome: str, delay_ms: int
    ) -> LeaseStatus:
        item = self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        if not item.verdict:
            fields = {"attempt": item.begun, "verdict": verdict, "delay_ms": delay_ms, "outcome": outcome}
            self.queue(name).note(Kind.END, item, **fields)
            counts = verdict is not AckAction.SNOOZE or not item.running
            item.attempt = Attempt(item.begun if counts else item.begun - 1)
            item.verdict = verdict, delay_ms
        return LeaseStatus.DONE

    def check_leases(self, name: str, id: str, fence: int) -> LeaseStatus:
        item = self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        return LeaseStatus.CANCELLED if item.cancelled else LeaseStatus.DONE

    def report(self, name: str, id: str, fence: int, kind: Kind, said: str) -> LeaseStatus:
        q, item = self.queue(name), self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        if len(q.journal) < q.limits.get("journal", 0):
            q.note(kind, item, attempt=item.begun, outcome=said)
        return LeaseStatus.CANCELLED if item.cancelled else LeaseStatus.DONE

    def renew(self, name: str, id: str, fence: int, lease_ms: int) -> LeaseStatus:
        item = self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        item.at = self.now + lease_ms
        return LeaseStatus.CANCELLED if item.cancelled else LeaseStatus.DONE

    def release(self, name: str, id: str, fence: int, *, delay_ms: int, counted: bool) -> LeaseStatus:
        q, item = self.queue(name), self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        self._break_off(q, item, "released")
        if (code := self._wind_up(q, item)) is not None:
            return code
        if counted and item.times >= self._most(q, item):
            self._bury(q, item, "poison", f"given back at delivery {item.times}")
            return LeaseStatus.BURIED
        item.times -= 0 if counted else 1
        self._put_back(item, delay_ms)
        q.count("released")
        return LeaseStatus.DONE

    def bury(self, name: str, id: str, fence: int, reason: str, error: str) -> LeaseStatus:
        item = self.settle(name, id, fence)
        if isinstance(item, LeaseStatus):
            return item
        if item.verdict and (code := self._wind_up(self.queue(name), item)) is not None:
            return code
        self._bury(self.queue(name), item, reason, error)
        return LeaseStatus.DONE

    def cancel(self, name: str, task: str) -> tuple[int, int, int]:
        q = self.queue(name)
        mine = sorted(q.of_task(task), key=lambda item: (item.id == task, -item.sequence))  # the newest first
        marked = [item for item in mine if item.state is MessageState.LEASED]
        dead = [item for item in mine if item.state is MessageState.DEAD]
        waiting = [item for item in mine if item.state in WAITING]
        for item in mine:
            if item in waiting:
                q.note(Kind.CANCEL, item)
                self._forget(q, item)
            elif item in marked and not item.cancelled:
                q.note(Kind.MARK, item)
                item.cancelled = True
        q.count("cancelled", len(waiting))
        return len(waiting), len(marked), len(dead)

    def requeue(self, name: str, ids: list[str]) -> list[LeaseStatus]:
        q = self.queue(name)
        sequence, codes, before = max(q.sequence, (self.us - EPOCH_MS * 1000) // 10), list[LeaseStatus](), q.sequence
        for id in ids:
            item = q.items.get(id)
            if item is None or item.state is not MessageState.DEAD:
                codes.append(LeaseStatus.UNKNOWN)
                continue
            unique = item.message.unique
            if unique and unique.mode is not UniqueMode.FOR_TIME:
                by = q.holder(unique.key, self.now)
                if by and by != item.message.task_id:
                    codes.append(LeaseStatus.DUPLICATE)
                    continue
                if not by:
                    q.hold(item.message, self.now)
            sequence += 1
            q.note(Kind.REQUEUE, item)
            del q.items[id]
            self._file(q, Item(id, item.message, sequence), continues=False)
            q.sequence = sequence
            codes.append(LeaseStatus.DONE)
        q.count("requeued", codes.count(LeaseStatus.DONE))
        assert q.sequence >= before
        return codes

    def discard(self, name: str, ids: list[str]) -> list[LeaseStatus]:
        q, codes = self.queue(name), list[LeaseStatus]()
        for id in ids:
            item = q.items.get(id)
            if item is None or item.state is not MessageState.DEAD:
                codes.append(LeaseStatus.UNKNOWN)
                continue
            q.note(Kind.DISCARD, item)
            del q.items[id]
            codes.append(LeaseStatus.DONE)
        q.count("discarded", codes.count(LeaseStatus.DONE))
        return codes

    def purge(self, name: str) -> int:
        q, removed = self.queue(name), 0
        for state in WAITING:
            for item in q.having(state):
                q.note(Kind.PURGE, item)
                self._forget(q, item)
                removed += 1
        q.count("purged", removed)
        return removed

    def _promote(self, q: Queue) -> None:
        for item in q.having(MessageState.SCHEDULED):
            if item.at <= self.now:
                item.state, item.at = MessageState.READY, 0

    def _take_back(self, q: Queue) -> None:
        over = [item for item in q.having(MessageState.LEASED) if item.at <= self.now]
        for item in over:
            self._break_off(q, item, "lease")
            if self._wind_up(q, item) is not None:
                continue
            if item.times >= self._most(q, item):
                self._bury(q, item, "poison", f"its lease expired at delivery {item.times}")
            else:
                item.state, item.at = MessageState.READY, 0
        q.count("expired", len(over))

    def _allowance(self, q: Queue) -> float:
        limits = q.limits
        if limits.get("paused"):
            return 0
        allowed: float = inf
        if "max_in_flight" in limits:
            allowed = limits["max_in_flight"] - len(q.having(MessageState.LEASED))
        if "interval" in limits:
            interval = limits["interval"]
            spare = self.us + limits["burst"] * interval - max(limits.get("tat", 0), self.us)
            allowed = min(allowed, floor(spare / interval))
        return max(allowed, 0)

    def _turns(self, lanes: RoundRobin, left: dict[str, float], n: int) -> list[str]:
        order: list[str] = []
        alone = sum(1 for count in left.values() if count) == 1
        while len(order) < n and any(left.values()):
            if alone:
                name = next(name for name, count in left.items() if count)
            else:
                name = lanes.queues[lanes.cycle[lanes.position] - 1]
                lanes.position = (lanes.position + 1) % len(lanes.cycle)
            if left[name]:
                left[name] -= 1
                order.append(name)
        return order

    def _break_off(self, q: Queue, item: Item, why: str) -> None:
        if item.attempt and item.running:
            item.attempt.running = False
            q.note(Kind.LOST, item, attempt=item.begun, reason=why)

    def _wind_up(self, q: Queue, item: Item) -> LeaseStatus | None:
        """The verdict, or the end of its task, decides what becomes of a message that leaves its worker."""
        verdict, delay_ms = item.verdict or (None, 0)
        if verdict is AckAction.DONE:
            self._forget(q, item)
            q.count("acked")
            return LeaseStatus.DONE
        if item.cancelled:
            q.note(Kind.CANCEL, item)
            self._forget(q, item)
            q.count("cancelled")
            return LeaseStatus.CANCELLED
        if verdict is None:
            return None
        item.verdict, item.times = None, 0
        self._put_back(item, delay_ms)
        q.count("retried")
        return LeaseStatus.DONE

    def _put_back(self, item: Item, delay_ms: int) -> None:
        item.state, item.at = (MessageState.SCHEDULED, self.now + delay_ms) if delay_ms else (MessageState.READY, 0)

    def _lease(self, q: Queue, n: int, lease_ms: int) -> list[tuple[str, int, int]]:
        handed: list[tuple[str, int, int]] = []
        for item in q.having(MessageState.READY)[:n]:
            item.state, item.at, item.fence, item.times = (
                MessageState.LEASED,
                self.now + lease_ms,
                self.fence,
                item.times + 1,
            )
            unique = item.message.unique
            if unique and unique.mode is UniqueMode.UNTIL_START:
                q.free(item)
            handed.append((item.id, item.times, item.fence))
        q.count("delivered", n)
        if n and "interval" in q.limits:
            q.limits["tat"] = max(q.limits.get("tat", 0), self.us) + n * q.limits["interval"]
        return handed

    def _file(self, q: Queue, item: Item, *, continues: bool) -> None:
        key = item.message.key
        head = q.head(key) if key else None
        if head:
            item.state = MessageState.HELD
            item.front = continues and head.message.task_id == item.message.task_id
        else:
            self._place(item)
        q.items[item.id] = item

    def _place(self, item: Item) -> None:
        eta = item.message.eta_ms
        if eta is not None and eta > self.now:
            item.state, item.at = MessageState.SCHEDULED, eta
        else:
            item.state, item.at = MessageState.READY, 0

    def _leave_key(self, q: Queue, item: Item, *, was_head: bool) -> None:
        key = item.message.key
        if key and was_head:
            behind = [other for other in q.having(MessageState.HELD) if other.message.key == key]
            if behind:
                behind[0].front = False
                self._place(behind[0])

    def _forget(self, q: Queue, item: Item) -> None:
        was_head = item.state is not MessageState.HELD
        del q.items[item.id]
        self._leave_key(q, item, was_head=was_head)
        q.free_if_last(item)

    def _bury(self, q: Queue, item: Item, reason: str, error: str) -> None:
        fields = {"attempt": item.begun, "reason": reason, "detail": error, "stored": (item.message, item.score)}
        q.note(Kind.BURY, item, **fields)
        item.state, item.at, item.burial, item.cancelled = (
            MessageState.DEAD,
            self.now,
            (item.times, reason, error),
            False,
        )
        item.attempt = None
        self._leave_key(q, item, was_head=True)
        q.free_if_last(item)
        q.count("buried")
        dead = q.having(MessageState.DEAD)
        over = len(dead) - q.limits.get("dead_max", DEAD_MAX)
        oldest = self.now - q.limits.get("dead_age", DEAD_AGE)
        gone = dead[:over] if over > 0 else [item for item in dead if item.at < oldest]
        for item in gone:
            q.note(Kind.FORGET, item)
            del q.items[item.id]
        q.count("forgotten", len(gone))

    def _most(self, q: Queue, item: Item) -> int:
        return item.message.max_deliveries or q.limits.get("max_deliveries", DEFAULT_DELIVERIES)

    def again_at(self, lanes: RoundRobin) -> int | None:
        """When a fetch may bring something without anyone doing anything; after the fetch."""
        times: list[int] = []
        for name in lanes.queues:
            q = self.queue(name)
            ready = q.having(MessageState.READY)
            if ready and self._allowance(q):
                times.append(self.now)
            times += [item.at for item in q.having(MessageState.SCHEDULED, MessageState.LEASED)]
            limits = q.limits
            if ready and "interval" in limits and not limits.get("paused"):
                interval, tat = limits["interval"], limits.get("tat", 0)
                if floor((self.us + limits["burst"] * interval - max(tat, self.us)) / interval) < 1:
                    times.append(ceil((tat - (limits["burst"] - 1) * interval) / 1000))
        return min(times) if times else None
