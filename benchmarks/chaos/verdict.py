"""What the ledger says about a run: lost, duplicated, late, out of order, and which disturbance explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.chaos.crew import Life
from benchmarks.chaos.disturbance import KILLS, Disturbance, Kind
from benchmarks.chaos.ledger import Books, Offer, Run

STALL_SECONDS, STALL_TASKS = 20.0, 200
"""A worker that begins nothing for so long, while others begin so many, has stopped consuming."""
EARLY_SECONDS = 0.01
"""Below that a delayed task that began early is the clocks' doing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One task to which something happened, and what explains it (empty: nothing does)."""

    mark: str
    task_id: str
    kind: str
    what: str
    explained_by: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Promise:
    """Something that must hold, and whether it did."""

    name: str
    held: bool
    detail: str


@dataclass(slots=True)
class Verdict:
    """The figures of one run. Times are seconds."""

    offered: int = 0
    accepted: int = 0
    refused: int = 0
    executed: int = 0
    runs: int = 0
    lost: list[Finding] = field(default_factory=list[Finding])
    duplicated: list[Finding] = field(default_factory=list[Finding])
    reruns_unexplained: list[Finding] = field(default_factory=list[Finding])
    """Begun again without reason, though ended at most once."""
    explained_by: dict[str, int] = field(default_factory=dict[str, int])
    at_risk: int = 0
    """Runs that were in a victim's hands at a SIGKILL or a stop."""
    recovery: list[float] = field(default_factory=list[float])
    over_limit: list[Finding] = field(default_factory=list[Finding])
    resumed: list[float] = field(default_factory=list[float])
    """After each server's death: until a task that was offered after its return began."""
    waited: list[float] = field(default_factory=list[float])
    """From due until first begun."""
    late: list[Finding] = field(default_factory=list[Finding])
    early: list[Finding] = field(default_factory=list[Finding])
    keyed: int = 0
    order: list[Finding] = field(default_factory=list[Finding])
    stalled: list[str] = field(default_factory=list[str])

    @property
    def unexplained(self) -> list[Finding]:
        """Duplicates that no disturbance explains."""
        return [one for one in self.duplicated if not one.explained_by]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By what a run is judged. `held`: task ids that the server still had at the end, and where."""

    patience: float
    margin: float
    held: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def limit(self) -> float:
        """How long recovery may take."""
        return self.patience + self.margin


def judge(books: Books, disturbances: Sequence[Disturbance], *, terms: Terms, lives: Sequence[Life] = ()) -> Verdict:
    """All figures from the ledger and the director's notes."""
    verdict = Verdict(
        offered=len(books.offers),
        accepted=books.accepted,
        refused=sum(bool(offer.refused) for offer in books.offers.values()),
        executed=len(books.ended),
        runs=sum(map(len, books.runs.values())),
    )
    for offer in books.offers.values():
        _judge_task(verdict, offer, books.runs.get(offer.mark, []), disturbances, terms)
    verdict.explained_by = dict(Counter(by.split()[1] for one in verdict.duplicated for by in one.explained_by))
    _judge_recovery(verdict, books, disturbances, terms)
    _judge_order(verdict, books, disturbances)
    verdict.stalled = _stalls(books, lives, disturbances)
    return verdict


def promises(verdict: Verdict, *, terms: Terms, ordered: bool) -> list[Promise]:
    """What the engine promises."""
    slowest = max(verdict.recovery, default=0.0)
    held = [
        Promise("something was accepted and executed", verdict.executed > 0, f"{verdict.executed} executed"),
        Promise("nothing accepted is lost", not verdict.lost, f"{len(verdict.lost)} lost"),
        Promise("nothing runs twice without reason", not verdict.unexplained, f"{len(verdict.unexplained)} duplicates"),
        Promise(
            "no more duplicates than tasks at risk",
            len(verdict.duplicated) <= verdict.at_risk,
            f"{len(verdict.duplicated)} duplicated, {verdict.at_risk} at risk",
        ),
        Promise(
            f"work of the dead is taken over within {terms.limit:g} s",
            not verdict.over_limit,
            f"slowest {slowest:.1f} s, {len(verdict.over_limit)} over",
        ),
    ]
    if ordered:
        detail = f"{len(verdict.order)} violations in {verdict.keyed} runs"
        held.append(Promise("tasks of a key run in order, one at a time", not verdict.order, detail))
    return held


