"""What the engine should do, in dictionaries and sorting, without a thought for speed.

It is written from docs/engine.md, not from the scripts: a message is an object with a state, and every
order is found by sorting. Time is a number that the test moves, in microseconds.
"""

from __future__ import annotations

from math import ceil, floor, inf

from laneway import Kind, Verdict
from laneway.answers import PutCode, Settled, State
from laneway.envelope import EPOCH_MS, Message, UniqueMode
from laneway.lanes import Lanes
from tests.integration.engine.books import DEAD_AGE, DEAD_MAX, DEFAULT_DELIVERIES, WAITING, Attempt, Item, Queue


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
            return PutCode.BEHIND, str(len(q.journal))
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

    def fetch(self, lanes: Lanes, n: int, lease_ms: int) -> list[tuple[str, str, int, int]]:
        """Queue, id, deliveries and fence of each message handed out."""
        self.fence += 1
        left: dict[str, float] = {}
        for name in lanes.queues:
            q = self.queue(name)
            self._promote(q)
            self._take_back(q)
            left[name] = min(self._allowance(q), len(q.having(State.READY)))
        order = self._turns(lanes, left, n)
        handed = {name: self._lease(self.queue(name), order.count(name), lease_ms) for name in lanes.queues}
        return [(name, *handed[name].pop(0)) for name in order]

    def settle(self, name: str, id: str, fence: int) -> Item | Settled:
        """The item that this lease holds, or why it does not."""
        item = self.queue(name).items.get(id)
        if item is None or item.state is State.DEAD or (item.state is not State.LEASED and item.times == 0):
            return Settled.UNKNOWN
        if item.state is not State.LEASED or item.fence != fence:
            return Settled.STALE
        return item

    def ack(self, name: str, id: str, fence: int) -> Settled:
        item = self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        q, code = self.queue(name), Settled.CANCELLED if item.cancelled else Settled.DONE
        if item.verdict and item.verdict[0] is not Verdict.DONE_WITH:
            self._wind_up(q, item)
            return code
        if not item.verdict:
            q.note(Kind.ACK, item, attempt=item.begun)
        self._forget(q, item)
        q.count("acked")
        return code

    def begin(self, name: str, id: str, fence: int, *, worker: str, call: bytes) -> tuple[Settled, int]:
        item = self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item, 0
        if item.cancelled:
            return Settled.CANCELLED, 0
        if item.verdict:
            return Settled.STALE, item.begun
        if item.attempt is None or not item.running or item.attempt.by != call:
            self._break_off(self.queue(name), item, "begun again")
            item.attempt = Attempt(item.begun + 1, running=True, by=call)
            self.queue(name).note(Kind.BEGIN, item, attempt=item.begun, worker=worker)
        return Settled.DONE, item.begun

    def conclude(self, name: str, id: str, fence: int, verdict: Verdict, *, outcome: str, delay_ms: int) -> Settled:
        item = self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        if not item.verdict:
            fields = {"attempt": item.begun, "verdict": verdict, "delay_ms": delay_ms, "outcome": outcome}
            self.queue(name).note(Kind.END, item, **fields)
            counts = verdict is not Verdict.SNOOZE or not item.running
            item.attempt = Attempt(item.begun if counts else item.begun - 1)
            item.verdict = verdict, delay_ms
        return Settled.DONE

    def look(self, name: str, id: str, fence: int) -> Settled:
        item = self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        return Settled.CANCELLED if item.cancelled else Settled.DONE

    def report(self, name: str, id: str, fence: int, kind: Kind, said: str) -> Settled:
        q, item = self.queue(name), self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        if len(q.journal) < q.limits.get("journal", 0):
            q.note(kind, item, attempt=item.begun, outcome=said)
        return Settled.CANCELLED if item.cancelled else Settled.DONE

    def renew(self, name: str, id: str, fence: int, lease_ms: int) -> Settled:
        item = self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        item.at = self.now + lease_ms
        return Settled.CANCELLED if item.cancelled else Settled.DONE

    def release(self, name: str, id: str, fence: int, *, delay_ms: int, counted: bool) -> Settled:
        q, item = self.queue(name), self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        self._break_off(q, item, "released")
        if (code := self._wind_up(q, item)) is not None:
            return code
        if counted and item.times >= self._most(q, item):
            self._bury(q, item, "poison", f"given back at delivery {item.times}")
            return Settled.BURIED
        item.times -= 0 if counted else 1
        self._put_back(item, delay_ms)
        q.count("released")
        return Settled.DONE

    def bury(self, name: str, id: str, fence: int, reason: str, error: str) -> Settled:
        item = self.settle(name, id, fence)
        if isinstance(item, Settled):
            return item
        if item.verdict and (code := self._wind_up(self.queue(name), item)) is not None:
            return code
        self._bury(self.queue(name), item, reason, error)
        return Settled.DONE

    def cancel(self, name: str, task: str) -> tuple[int, int, int]:
        q = self.queue(name)
        mine = sorted(q.of_task(task), key=lambda item: (item.id == task, -item.sequence))  # the newest first
        marked = [item for item in mine if item.state is State.LEASED]
        dead = [item for item in mine if item.state is State.DEAD]
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

    def requeue(self, name: str, ids: list[str]) -> list[Settled]:
        q = self.queue(name)
        sequence, codes, before = max(q.sequence, (self.us - EPOCH_MS * 1000) // 10), list[Settled](), q.sequence
        for id in ids:
            item = q.items.get(id)
            if item is None or item.state is not State.DEAD:
                codes.append(Settled.UNKNOWN)
                continue
            unique = item.message.unique
            if unique and unique.mode is not UniqueMode.FOR_TIME:
                by = q.holder(unique.key, self.now)
                if by and by != item.message.task_id:
                    codes.append(Settled.DUPLICATE)
                    continue
                if not by:
                    q.hold(item.message, self.now)
            sequence += 1
            q.note(Kind.REQUEUE, item)
            del q.items[id]
            self._file(q, Item(id, item.message, sequence), continues=False)
            q.sequence = sequence
            codes.append(Settled.DONE)
        q.count("requeued", codes.count(Settled.DONE))
        assert q.sequence >= before
        return codes

    def discard(self, name: str, ids: list[str]) -> list[Settled]:
        q, codes = self.queue(name), list[Settled]()
        for id in ids:
            item = q.items.get(id)
            if item is None or item.state is not State.DEAD:
                codes.append(Settled.UNKNOWN)
                continue
            q.note(Kind.DISCARD, item)
            del q.items[id]
            codes.append(Settled.DONE)
        q.count("discarded", codes.count(Settled.DONE))
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
        for item in q.having(State.SCHEDULED):
            if item.at <= self.now:
                item.state, item.at = State.READY, 0

    def _take_back(self, q: Queue) -> None:
        over = [item for item in q.having(State.LEASED) if item.at <= self.now]
        for item in over:
            self._break_off(q, item, "lease")
            if self._wind_up(q, item) is not None:
                continue
            if item.times >= self._most(q, item):
                self._bury(q, item, "poison", f"its lease expired at delivery {item.times}")
            else:
                item.state, item.at = State.READY, 0
        q.count("expired", len(over))

    def _allowance(self, q: Queue) -> float:
        limits = q.limits
        if limits.get("paused"):
            return 0
        allowed: float = inf
        if "max_in_flight" in limits:
            allowed = limits["max_in_flight"] - len(q.having(State.LEASED))
        if "interval" in limits:
            interval = limits["interval"]
            spare = self.us + limits["burst"] * interval - max(limits.get("tat", 0), self.us)
            allowed = min(allowed, floor(spare / interval))
        return max(allowed, 0)

    def _turns(self, lanes: Lanes, left: dict[str, float], n: int) -> list[str]:
        order: list[str] = []
        alone = sum(1 for count in left.values() if count) == 1
        while len(order) < n and any(left.values()):
            if alone:
                name = next(name for name, count in left.items() if count)
            else:
                name = lanes.queues[lanes.cycle[lanes.place] - 1]
                lanes.place = (lanes.place + 1) % len(lanes.cycle)
            if left[name]:
                left[name] -= 1
                order.append(name)
        return order

    def _break_off(self, q: Queue, item: Item, why: str) -> None:
        if item.attempt and item.running:
            item.attempt.running = False
            q.note(Kind.LOST, item, attempt=item.begun, reason=why)

    def _wind_up(self, q: Queue, item: Item) -> Settled | None:
        """The verdict, or the end of its task, decides what becomes of a message that leaves its worker."""
        verdict, delay_ms = item.verdict or (None, 0)
        if verdict is Verdict.DONE_WITH:
            self._forget(q, item)
            q.count("acked")
            return Settled.DONE
        if item.cancelled:
            q.note(Kind.CANCEL, item)
            self._forget(q, item)
            q.count("cancelled")
            return Settled.CANCELLED
        if verdict is None:
            return None
        item.verdict, item.times = None, 0
        self._put_back(item, delay_ms)
        q.count("retried")
        return Settled.DONE

    def _put_back(self, item: Item, delay_ms: int) -> None:
        item.state, item.at = (State.SCHEDULED, self.now + delay_ms) if delay_ms else (State.READY, 0)

    def _lease(self, q: Queue, n: int, lease_ms: int) -> list[tuple[str, int, int]]:
        handed: list[tuple[str, int, int]] = []
        for item in q.having(State.READY)[:n]:
            item.state, item.at, item.fence, item.times = State.LEASED, self.now + lease_ms, self.fence, item.times + 1
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
            item.state = State.HELD
            item.front = continues and head.message.task_id == item.message.task_id
        else:
            self._place(item)
        q.items[item.id] = item

    def _place(self, item: Item) -> None:
        eta = item.message.eta_ms
        if eta is not None and eta > self.now:
            item.state, item.at = State.SCHEDULED, eta
        else:
            item.state, item.at = State.READY, 0

    def _leave_key(self, q: Queue, item: Item, *, was_head: bool) -> None:
        key = item.message.key
        if key and was_head:
            behind = [other for other in q.having(State.HELD) if other.message.key == key]
            if behind:
                behind[0].front = False
                self._place(behind[0])

    def _forget(self, q: Queue, item: Item) -> None:
        was_head = item.state is not State.HELD
        del q.items[item.id]
        self._leave_key(q, item, was_head=was_head)
        q.free_if_last(item)

    def _bury(self, q: Queue, item: Item, reason: str, error: str) -> None:
        fields = {"attempt": item.begun, "reason": reason, "detail": error, "stored": (item.message, item.score)}
        q.note(Kind.BURY, item, **fields)
        item.state, item.at, item.burial, item.cancelled = State.DEAD, self.now, (item.times, reason, error), False
        item.attempt = None
        self._leave_key(q, item, was_head=True)
        q.free_if_last(item)
        q.count("buried")
        dead = q.having(State.DEAD)
        over = len(dead) - q.limits.get("dead_max", DEAD_MAX)
        oldest = self.now - q.limits.get("dead_age", DEAD_AGE)
        gone = dead[:over] if over > 0 else [item for item in dead if item.at < oldest]
        for item in gone:
            q.note(Kind.FORGET, item)
            del q.items[item.id]
        q.count("forgotten", len(gone))

    def _most(self, q: Queue, item: Item) -> int:
        return item.message.max_deliveries or q.limits.get("max_deliveries", DEFAULT_DELIVERIES)

    def again_at(self, lanes: Lanes) -> int | None:
        """When a fetch may bring something without anyone doing anything; after the fetch."""
        times: list[int] = []
        for name in lanes.queues:
            q = self.queue(name)
            ready = q.having(State.READY)
            if ready and self._allowance(q):
                times.append(self.now)
            times += [item.at for item in q.having(State.SCHEDULED, State.LEASED)]
            limits = q.limits
            if ready and "interval" in limits and not limits.get("paused"):
                interval, tat = limits["interval"], limits.get("tat", 0)
                if floor((self.us + limits["burst"] * interval - max(tat, self.us)) / interval) < 1:
                    times.append(ceil((tat - (limits["burst"] - 1) * interval) / 1000))
        return min(times) if times else None
