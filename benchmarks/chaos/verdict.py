"""Judges a run by its ledger: which tasks are lost, duplicated, late or out of order, and what explains it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import Any

from benchmarks.chaos.disturbance import KILLS, Disturbance, Kind, ack_time
from benchmarks.chaos.ledger import LedgerRecords, Offer, Run
from benchmarks.chaos.limited import MOST_RUNNING, most_at_once
from benchmarks.chaos.process_slots import WorkerLifetime
from benchmarks.chaos.quantiles import quantiles

STALL_SECONDS, STALL_TASKS = 20.0, 200
"""A worker has stopped consuming if it begins no task for this long while the others begin this many."""
EARLY_SECONDS = 0.01
"""A delayed task that begins earlier by less than this is not counted: clocks differ by as much."""


MOST_DUPLICATES, ENOUGH_KILLS = 0.3, 50
"""The most duplicates for each SIGKILL of a pool process or worker, and the kills that are needed to judge that."""
FEW_DUPLICATES = f"a kill repeats at most {MOST_DUPLICATES:g} finished tasks"
ON_SERVER = (Kind.SERVER, Kind.CUT, Kind.FULL, Kind.CLOCK, Kind.FAILOVER)

STUCK = "still in"
"""These words in a lost task's finding say that the server still holds it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A task that something happened to, and the disturbances that explain it (empty: none does)."""

    mark: str
    task_id: str
    kind: str
    what: str
    explained_by: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise, and whether it held."""

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
    """Tasks that began again without a reason, and ended at most once."""
    explained_by: dict[str, int] = field(default_factory=dict[str, int])
    """Kind of disturbance → the explained duplicates that it disturbed first."""
    kills: int = 0
    kill_duplicates: int = 0
    """The duplicates that the SIGKILL of a pool process or a worker disturbed first."""
    at_risk: int = 0
    """Runs that a SIGKILL or a stop disturbed."""
    recovery: list[float] = field(default_factory=list[float])
    over_limit: list[Finding] = field(default_factory=list[Finding])
    resumed: list[float] = field(default_factory=list[float])
    """From each death of the server until a task began that was offered after its return."""
    waited: list[float] = field(default_factory=list[float])
    """From the time a task was due until it first began."""
    late: list[Finding] = field(default_factory=list[Finding])
    early: list[Finding] = field(default_factory=list[Finding])
    keyed: int = 0
    order: list[Finding] = field(default_factory=list[Finding])
    limited: int = 0
    limited_at_once: int = 0
    hung: list[str] = field(default_factory=list[str])
    """The tasks whose forked child did not end."""
    stalled: list[str] = field(default_factory=list[str])

    @property
    def duplicates_per_kill(self) -> float:
        """The duplicates that one SIGKILL of a pool process or a worker caused, on average."""
        return self.kill_duplicates / max(1, self.kills)

    @property
    def unexplained(self) -> list[Finding]:
        """Duplicates that no disturbance explains."""
        return [one for one in self.duplicated if not one.explained_by]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingTerms:
    """The terms by which a run is judged. `origin`: the time from which histories count.

    `held`: task id → where the server held it at the end.
    """

    redelivery_seconds: float
    margin: float
    origin: float = 0.0
    held: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def limit(self) -> float:
        """The most seconds that recovery may take."""
        return self.redelivery_seconds + self.margin


def judge(
    records: LedgerRecords,
    disturbances: Sequence[Disturbance],
    *,
    terms: JudgingTerms,
    lifetimes: Sequence[WorkerLifetime] = (),
) -> Verdict:
    """Compute all figures from the ledger and the disturbances."""
    return _Judge(records, disturbances, terms=terms).judge(lifetimes)


def promises(verdict: Verdict, *, terms: JudgingTerms, ordered: bool) -> list[Promise]:
    """The engine's promises, and whether they held."""
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
            f"the tasks of dead processes begin again within {terms.limit:g} s",
            not verdict.over_limit,
            f"slowest {slowest:.1f} s, {len(verdict.over_limit)} over",
        ),
    ]
    hung = ", ".join(verdict.hung[:5]) or "none hung"
    held.append(Promise("every process that a task forks ends", not verdict.hung, hung))
    held.append(_few_duplicates(verdict))
    if ordered:
        detail = f"{len(verdict.order)} violations in {verdict.keyed} runs"
        held.append(Promise("tasks of a key run in order, one at a time", not verdict.order, detail))
        detail = f"{(at_once := verdict.limited_at_once)} at a time in {verdict.limited} runs"
        held.append(Promise("no more tasks of a limit run than it lets through", at_once <= MOST_RUNNING, detail))
    return held


