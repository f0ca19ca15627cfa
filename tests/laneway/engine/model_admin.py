"""The model of an operator's operations."""

from __future__ import annotations

from dataclasses import replace

from laneway.engine import EventKind, LeaseStatus, MessageState, UniqueMode
from tests.laneway.engine.model_moves import ModelMoves
from tests.laneway.engine.model_queue import WAITING, ModelMessage, ModelQueue


class ModelAdmin(ModelMoves):
    """What `Admin` does, on the model's queues."""

    def cancel(self, name: str, task: str, version: int | None) -> tuple[int, int, int]:
        """How many messages were removed, marked, and are dead letters."""
        q = self.queue(name)
        newest_first = sorted(q.of_task(task), key=lambda m: (m.id == task, -m.sequence))
        counts = {"removed": 0, "marked": 0, "dead": 0}
        for m in newest_first:
            match m.state:
                case MessageState.DEAD:
                    counts["dead"] += 1
                case MessageState.LEASED:
                    counts["marked"] += 1
                    if not m.cancelled:
                        q.write_event(EventKind.CANCEL_REQUESTED, m)
                        m.cancelled = True
                case _:
                    counts["removed"] += 1
                    q.write_event(EventKind.CANCEL, m)
                    self.delete_message(q, m)
        if version is not None and not counts["removed"] and not counts["marked"]:
            q.withdrawn[task] = max(version, q.withdrawn.get(task, version))
        q.count("cancelled", counts["removed"])
        return counts["removed"], counts["marked"], counts["dead"]

    def requeue(self, name: str, ids: list[str]) -> list[LeaseStatus]:
        q = self.queue(name)
        sequence, before = self.first_sequence(q), q.sequence
        codes: list[LeaseStatus] = []
        for id in ids:
            code = self._requeue(q, id, sequence + 1)
            if code is LeaseStatus.DONE:
                sequence += 1
                q.sequence = sequence
            codes.append(code)
        q.count("requeued", codes.count(LeaseStatus.DONE))
        assert q.sequence >= before
        return codes

    def _requeue(self, q: ModelQueue, id: str, sequence: int) -> LeaseStatus:
        m = q.messages.get(id)
        if m is None or m.state is not MessageState.DEAD:
            return LeaseStatus.UNKNOWN
        unique = m.message.unique
        if unique and unique.mode is not UniqueMode.FOR_TIME:
            holder = q.unique_holder(unique.key, self.now)
            if holder and holder != m.message.task_id:
                return LeaseStatus.DUPLICATE
            if not holder:
                q.hold_unique(m.message, self.now)
        q.write_event(EventKind.REQUEUE, m)
        del q.messages[id]
        again = ModelMessage(id, m.message, sequence)
        self.give_rank(q, again)
        self.hold_or_enqueue(q, again, continues=False)
        return LeaseStatus.DONE

    def discard(self, name: str, ids: list[str]) -> list[LeaseStatus]:
        q, codes = self.queue(name), list[LeaseStatus]()
        for id in ids:
            m = q.messages.get(id)
            if m is None or m.state is not MessageState.DEAD:
                codes.append(LeaseStatus.UNKNOWN)
                continue
            q.write_event(EventKind.DISCARD, m)
            del q.messages[id]
            codes.append(LeaseStatus.DONE)
        q.count("discarded", codes.count(LeaseStatus.DONE))
        return codes

    def reprioritise(self, name: str, tasks: list[str], priority: int) -> list[LeaseStatus]:
        q, codes = self.queue(name), list[LeaseStatus]()
        for task in tasks:
            waiting = [m for m in q.of_task(task) if m.state in WAITING]
            for m in waiting:
                m.message, m.advanced = replace(m.message, priority=priority), False
                m.line_score = m.ready_score
            codes.append(LeaseStatus.DONE if waiting else LeaseStatus.UNKNOWN)
        return codes

    def wake(self, name: str, task: str) -> tuple[int, int]:
        """How many messages were made due, and how many are leased."""
        of_task = self.queue(name).of_task(task)
        woken = [m for m in of_task if m.state is MessageState.SCHEDULED]
        for m in woken:
            m.state, m.at = MessageState.READY, 0
        return len(woken), sum(m.state is MessageState.LEASED for m in of_task)

    def purge(self, name: str) -> int:
        q, removed = self.queue(name), 0
        for state in WAITING:
            for m in q.in_states(state):
                q.write_event(EventKind.PURGE, m, shares_entry=removed > 0)
                self.delete_message(q, m)
                removed += 1
        q.count("purged", removed)
        return removed
