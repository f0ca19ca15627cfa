"""The model of limits with names, of labels, and of the turns of tenants and deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf

from laneway.engine import LimitUse, MessageState, NamedLimit
from laneway.engine.message import EPOCH_MS, SPAN
from tests.laneway.engine.model_queue import ModelMessage, ModelQueue

LOOK_AGAIN_MS = 5_000
HOUR_TICKS = 360_000_000
TENANT_STEP = 100


@dataclass
class ModelLimit:
    """What a limit lets through; for each key, until when its rate is used up and until when it is blocked (us)."""

    interval: int | None = None
    burst: int = 1
    most: int | None = None
    used: dict[str, int] = field(default_factory=dict)
    blocked: dict[str, int] = field(default_factory=dict)


class ModelFlow:
    """The limits with names, and what they do to messages. Time is in microseconds."""

    def __init__(self) -> None:
        self.queues: dict[str, ModelQueue] = {}
        self.named: dict[str, ModelLimit] = {}
        self.us = 0

    def set_named_limit(self, name: str, limit: NamedLimit | None) -> None:
        old = self.named.setdefault(name, ModelLimit())
        old.interval = limit.interval if limit else None
        old.burst = limit.burst if limit else 1
        old.most = limit.max_running if limit else None
        for q in self.queues.values():
            q.lines |= {line: 0 for line in q.lines if line[0] == name}

    def block_limit(self, name: str, seconds: float, key: str) -> None:
        limit = self.named.setdefault(name, ModelLimit())
        limit.blocked[key] = max(limit.blocked.get(key, 0), self.us + round(seconds * 1000) * 1000)

    def running(self, name: str, key: str) -> int:
        """The points of leased messages."""
        slots = [slot for q in self.queues.values() for m in q.messages.values() for slot in m.slots]
        return sum(points for of, with_key, points in slots if (of, with_key) == (name, key))

    def used_until(self, limit: ModelLimit, key: str) -> int:
        assert limit.interval
        furthest = self.us + limit.burst * limit.interval
        if limit.used.get(key, 0) > furthest:
            limit.used[key] = furthest
        return max(limit.used.get(key, 0), self.us)

    def opens_at(self, name: str, key: str, points: int) -> int | None:
        """When the limit lets so many points through; None: now."""
        limit = self.named.get(name, ModelLimit())
        for blocked in (key, ""):
            if limit.blocked.get(blocked, 0) > self.us:
                return limit.blocked[blocked]
        if limit.interval:
            opens = self.used_until(limit, key) + (min(points, limit.burst) - limit.burst) * limit.interval
            if opens > self.us:
                return opens
        if limit.most and self.running(name, key) + min(points, limit.most) > limit.most:
            return self.us + LOOK_AGAIN_MS * 1000
        return None

    def uses_of(self, q: ModelQueue, m: ModelMessage) -> list[LimitUse]:
        """The limits of a message."""
        by_name = [LimitUse(f"task:{m.message.name}")] if "task_limits" in q.limits and m.message.name else []
        return [*m.flow.limits, *by_name]

    def line_of(self, q: ModelQueue, line: tuple[str, str]) -> list[ModelMessage]:
        """The messages of a queue in a line, in their order."""
        return [m for m in q.in_states(MessageState.LIMITED) if m.line == line]

    def has_clock_gone_back(self, name: str, key: str) -> bool:
        """Whether the rate is used up until a time that it cannot have reached by now."""
        limit = self.named.get(name, ModelLimit())
        return limit.used.get(key, 0) > self.us + limit.burst * (limit.interval or 0)

    def must_wait(self, q: ModelQueue, m: ModelMessage, labels: tuple[str, ...]) -> bool:
        """Put the message into a line if a limit is used up or the consumer lacks a label; else take the points."""
        if set(m.flow.labels) - set(labels):
            self.wait_in(q, m, ("\1" + ",".join(sorted(m.flow.labels)), ""))
            return True
        uses = self.uses_of(q, m)
        for use in uses:
            opens = self.opens_at(use.name, use.key, use.points)
            if opens is not None:
                line = (use.name, use.key)
                self.wait_in(q, m, line)
                q.lines[line] = min(q.lines.get(line, ceil(opens / 1000)), ceil(opens / 1000))
                return True
        for use in uses:
            self._take(m, use)
        return False

    def _take(self, m: ModelMessage, use: LimitUse) -> None:
        limit = self.named.get(use.name, ModelLimit())
        if limit.interval:
            limit.used[use.key] = self.used_until(limit, use.key) + use.points * limit.interval
        if limit.most:
            m.slots.append((use.name, use.key, min(use.points, limit.most)))

    def wait_in(self, q: ModelQueue, m: ModelMessage, line: tuple[str, str]) -> None:
        m.state, m.at, m.line, m.line_score = MessageState.LIMITED, 0, line, m.ready_score
        if line[0].startswith("\1"):
            q.label_lines.add(line)

    def free_slots(self, m: ModelMessage) -> None:
        """Give back what the message occupied, and let messages go on in every queue."""
        slots, m.slots = m.slots, []
        for name, key, points in slots:
            for q in self.queues.values():
                self.open_line(q, (name, key), points)

    def open_line(self, q: ModelQueue, line: tuple[str, str], most: int) -> bool:
        """Let up to `most` messages of the line go on; whether others wait in it."""
        waiting = self.line_of(q, line)
        for m in waiting[:most]:
            m.state, m.line = MessageState.READY, None
        if len(waiting) > most:
            return True
        q.lines.pop(line, None)
        return False

    def open_lines(self, q: ModelQueue, n: int, labels: tuple[str, ...]) -> None:
        """What a fetch does before it looks at the ready messages."""
        for line in set(q.label_lines):
            if not set(line[0][1:].split(",")) - set(labels) and not self.open_line(q, line, n):
                q.label_lines.discard(line)
        due = sorted((at, line) for line, at in q.lines.items() if at <= self.us // 1000)
        for _, line in due:
            free, again = self._free_points(*line)
            if not free or self.open_line(q, line, min(free, n)):
                q.lines[line] = max(again, self.us // 1000 + 1)

    def _free_points(self, name: str, key: str) -> tuple[int, int]:
        limit = self.named.get(name, ModelLimit())
        opens = self.opens_at(name, key, 1)
        if opens is not None:
            return 0, ceil(opens / 1000)
        free, again = 1000, self.us + LOOK_AGAIN_MS * 1000
        if limit.most:
            free = limit.most - self.running(name, key)
        if limit.interval:
            spare = self.us + limit.burst * limit.interval - self.used_until(limit, key)
            free, again = min(free, spare // limit.interval), min(again, self.us + limit.interval)
        return max(free, 1), ceil(again / 1000)

    def advance_old(self, q: ModelQueue, n: int) -> None:
        """Let messages that have waited for longer than `max_wait` go before all others, up to `n` of each priority."""
        put_before = (self.us - q.limits.get("max_wait", inf) * 1000 - EPOCH_MS * 1000) / 10
        for priority in range(9):
            ready = [m for m in q.in_states(MessageState.READY) if m.message.priority == priority and not m.advanced]
            for m in ready[:n]:
                if m.sequence > put_before:
                    break
                m.advanced = True

    def give_rank(self, q: ModelQueue, m: ModelMessage) -> None:
        """The rank of a new message of a tenant or with a deadline."""
        flow, m.rank = m.flow, None
        if flow.deadline_ms is not None:
            ticks = (flow.deadline_ms * 1000 - EPOCH_MS * 1000) // 10 - HOUR_TICKS
            m.rank = min(max(ticks, 0), SPAN - 1)
        elif flow.tenant is not None or q.has_tenants:
            q.has_tenants = True
            priority, tenant = m.message.priority, flow.tenant or ""
            delivered = q.delivered.setdefault(priority, m.sequence)
            m.rank = max(delivered, q.tenants.get((priority, tenant), 0))
            weight = flow.weight if flow.tenant is not None else 1
            q.tenants[priority, tenant] = m.rank + TENANT_STEP // weight

    def move_tenant_clock(self, q: ModelQueue, m: ModelMessage) -> None:
        priority = m.message.priority
        if priority in q.delivered:
            q.delivered[priority] = max(q.delivered[priority], m.ready_score % SPAN)
