"""How the model's messages move between states. Time is a number that the test moves, in microseconds."""

from __future__ import annotations

from math import floor, inf

from laneway.engine import AckAction, EventKind, LeaseStatus, MessageState, UniqueMode
from laneway.engine.message import EPOCH_MS
from tests.laneway.engine.model_flow import ModelFlow
from tests.laneway.engine.model_queue import (
    DEFAULT_DEAD_AGE_MS,
    DEFAULT_DEAD_MAX,
    DEFAULT_MAX_DELIVERIES,
    OTHERS_FIRST_MS,
    ModelMessage,
    ModelQueue,
)


class ModelMoves(ModelFlow):
    """The queues by name, the clock, and the moves that the operations have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.fence = 0

    @property
    def now(self) -> int:
        return self.us // 1000

    def queue(self, name: str) -> ModelQueue:
        return self.queues.setdefault(name, ModelQueue())

    def first_sequence(self, q: ModelQueue) -> int:
        """The sequence that a message put now follows."""
        return max(q.sequence, (self.us - EPOCH_MS * 1000) // 10)

    def make_due_ready(self, q: ModelQueue) -> None:
        if not any(m.hand_ons for m in q.messages.values()):
            q.limits.pop("handed_on", None)
        for m in q.in_states(MessageState.SCHEDULED):
            if self.due_here(m) <= self.now:
                m.state, m.at = MessageState.READY, 0

    def due_here(self, m: ModelMessage) -> int:
        """When a scheduled message is delivered to the model's one consumer, which has handed it on or never met it."""
        return m.at + OTHERS_FIRST_MS if m.hand_ons else m.at

    def reclaim_expired(self, q: ModelQueue) -> None:
        expired = [m for m in q.in_states(MessageState.LEASED) if m.at <= self.now]
        for m in expired:
            self.lose_attempt(q, m, "lease")
            if self.settle_if_decided(q, m) is not None:
                continue
            if m.deliveries >= self.max_deliveries(q, m):
                self.bury_message(q, m, "poison", f"its lease expired at delivery {m.deliveries}")
            else:
                m.state, m.at = MessageState.READY, 0
                self.free_slots(m)
        q.count("expired", len(expired))

    def allowance(self, q: ModelQueue) -> float:
        """How many messages the queue may deliver now by its limits."""
        limits = q.limits
        if limits.get("paused"):
            return 0
        allowed: float = inf
        if "max_in_flight" in limits:
            allowed = limits["max_in_flight"] - len(q.in_states(MessageState.LEASED))
        if "interval" in limits:
            interval = limits["interval"]
            spare = self.us + limits["burst"] * interval - max(limits.get("tat", 0), self.us)
            allowed = min(allowed, floor(spare / interval))
        return max(allowed, 0)

    def lease(self, q: ModelQueue, n: int, lease_ms: int, labels: tuple[str, ...]) -> list[tuple[str, int, int]]:
        """Id, deliveries and fence of each message that is leased; those that must wait make room for the next."""
        leased: list[tuple[str, int, int]] = []
        for m in q.in_states(MessageState.READY):
            if len(leased) == n:
                break
            m.advanced = False
            if self.must_wait(q, m, labels):
                continue
            self.move_tenant_clock(q, m)
            m.state, m.at = MessageState.LEASED, self.now + lease_ms
            m.fence, m.deliveries = self.fence, m.deliveries + 1
            unique = m.message.unique
            if unique and unique.mode is UniqueMode.UNTIL_START:
                q.release_unique(m)
            leased.append((m.id, m.deliveries, m.fence))
        q.count("delivered", len(leased))
        if n and "interval" in q.limits:
            q.limits["tat"] = max(q.limits.get("tat", 0), self.us) + len(leased) * q.limits["interval"]
        return leased

    def lose_attempt(self, q: ModelQueue, m: ModelMessage, reason: str) -> None:
        if m.attempts and m.running:
            m.attempts.running = False
            q.write_event(EventKind.LOST, m, attempt=m.started, reason=reason)

    def settle_if_decided(self, q: ModelQueue, m: ModelMessage) -> LeaseStatus | None:
        """Settle a message that leaves its worker, if its ack action or a cancel decides what becomes of it."""
        action, delay_ms = m.ack_action or (None, 0)
        if action is AckAction.DONE:
            self.delete_message(q, m)
            q.count("acked")
            return LeaseStatus.DONE
        if m.cancelled:
            q.write_event(EventKind.CANCEL, m)
            self.delete_message(q, m)
            q.count("cancelled")
            return LeaseStatus.CANCELLED
        if action is None:
            return None
        m.ack_action, m.hand_ons, m.deliveries = None, None, 0
        self.give_back(m, delay_ms)
        self.free_slots(m)
        q.count("retried")
        return LeaseStatus.DONE

    def give_back(self, m: ModelMessage, delay_ms: int) -> None:
        m.state, m.at = (MessageState.SCHEDULED, self.now + delay_ms) if delay_ms else (MessageState.READY, 0)

    def hold_or_enqueue(self, q: ModelQueue, m: ModelMessage, *, continues: bool) -> None:
        key = m.message.key
        head = q.head(key) if key else None
        if head:
            m.state = MessageState.HELD
            m.front = continues and head.message.task_id == m.message.task_id
        else:
            self.enqueue(m)
        q.messages[m.id] = m

    def enqueue(self, m: ModelMessage) -> None:
        eta = m.message.eta_ms
        if eta is not None and eta > self.now:
            m.state, m.at = MessageState.SCHEDULED, eta
        else:
            m.state, m.at = MessageState.READY, 0

    def leave_key(self, q: ModelQueue, m: ModelMessage, *, was_head: bool) -> None:
        key = m.message.key
        if key and was_head:
            held = [other for other in q.in_states(MessageState.HELD) if other.message.key == key]
            if held:
                held[0].front = False
                self.enqueue(held[0])

    def delete_message(self, q: ModelQueue, m: ModelMessage) -> None:
        was_head = m.state is not MessageState.HELD
        del q.messages[m.id]
        self.free_slots(m)
        self.leave_key(q, m, was_head=was_head)
        q.release_unique_if_last(m)

    def bury_message(self, q: ModelQueue, m: ModelMessage, reason: str, error: str) -> None:
        fields = {"attempt": m.started, "reason": reason, "detail": error, "stored": m.in_journal}
        q.write_event(EventKind.BURY, m, **fields)
        m.state, m.at, m.dead_info = MessageState.DEAD, self.now, (m.deliveries, reason, error)
        m.cancelled, m.attempts, m.hand_ons, m.rank = False, None, None, None
        self.free_slots(m)
        self.leave_key(q, m, was_head=True)
        q.release_unique_if_last(m)
        q.count("buried")
        self.trim_dead_letters(q)

    def trim_dead_letters(self, q: ModelQueue) -> None:
        dead = q.in_states(MessageState.DEAD)
        excess = len(dead) - q.limits.get("dead_max", DEFAULT_DEAD_MAX)
        oldest = self.now - q.limits.get("dead_age", DEFAULT_DEAD_AGE_MS)
        trimmed = dead[:excess] if excess > 0 else [m for m in dead if m.at < oldest]
        for m in trimmed:
            q.write_event(EventKind.TRIM, m)
            del q.messages[m.id]
        q.count("forgotten", len(trimmed))

    def max_deliveries(self, q: ModelQueue, m: ModelMessage) -> int:
        return m.message.max_deliveries or q.limits.get("max_deliveries", DEFAULT_MAX_DELIVERIES)
