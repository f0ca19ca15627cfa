"""What the engine must do, in dictionaries and sorting, without regard to speed.

It is written from docs/engine.md, not from the scripts: a message is an object with a state, and every order is found
by sorting.
"""

from __future__ import annotations

from copy import deepcopy
from math import ceil, floor, inf

from laneway.engine import AckAction, EventKind, HandOn, LeaseStatus, Message, MessageState, PutCode, RoundRobin
from laneway.engine.engine import FIRST_HAND_ON, LONGEST_HAND_ON
from tests.laneway.engine.model_admin import ModelAdmin
from tests.laneway.engine.model_queue import WAITING, Attempts, HandOns, ModelMessage, ModelQueue


class Model(ModelAdmin):
    """What `Engine` does, on the model's queues. Each operation returns what the engine must return."""

    def copy(self) -> Model:
        """A model on which a call can be tried."""
        other = Model()
        other.us, other.fence, other.named = self.us, self.fence, deepcopy(self.named)
        other.queues = {name: q.copy() for name, q in self.queues.items()}
        return other

    def put(self, name: str, messages: list[Message], *, version: int | None = None) -> list[tuple[PutCode, str]]:
        """The code of each message, and its id, the holder of its uniqueness key, or a size."""
        q = self.queue(name)
        sequence = self.first_sequence(q)
        results: list[tuple[PutCode, str]] = []
        accepted = 0
        for message in messages:
            code, detail = self._put(q, message, sequence + 1, version)
            results.append((code, detail))
            if code is PutCode.ACCEPTED:
                sequence, accepted = sequence + 1, accepted + 1
        if accepted:
            q.count("put", accepted)
            q.sequence = sequence
        return results

    def _put(self, q: ModelQueue, message: Message, sequence: int, version: int | None) -> tuple[PutCode, str]:
        id = message.id or message.task_id
        if id in q.messages:
            if message.id:
                return PutCode.EXISTS, id
            id = str(sequence)
        others = q.of_task(message.task_id)
        if q.is_withdrawn(message.task_id, version) or any(other.cancelled for other in others):
            return PutCode.CANCELLED, message.id or message.task_id
        if not others and (size := len(q.in_states(*WAITING))) >= q.limits.get("max_size", inf):
            return PutCode.FULL, str(size)
        if not others and q.unread >= q.limits.get("journal", inf):
            return PutCode.JOURNAL_FULL, str(q.unread)
        if message.unique:
            q.release_expired_unique(self.now)
            holder = q.unique_holder(message.unique.key, self.now)
            if holder and holder != message.task_id and not others:
                q.count("duplicates")
                return PutCode.DUPLICATE, holder
            if not holder:
                q.hold_unique(message, self.now)
        m = ModelMessage(id, message, sequence)
        self.give_rank(q, m)
        q.write_event(EventKind.PUT, m, stored=m.in_journal)
        self.hold_or_enqueue(q, m, continues=bool(others))
        return PutCode.ACCEPTED, id

    def fetch(
        self, round_robin: RoundRobin, n: int, lease_ms: int, labels: tuple[str, ...] = ()
    ) -> list[tuple[str, str, int, int]]:
        """Queue, id, deliveries and fence of each message that is leased."""
        self.fence += 1
        available: dict[str, float] = {}
        for name in round_robin.queues:
            q = self.queue(name)
            self.reclaim_expired(q)
            self.make_due_ready(q)
            self.open_lines(q, n, labels)
            self.advance_old(q, n)
        for name in round_robin.queues:
            q = self.queue(name)
            available[name] = min(self.allowance(q), len(q.in_states(MessageState.READY)))
        order = self._take_turns(round_robin, available, n)
        leased = {
            name: self.lease(self.queue(name), order.count(name), lease_ms, labels) for name in round_robin.queues
        }
        return [(name, *leased[name].pop(0)) for name in order if leased[name]]

    def _take_turns(self, round_robin: RoundRobin, available: dict[str, float], n: int) -> list[str]:
        order: list[str] = []
        classes = dict(zip(round_robin.queues, round_robin._classes, strict=False))
        one_queue_has_work = sum(1 for count in available.values() if count) == 1
        while len(order) < n and any(available.values()):
            if one_queue_has_work:
                name = next(name for name, count in available.items() if count)
            else:
                name = round_robin.queues[round_robin.cycle[round_robin.position] - 1]
                round_robin.position = (round_robin.position + 1) % len(round_robin.cycle)
            lowest = min((classes.get(name, 0) for name, count in available.items() if count), default=0)
            if available[name] and classes.get(name, 0) == lowest:
                available[name] -= 1
                order.append(name)
        return order

    def again_at(self, round_robin: RoundRobin) -> int | None:
        """When a fetch may return messages though nobody acts in between; to be called after a fetch."""
        times: list[int] = []
        for name in round_robin.queues:
            q = self.queue(name)
            ready, limits = q.in_states(MessageState.READY), q.limits
            if ready and self.allowance(q):
                times.append(self.now)
            times += [m.at for m in q.in_states(MessageState.LEASED)]
            times += q.lines.values()
            times += [m.at if m.at > self.now else self.due_here(m) for m in q.in_states(MessageState.SCHEDULED)]
            if ready and "interval" in limits and not limits.get("paused"):
                interval, tat = limits["interval"], limits.get("tat", 0)
                if floor((self.us + limits["burst"] * interval - max(tat, self.us)) / interval) < 1:
                    times.append(ceil((tat - (limits["burst"] - 1) * interval) / 1000))
        return min(times) if times else None

    def leased(self, name: str, id: str, fence: int) -> ModelMessage | LeaseStatus:
        """The message that this lease holds, or the status of a lease that was lost."""
        m = self.queue(name).messages.get(id)
        if m is None or m.state is MessageState.DEAD or (m.state is not MessageState.LEASED and m.deliveries == 0):
            return LeaseStatus.UNKNOWN
        if m.state is not MessageState.LEASED or m.fence != fence:
            return LeaseStatus.STALE
        return m

    def is_held(self, name: str, id: str, fence: int) -> bool:
        return isinstance(self.leased(name, id, fence), ModelMessage)

    def ack(self, name: str, id: str, fence: int) -> LeaseStatus:
        m = self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        q, code = self.queue(name), LeaseStatus.CANCELLED if m.cancelled else LeaseStatus.DONE
        if m.ack_action and m.ack_action[0] is not AckAction.DONE:
            self.settle_if_decided(q, m)
            return code
        if not m.ack_action:
            q.write_event(EventKind.ACK, m, attempt=m.started)
        self.delete_message(q, m)
        q.count("acked")
        return code

    def start_attempt(
        self, name: str, id: str, fence: int, *, worker: str, call: bytes, most: int | None
    ) -> tuple[LeaseStatus, int]:
        m = self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m, 0
        if m.cancelled:
            return LeaseStatus.CANCELLED, 0
        if m.ack_action:
            return LeaseStatus.STALE, m.started
        if m.attempts is None or not m.running or m.attempts.call != call:
            self.lose_attempt(self.queue(name), m, "started again")
            if most is not None and m.started >= most:
                return LeaseStatus.EXHAUSTED, m.started
            m.attempts = Attempts(m.started + 1, running=True, call=call)
            self.queue(name).write_event(EventKind.START, m, attempt=m.started, worker=worker)
        return LeaseStatus.DONE, m.started

    def finish_attempt(
        self, name: str, id: str, fence: int, action: AckAction, *, outcome: str, delay_ms: int
    ) -> LeaseStatus:
        m = self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        if not m.ack_action:
            fields = {"attempt": m.started, "ack_action": action, "delay_ms": delay_ms, "outcome": outcome}
            self.queue(name).write_event(EventKind.FINISH, m, **fields)
            counted = action is not AckAction.SNOOZE or not m.running
            m.attempts = Attempts(m.started if counted else m.started - 1)
            m.ack_action = action, delay_ms
        return LeaseStatus.DONE

    def check_leases(self, name: str, id: str, fence: int) -> LeaseStatus:
        m = self.leased(name, id, fence)
        return m if isinstance(m, LeaseStatus) else _status(m)

    def report(self, name: str, id: str, fence: int, kind: EventKind, text: str) -> LeaseStatus:
        q, m = self.queue(name), self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        if q.unread < q.limits.get("journal", 0):
            q.write_event(kind, m, attempt=m.started, outcome=text)
        return _status(m)

    def renew(self, name: str, id: str, fence: int, lease_ms: int) -> LeaseStatus:
        m = self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        m.at = self.now + lease_ms
        return _status(m)

    def release(self, name: str, id: str, fence: int, *, delay_ms: int, counted: bool) -> LeaseStatus:
        q, m = self.queue(name), self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        self.lose_attempt(q, m, "released")
        if (code := self.settle_if_decided(q, m)) is not None:
            return code
        if counted and m.deliveries >= self.max_deliveries(q, m):
            self.bury_message(q, m, "poison", f"given back at delivery {m.deliveries}")
            return LeaseStatus.BURIED
        m.deliveries -= 0 if counted else 1
        self.give_back(m, delay_ms)
        self.free_slots(m)
        q.count("released")
        return LeaseStatus.DONE

    def hand_on(self, name: str, id: str, fence: int, how: HandOn) -> LeaseStatus:
        q, m = self.queue(name), self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        self.lose_attempt(q, m, "handed on")
        if (code := self.settle_if_decided(q, m)) is not None:
            return code
        again, h = m.hand_ons is not None, m.hand_ons or HandOns(self.now)
        if self.now - h.first >= how.longest * 1000:
            self.bury_message(q, m, how.reason, how.error)
            return LeaseStatus.BURIED
        if not again and q.unread < q.limits.get("journal", 0):
            q.write_event(EventKind.LOG, m, attempt=m.started, outcome=how.note)
        delay_ms = min(LONGEST_HAND_ON, FIRST_HAND_ON * 2**h.rounds) * 1000 if again else 0
        m.hand_ons = HandOns(h.first, h.times + 1, h.rounds + again)
        m.attempts = Attempts(m.started, call=m.attempts.call if m.attempts else b"")
        m.state, m.at = MessageState.SCHEDULED, self.now + int(delay_ms)
        m.deliveries -= 1
        self.free_slots(m)
        q.limits["handed_on"] = 1
        q.count("handed_on")
        return LeaseStatus.DONE

    def bury(self, name: str, id: str, fence: int, reason: str, error: str) -> LeaseStatus:
        q, m = self.queue(name), self.leased(name, id, fence)
        if isinstance(m, LeaseStatus):
            return m
        if m.ack_action and (code := self.settle_if_decided(q, m)) is not None:
            return code
        self.bury_message(q, m, reason, error)
        return LeaseStatus.DONE


def _status(m: ModelMessage) -> LeaseStatus:
    return LeaseStatus.CANCELLED if m.cancelled else LeaseStatus.DONE