def _few_duplicates(verdict: Verdict) -> Promise:
    detail = f"{verdict.kill_duplicates} in {verdict.kills} kills"
    if verdict.kills < ENOUGH_KILLS:
        return Promise(FEW_DUPLICATES, held=True, detail=f"{detail}, too few to judge")
    return Promise(FEW_DUPLICATES, held=verdict.duplicates_per_kill <= MOST_DUPLICATES, detail=detail)


class _Judge:
    def __init__(self, records: LedgerRecords, disturbances: Sequence[Disturbance], *, terms: JudgingTerms) -> None:
        self._records, self._disturbances, self._terms = records, disturbances, terms
        self._verdict = Verdict(
            offered=len(records.offers),
            accepted=records.accepted,
            refused=sum(bool(offer.refused) for offer in records.offers.values()),
            executed=len(records.ended),
            runs=sum(map(len, records.runs.values())),
            hung=list(records.hung),
        )

    def judge(self, lifetimes: Sequence[WorkerLifetime]) -> Verdict:
        verdict = self._verdict
        for run in (run for runs in self._records.runs.values() for run in runs):
            run.acked = ack_time(run, self._disturbances)
            if run.ended is None:
                run.died = min(
                    (one.at for one in self._disturbances if one.kind in KILLS and one.hit(run)), default=None
                )
        for offer in self._records.offers.values():
            runs = self._records.runs.get(offer.mark, [])
            self._count(offer, runs)
            if runs:
                self._time(offer, runs)
        reasons = Counter(one.explained_by[0].split()[1] for one in verdict.duplicated if one.explained_by)
        verdict.explained_by = dict(reasons)
        verdict.kills = sum(one.kind in KILLS for one in self._disturbances)
        verdict.kill_duplicates = sum(reasons[kind] for kind in KILLS)
        for mark, runs in self._records.runs.items():
            self._recovery(self._records.offers[mark], runs)
        self._resumption()
        self._order()
        self._limited()
        verdict.stalled = _stalls(self._records, lifetimes, self._disturbances)
        return verdict

    def _count(self, offer: Offer, runs: Sequence[Run]) -> None:
        verdict = self._verdict
        ended = sum(run.ended is not None for run in runs)
        if offer.accepted_at is not None and not ended:
            verdict.lost.append(self._lost(offer, runs))
        hits = [one for one in self._disturbances if any(one.hit(run) for run in runs)]
        verdict.at_risk += sum(one.hit(run) for one in hits for run in runs)
        # Each repetition needs one disturbed execution as its reason.
        broken = sum(any(one.hit(run) for one in hits) for run in runs)
        enough = broken >= len(runs) - 1
        if ended > 1:
            what = f"ended {ended} times, {broken} of {len(runs)} executions hit"
            by = tuple(map(str, hits)) if enough else ()
            verdict.duplicated.append(self._finding(offer, runs, what, by=by))
        elif len(runs) > 1 and not enough:
            what = f"begun {len(runs)} times, {broken} of them hit"
            verdict.reruns_unexplained.append(self._finding(offer, runs, what))

    def _time(self, offer: Offer, runs: Sequence[Run]) -> None:
        verdict, waited = self._verdict, runs[0].began - offer.due
        verdict.waited.append(max(0.0, waited))
        if waited > self._terms.limit:
            verdict.late.append(self._finding(offer, runs, f"began {waited:.1f} s after it was due"))
        if offer.countdown and waited < -EARLY_SECONDS:
            verdict.early.append(self._finding(offer, runs, f"began {-waited:.3f} s early"))

    def _lost(self, offer: Offer, runs: Sequence[Run]) -> Finding:
        where = self._terms.held.get(offer.task_id)
        state = f"{STUCK} {where}" if where else "gone from the server"
        last = runs[-1].began if runs else offer.due
        hits = tuple(str(one) for one in self._disturbances if any(one.hit(run) for run in runs))
        others = [one for one in self._disturbances if one.kind is not Kind.PRODUCER]
        near = min(others, key=lambda one: abs(one.at - last), default=None)
        by = hits or ((f"near {near} ({near.at - last:+.2f} s)",) if near else ())
        what = f"begun {len(runs)} times, never ended" if runs else "never begun"
        return self._finding(offer, runs, f"{what}; {state}", by=by)

    def _recovery(self, offer: Offer, runs: Sequence[Run]) -> None:
        """Measure from each disturbance that took the task from a worker until the task began again.

        If a second disturbance comes before the task began again, only the second counts: the task had got another
        holder in between.
        """
        taken = [
            one for one in self._disturbances if one.kind in (*KILLS, Kind.STOP) and self._struck(one, offer, runs)
        ]
        for one, following in zip_longest(taken, taken[1:]):
            again = next((run.began for run in runs if run.began > one.at), None)
            if again is None or (following and following.at < again):
                continue
            took, limit = again - one.at, self._terms.limit + self._away(one.at, again)
            self._verdict.recovery.append(took)
            if took > limit:
                found = self._finding(offer, runs, f"began again {took:.1f} s after {one}", by=(str(one),))
                self._verdict.over_limit.append(found)

    def _struck(self, one: Disturbance, offer: Offer, runs: Sequence[Run]) -> bool:
        """Whether the disturbance took the task from a worker that had not finished it."""
        if any(one.interrupted(run) for run in runs):  # true for kills and stops only
            return True
        return offer.mark in one.held and not any(run.ended is not None and run.ended <= one.at for run in runs)

    def _away(self, since: float, until: float) -> float:
        """The seconds without a server between two times, and those by which its clock went back for these leases."""
        without = (Kind.SERVER, Kind.FAILOVER)
        gaps = [(one.at, one.until) for one in self._disturbances if one.kind in without]
        renewed = since - self._terms.redelivery_seconds
        back = [one.moved for one in self._disturbances if one.moved < 0 and renewed <= one.at <= until]
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in gaps) - sum(back)

    def _resumption(self) -> None:
        records = self._records
        begun = [(records.offers[mark].at, runs[0].began) for mark, runs in records.runs.items()]
        for one in self._disturbances:
            after = [began for offered, began in begun if offered > one.until]
            if one.kind in (Kind.SERVER, Kind.FAILOVER) and after:
                self._verdict.resumed.append(min(after) - one.at)

    def _order(self) -> None:
        keys: dict[str, list[tuple[Offer, Run]]] = {}
        for mark, runs in self._records.runs.items():
            offer = self._records.offers[mark]
            if offer.key:
                keys.setdefault(offer.key, []).extend((offer, run) for run in runs)
        for entries in keys.values():
            entries.sort(key=lambda entry: entry[1].began)
            self._verdict.keyed += len(entries)
            self._order_of_key(entries)

    def _limited(self) -> None:
        offers = self._records.offers
        runs = [run for mark, all_ in self._records.runs.items() if offers[mark].kind == "limited" for run in all_]
        self._verdict.limited = len(runs)
        self._verdict.limited_at_once = most_at_once((run.began, self._over(run)) for run in runs)

    def _order_of_key(self, entries: Sequence[tuple[Offer, Run]]) -> None:
        furthest, over = entries[0][0], {run: self._over(run) for _, run in entries}
        for index, (offer, run) in enumerate(entries):
            if any(self._lost_ack(before) for _, before in entries[:index] if before.mark == run.mark):
                continue
            others = (before for _, before in entries[:index] if before.mark != run.mark)
            open_ = next((before for before in others if over[before] > run.began), None)
            what = ""
            if offer.place < furthest.place:
                what = f"place {offer.place} of {offer.key} began after place {furthest.place}"
            elif open_:
                what = f"place {offer.place} of {offer.key} began while {open_.mark} was executed"
            if what:
                concerned = (
                    *self._records.runs[open_.mark if open_ else furthest.mark],
                    *self._records.runs[offer.mark],
                )
                self._verdict.order.append(self._finding(offer, concerned, what))
            furthest = max(furthest, offer, key=lambda one: one.place)

    def _lost_ack(self, run: Run) -> bool:
        """Whether a failover may have lost the ack, so that the task is repeated after later ones of its key."""
        return run.ended is not None and any(one.kind is Kind.FAILOVER and one.hit(run) for one in self._disturbances)

    def _over(self, run: Run) -> float:
        """When the run no longer blocks its key: at its end, its process's death, or its stop past the lease."""
        cuts = [max(one.at, run.began) for one in self._disturbances if one.ended_lease(run)]
        if run.ended is None:
            return min(cuts, default=run.began)
        return min([run.ended, *cuts])

    def _finding(self, offer: Offer, runs: Sequence[Run], what: str, *, by: tuple[str, ...] = ()) -> Finding:
        return Finding(offer.mark, offer.task_id, offer.kind, what, by, tuple(self._history(offer, runs)))

    def _history(self, offer: Offer, runs: Sequence[Run]) -> Iterator[str]:
        """The lines of a task's history, with the disturbances of its workers. Times are seconds of the run."""
        zero = self._terms.origin
        accepted = "never accepted" if offer.accepted_at is None else f"accepted {offer.accepted_at - zero:.3f}"
        yield f"{offer.mark} offered {offer.at - zero:.3f}, {accepted}, due {offer.due - zero:.3f}"
        lines: list[tuple[float, str]] = []
        for run in runs:
            end = "never ended" if run.ended is None else f"ended {run.ended - zero:.3f}"
            line = f"{run.mark} on {run.worker} pid {run.pid}: began {run.began - zero:.3f}, {end}"
            lines.append((run.began, line))
        last = max((run.ended or run.began for run in runs), default=offer.due)
        workers = {run.worker for run in runs}
        for one in self._disturbances:
            concerned = one.worker in workers or offer.mark in one.held or one.kind in ON_SERVER
            if concerned and offer.at <= one.at <= last + 1:
                until = f" until {one.until - zero:.3f}" if one.until else ""
                held = ", held it" if offer.mark in one.held else ""
                lines.append((one.at, f"{one} at {one.at - zero:.3f}{until}{held}"))
        yield from (line for _, line in sorted(lines))