def _judge_task(
    verdict: Verdict, offer: Offer, runs: Sequence[Run], disturbances: Sequence[Disturbance], terms: Terms
) -> None:
    ended = sum(run.ended is not None for run in runs)
    if offer.accepted_at is not None and not ended:
        verdict.lost.append(_lost(offer, runs, disturbances, terms))
    hits = [one for one in disturbances if any(one.hit(run) for run in runs)]
    verdict.at_risk += sum(one.hit(run) for one in hits for run in runs)
    # Each repetition needs an execution before it that was hit.
    broken = sum(any(one.hit(run) for one in hits) for run in runs)
    enough = broken >= len(runs) - 1
    history = _history(offer, runs)
    if ended > 1:
        by = tuple(map(str, hits)) if enough else ()
        verdict.duplicated.append(_finding(offer, f"ended {ended} times", by, history))
    elif len(runs) > 1 and not enough:
        what = f"begun {len(runs)} times, {broken} of them hit"
        verdict.reruns_unexplained.append(_finding(offer, what, (), history))
    if runs:
        waited = runs[0].began - offer.due
        verdict.waited.append(max(0.0, waited))
        if waited > terms.limit:
            verdict.late.append(_finding(offer, f"began {waited:.1f} s after it was due", (), history))
        if offer.countdown and waited < -EARLY_SECONDS:
            verdict.early.append(_finding(offer, f"began {-waited:.3f} s early", (), history))


def _lost(offer: Offer, runs: Sequence[Run], disturbances: Sequence[Disturbance], terms: Terms) -> Finding:
    where = terms.held.get(offer.task_id)
    state = f"still in {where}" if where else "gone from the server"
    last = runs[-1].began if runs else offer.due
    hits = tuple(str(one) for one in disturbances if any(one.hit(run) for run in runs))
    near = min((one for one in disturbances if one.kind is not Kind.PRODUCER), key=lambda one: abs(one.at - last),
               default=None)  # fmt: skip
    by = hits or ((f"near {near} ({near.at - last:+.2f} s)",) if near else ())
    what = f"begun {len(runs)} times, never ended" if runs else "never begun"
    return _finding(offer, f"{what}; {state}", by, _history(offer, runs))


def _judge_recovery(verdict: Verdict, books: Books, disturbances: Sequence[Disturbance], terms: Terms) -> None:
    away = [one for one in disturbances if one.kind is Kind.SERVER]
    for mark, runs in books.runs.items():
        for one in (d for d in disturbances if d.kind in (*KILLS, Kind.STOP)):
            again = next((run.began for run in runs if run.began > one.at), None)
            if again is None or not any(one.interrupted(run) for run in runs):
                continue
            verdict.recovery.append(again - one.at)
            pauses = sum(max(0.0, min(gap.until, again) - max(gap.at, one.at)) for gap in away)
            if again - one.at > terms.limit + pauses:
                what = f"began again {again - one.at:.1f} s after {one}"
                offer = books.offers[mark]
                verdict.over_limit.append(_finding(offer, what, (str(one),), _history(offer, runs)))
    begun = sorted((books.offers[mark].at, runs[0].began) for mark, runs in books.runs.items())
    for one in away:
        first = min((began for at, began in begun if at > one.until), default=None)
        if first is not None:
            verdict.resumed.append(first - one.at)


