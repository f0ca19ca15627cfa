"""Accounts for the messages of a queue from its journal alone, as a reader does, and compares that with the queue."""

from __future__ import annotations

from collections import Counter
from typing import Any

from laneway.engine import AckAction, Event, EventKind

WAITING, RUNNING, BURIED, ENDED = "waiting", "running", "buried", "ended"
FINAL = {
    EventKind.ACK: ENDED,
    EventKind.CANCEL: "cancelled",
    EventKind.PURGE: "purged",
    EventKind.DISCARD: "discarded",
    EventKind.TRIM: "forgotten",
}
STATES_BEFORE: dict[EventKind, tuple[str, ...]] = {
    EventKind.START: (WAITING,),
    EventKind.FINISH: (WAITING, RUNNING),
    EventKind.LOST: (RUNNING,),
    EventKind.ACK: (WAITING, RUNNING),
    EventKind.BURY: (WAITING, RUNNING),
    EventKind.CANCEL: (WAITING,),
    EventKind.PURGE: (WAITING,),
    EventKind.REQUEUE: (BURIED,),
    EventKind.DISCARD: (BURIED,),
    EventKind.TRIM: (BURIED,),
}
"""The states in which a message may be when the event happens."""
STATE_AFTER = {
    EventKind.START: RUNNING,
    EventKind.LOST: WAITING,
    EventKind.BURY: BURIED,
    EventKind.REQUEUE: WAITING,
} | FINAL


class Ledger:
    """The state of each message by the events since the journal was enabled. `opening` is a dump of that moment."""

    def __init__(self, opening: dict[str, Any]) -> None:
        self.states = _states(opening)
        self.opening_ended = list(self.states.values()).count(ENDED)
        self.opening_open = len(self.states) - self.opening_ended
        self.cursor = (0, 0)
        self.totals = Counter[str]()
        self.opening_counters = Counter[str](opening["counters"])

    def read(self, events: list[Event]) -> None:
        """Apply the events that were not read before."""
        new = [event for event in events if _numbers(event) > self.cursor]
        for event in new:
            self._apply(event)
        self.skip(new)

    def skip(self, events: list[Event]) -> None:
        """Ignore events that were written before the journal was disabled and enabled again."""
        self.cursor = max([self.cursor, *map(_numbers, events)])

    def assert_agrees(self, real: dict[str, Any]) -> None:
        """Check that each message has the state that the events say, and that the counters are theirs."""
        real_states = _states(real)
        open_by_events = {id: state for id, state in self.states.items() if state not in set(FINAL.values())}
        ended = {id for id, state in real_states.items() if state == ENDED}
        assert open_by_events == {id: state for id, state in real_states.items() if state != ENDED}
        assert all(self.states[id] == ENDED for id in ended)
        counted = Counter[str](real["counters"])
        counted.subtract(self.opening_counters)
        counted["acked"] += len(ended) - self.opening_ended
        for total in ("put", "acked", "buried", "cancelled", "purged", "discarded", "forgotten", "requeued"):
            assert self.totals[total] == counted[total], total
        gone = sum(self.totals[total] for total in ("acked", "cancelled", "purged", "discarded", "forgotten"))
        assert self.opening_open + self.totals["put"] == len(open_by_events) + gone, "each message is in one state"

    def _apply(self, event: Event) -> None:
        kind, id = event.kind, event.message_id
        state = self.states.get(id)
        if kind in (EventKind.CANCEL_REQUESTED, EventKind.PROGRESS, EventKind.LOG):
            assert state is not None, f"{kind} of an unknown message"
            return
        if kind is EventKind.PUT:
            assert state not in (WAITING, RUNNING, BURIED), f"{id} was put twice"
            self.states[id] = WAITING
            self.totals["put"] += 1
            return
        assert state in STATES_BEFORE[kind], f"{kind} of {id}, which is {state}"
        done = kind is EventKind.FINISH and event.ack_action is AckAction.DONE
        self.states[id] = ENDED if done else STATE_AFTER.get(kind, WAITING)
        total = "acked" if done or kind is EventKind.ACK else {EventKind.REQUEUE: "requeued"}.get(kind, self.states[id])
        self.totals[total] += 1


def _numbers(event: Event) -> tuple[int, int]:
    """The cursor as numbers, which can be compared."""
    milliseconds, _, number = event.cursor.partition("-")
    return int(milliseconds), int(number)


def _states(real: dict[str, Any]) -> dict[str, str]:
    states = dict.fromkeys(real["messages"], WAITING)
    states |= {id: BURIED for id, _ in real["dead"]}
    states |= {id: RUNNING for id, (_, running) in real["attempts"].items() if running}
    return states | {id: ENDED for id, (action, _) in real["ack_actions"].items() if action == AckAction.DONE}