def _stalls(
    records: LedgerRecords, lifetimes: Sequence[WorkerLifetime], disturbances: Sequence[Disturbance]
) -> list[str]:
    began = sorted(run.began for runs in records.runs.values() for run in runs)
    of_worker: dict[str, list[float]] = {}
    for run in sorted((run for runs in records.runs.values() for run in runs), key=lambda run: run.began):
        of_worker.setdefault(run.worker, []).append(run.began)
    found: list[str] = []
    for lifetime in lifetimes:
        ends = max(began, default=0.0) if lifetime.ended is None else lifetime.ended
        stops = [(one.at, one.until) for one in disturbances if one.kind is Kind.STOP and one.worker == lifetime.worker]
        own = of_worker.get(lifetime.worker, [])
        for since, until in pairwise([lifetime.began, *own, ends]):
            paused = sum(max(0.0, min(b, until) - max(a, since)) for a, b in stops)
            others = bisect_left(began, until) - bisect_right(began, since)
            if until - since - paused > STALL_SECONDS and others >= STALL_TASKS:
                found.append(f"{lifetime.worker} began nothing for {until - since:.0f} s while others began {others}")
    return found


def summary(verdict: Verdict) -> dict[str, Any]:
    """The figures as plain values, for comparisons."""
    return {
        "accepted": verdict.accepted,
        "executed": verdict.executed,
        "lost": len(verdict.lost),
        "lost_still_in_server": sum(STUCK in one.what for one in verdict.lost),
        "duplicated": len(verdict.duplicated),
        "duplicated_unexplained": len(verdict.unexplained),
        "duplicated_explained_by": verdict.explained_by,
        "kills": verdict.kills,
        "duplicates_per_kill": round(verdict.duplicates_per_kill, 3),
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
        "limited_runs": verdict.limited,
        "limited_at_once": verdict.limited_at_once,
        "hung_children": len(verdict.hung),
        "stalled_workers": len(verdict.stalled),
    }