def _judge_order(verdict: Verdict, books: Books, disturbances: Sequence[Disturbance]) -> None:
    keys: dict[str, list[tuple[Offer, Run]]] = {}
    for mark, runs in books.runs.items():
        offer = books.offers[mark]
        if offer.key:
            keys.setdefault(offer.key, []).extend((offer, run) for run in runs)
    for entries in keys.values():
        entries.sort(key=lambda entry: entry[1].began)
        verdict.keyed += len(entries)
        furthest = entries[0][0]
        for (_, before), (offer, run) in pairwise(entries):
            if offer.place < furthest.place:
                what = f"place {offer.place} of {offer.key} began after place {furthest.place}"
                verdict.order.append(_finding(offer, what, (), (*_history(offer, [run]), *_history(furthest, []))))
            elif offer.mark != before.mark and _effective_end(before, disturbances) > run.began:
                what = f"place {offer.place} of {offer.key} began while {before.mark} was executed"
                verdict.order.append(_finding(offer, what, (), _history(offer, [before, run])))
            furthest = max(furthest, offer, key=lambda one: one.place)


def _effective_end(run: Run, disturbances: Iterable[Disturbance]) -> float:
    """When the run was over as far as others are concerned: with its process's death, or its stop past the lease."""
    cuts = [one.at for one in disturbances if one.interrupted(run)]
    if run.ended is None:
        return min(cuts, default=run.began)
    return min([run.ended, *cuts])


def _stalls(books: Books, lives: Sequence[Life], disturbances: Sequence[Disturbance]) -> list[str]:
    runs = sorted((run for runs in books.runs.values() for run in runs), key=lambda run: run.began)
    found: list[str] = []
    for life in lives:
        ends = max((run.began for run in runs), default=0.0) if life.ended is None else life.ended
        stops = [(one.at, one.until) for one in disturbances if one.kind is Kind.STOP and one.worker == life.worker]
        own = [run.began for run in runs if run.worker == life.worker]
        for since, until in pairwise([life.began, *own, ends]):
            paused = sum(max(0.0, min(b, until) - max(a, since)) for a, b in stops)
            others = sum(since < run.began < until for run in runs)
            if until - since - paused > STALL_SECONDS and others >= STALL_TASKS:
                found.append(f"{life.worker} began nothing for {until - since:.0f} s while others began {others}")
    return found


def _finding(offer: Offer, what: str, by: tuple[str, ...], history: tuple[str, ...]) -> Finding:
    return Finding(offer.mark, offer.task_id, offer.kind, what, by, history)


def _history(offer: Offer, runs: Sequence[Run]) -> tuple[str, ...]:
    def line(run: Run) -> str:
        end = "never ended" if run.ended is None else f"ended {run.ended:.3f}"
        return f"{run.mark} on {run.worker} pid {run.pid}: began {run.began:.3f}, {end}"

    accepted = "not accepted" if offer.accepted_at is None else f"accepted {offer.accepted_at:.3f}"
    return (f"{offer.mark} offered {offer.at:.3f}, {accepted}, due {offer.due:.3f}", *map(line, runs))


def summary(verdict: Verdict) -> dict[str, Any]:
    """The figures to compare, as plain values."""
    return {
        "accepted": verdict.accepted,
        "executed": verdict.executed,
        "lost": len(verdict.lost),
        "lost_still_in_server": sum("still in" in one.what for one in verdict.lost),
        "duplicated": len(verdict.duplicated),
        "duplicated_unexplained": len(verdict.unexplained),
        "duplicated_explained_by": verdict.explained_by,
        "reruns_unexplained": len(verdict.reruns_unexplained),
        "at_risk": verdict.at_risk,
        "refused": verdict.refused,
        "recovery": quantiles(verdict.recovery),
        "recovery_over_limit": len(verdict.over_limit),
        "server_back_to_work": quantiles(verdict.resumed),
        "waited": quantiles(verdict.waited),
        "late": len(verdict.late),
        "early": len(verdict.early),
        "keyed_runs": verdict.keyed,
        "order_violations": len(verdict.order),
        "stalled_workers": len(verdict.stalled),
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p99 and maximum (seconds); empty when there are no values."""
    if not values:
        return {}
    ranked = sorted(values)
    return {
        "count": len(ranked),
        "p50": round(ranked[len(ranked) // 2], 3),
        "p99": round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))], 3),
        "max": round(ranked[-1], 3),
    }
