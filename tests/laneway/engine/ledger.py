"""Keeps the books of a queue from its journal alone, as a reader would, and compares them with the queue."""

from __future__ import annotations

from collections import Counter
from typing import Any

from laneway.engine import AckAction, Event, Kind

WAITING, RUNNING, BURIED = "waiting", "running", "buried"
FINAL = {
    Kind.ACK: "ended",
    Kind.CANCEL: "cancelled",
    Kind.PURGE: "purged",
    Kind.DISCARD: "discarded",
    Kind.FORGET: "forgotten",
}
FROM: dict[Kind, tuple[str, ...]] = {
    Kind.BEGIN: (WAITING,),
    Kind.END: (WAITING, RUNNING),
    Kind.LOST: (RUNNING,),
    Kind.ACK: (WAITING, RUNNING),
    Kind.BURY: (WAITING, RUNNING),
    Kind.CANCEL: (WAITING,),
    Kind.PURGE: (WAITING,),
    Kind.REQUEUE: (BURIED,),
    Kind.DISCARD: (BURIED,),
    Kind.FORGET: (BURIED,),
}
"""Where a message may be when that happens to it."""
TO = {Kind.BEGIN: RUNNING, Kind.LOST: WAITING, Kind.BURY: BURIED, Kind.REQUEUE: WAITING} | FINAL


class Ledger:
    """Where each message is by the events since the journal was switched on; `opening`: what was there then."""

    def __init__(self, opening: dict[str, Any]) -> None:
        self.places = _places(opening)
        self.open_verdicts = list(self.places.values()).count("ended")
        self.opening = len(self.places) - self.open_verdicts
        self.seen = (0, 0)
        self.totals = Counter[str]()
        self.before = Counter[str](opening["counters"])

    def read(self, events: list[Event]) -> None:
        """Take in what was not taken in before."""
        for event in events:
            place = _place_of(event)
            if place > self.seen:
                self._apply(event)
                self.seen = place

    def skip(self, events: list[Event]) -> None:
        """What was noted before the journal was switched off and on again."""
        self.seen = max([self.seen, *map(_place_of, events)])

    def agree(self, real: dict[str, Any]) -> None:
        """Each message is where the events have it, and the totals are theirs."""
        here = _places(real)
        open_now = {id: place for id, place in self.places.items() if place not in set(FINAL.values())}
        ended = {id for id, place in here.items() if place == "ended"}
        assert open_now == {id: place for id, place in here.items() if place != "ended"}
        assert all(self.places[id] == "ended" for id in ended)
        since = Counter[str](real["counters"])
        since.subtract(self.before)
        since["acked"] += len(ended) - self.open_verdicts
        for total in ("put", "acked", "buried", "cancelled", "purged", "discarded", "forgotten", "requeued"):
            assert self.totals[total] == since[total], total
        gone = sum(self.totals[total] for total in ("acked", "cancelled", "purged", "discarded", "forgotten"))
        assert self.opening + self.totals["put"] == len(open_now) + gone, "each message is in exactly one place"

    def _apply(self, event: Event) -> None:
        kind, id = event.kind, event.message_id
        place = self.places.get(id)
        if kind in (Kind.MARK, Kind.PROGRESS, Kind.LOG):
            assert place is not None, f"{kind} of a message that nobody knows"
            return
        if kind is Kind.PUT:
            assert place not in (WAITING, RUNNING, BURIED), f"{id} was put twice"
            self.places[id] = WAITING
            self.totals["put"] += 1
            return
        assert place in FROM[kind], f"{kind} of {id}, which is {place}"
        done = kind is Kind.END and event.ack_action is AckAction.DONE
        self.places[id] = "ended" if done else TO.get(kind, WAITING)
        total = "acked" if done or kind is Kind.ACK else {Kind.REQUEUE: "requeued"}.get(kind, self.places[id])
        self.totals[total] += 1


def _place_of(event: Event) -> tuple[int, int]:
    milliseconds, _, number = event.cursor.partition("-")
    return int(milliseconds), int(number)


def _places(real: dict[str, Any]) -> dict[str, str]:
    places = dict.fromkeys(real["messages"], WAITING)
    places |= {id: BURIED for id, _ in real["dead"]}
    places |= {id: RUNNING for id, (_, running) in real["attempts"].items() if running}
    return places | {id: "ended" for id, (verdict, _) in real["ack_actions"].items() if verdict == AckAction.DONE}
