"""What happens next in a run: a pure function of the plan, the latest visits of its steps, and one event.

Nothing here reads a clock, a database or a queue. The caller stores the decision in the transaction in which it read
the visits (`transitions.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

from laneway.platform.workflows.plan import LoopPlan, Plan
from laneway.schemas.workflow import Condition, Outcome
from laneway.schemas.workflow_run import RunState, StepState

ENDED = frozenset({StepState.OK, StepState.FAILED, StepState.SKIPPED})
"""States of a visit in which its successors can be started or skipped. A cancelled visit may still be revived."""
REVIVABLE = frozenset({StepState.FAILED, StepState.CANCELLED})
STATE_OF = {Outcome.OK: StepState.OK, Outcome.FAILED: StepState.FAILED}
STATES_THAT_MEET = {
    Condition.OK: frozenset({StepState.OK}),
    Condition.FAILED: frozenset({StepState.FAILED}),
    Condition.ANY: ENDED,
}


@dataclass(frozen=True, slots=True)
class Visit:
    """The latest visit of a step."""

    number: int
    """From 1."""
    state: StepState
    superseded: bool = False
    """True: a loop led back, and the state of this visit does not count any more."""


class RunEventKind(StrEnum):
    """The kinds of events."""

    STARTED = "started"
    """The run starts, or continues after a cancel."""
    ENDED = "ended"
    """A visit of a step ended."""
    REVIVED = "revived"
    """A failed or cancelled visit runs again."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """What just happened in a run; `step` and `visit` name the visit, `outcome` is for `ENDED`."""

    kind: RunEventKind
    step: str = ""
    visit: int = 0
    outcome: Outcome = Outcome.OK


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be stored; a visit is given as (step, number)."""

    applies: bool = True
    """False: the event is about a visit that is not the latest one or has ended before. Nothing changes."""
    start: tuple[tuple[str, int], ...] = ()
    skip: tuple[tuple[str, int], ...] = ()
    supersede: tuple[str, ...] = ()
    """Steps whose latest visit does not count any more."""
    restore: tuple[str, ...] = ()
    """Steps whose latest visit counts again."""
    looped: bool = False
    """The loop of the event's step goes one more round."""
    outcome: RunState | None = None
    """The final state of the run, if it ended."""
    failed: tuple[str, ...] = ()
    """The steps that made the run fail."""


def decision_after(plan: Plan, visits: Mapping[str, Visit], event: RunEvent, *, rounds: int = 0) -> Decision:
    """Return what follows from an event. `rounds`: how often the loop of the event's step has led back in this run."""
    transition = _Transition(plan, dict(visits))
    if event.kind is RunEventKind.ENDED and not transition.end(event, rounds=rounds):
        return Decision(applies=False)
    if event.kind is RunEventKind.REVIVED and not transition.revive(event):
        return Decision(applies=False)
    transition.start_and_skip()
    return transition.decision()


@dataclass
class _Transition:
    """The visits while one event is applied to them, and the changes so far."""

    plan: Plan
    visits: dict[str, Visit]
    started: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    skipped: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    superseded: list[str] = field(default_factory=list[str])
    restored: list[str] = field(default_factory=list[str])
    looped: bool = False

    def end(self, event: RunEvent, *, rounds: int) -> bool:
        """Apply the end of a visit; False when it is not the latest visit, or not open."""
        visit = self.visits.get(event.step)
        if visit is None or visit.number != event.visit or visit.state is not StepState.OPEN:
            return False
        self.visits[event.step] = replace(visit, state=STATE_OF[event.outcome])
        loop, detour_of = self.plan.loops.get(event.step), self.plan.detour_of.get(event.step)
        failed = event.outcome is Outcome.FAILED
        if loop is not None and failed and rounds < loop.at_most:
            self.looped = True
            self._supersede(loop.body)
            if loop.detour:
                self._start(loop.detour[0])
        elif detour_of is not None and failed:
            self._end_loop(detour_of)
        return True

    def revive(self, event: RunEvent) -> bool:
        """Reopen a failed or cancelled visit, and decide again about the later steps that were skipped.

        False when it is not the latest visit, does not count any more, or neither failed nor was cancelled.
        """
        visit = self.visits.get(event.step)
        if visit is None or visit.number != event.visit or visit.superseded or visit.state not in REVIVABLE:
            return False
        self.visits[event.step] = replace(visit, state=StepState.OPEN)
        loop = self.plan.detour_of.get(event.step)
        origin = loop.origin if loop else event.step
        behind = [name for name in self.plan.order if origin in self.plan.ancestors[name]]
        self._supersede(name for name in behind if self._state(name) is StepState.SKIPPED)
        if loop is not None and visit.state is StepState.FAILED:
            self._supersede(loop.body)
        return True

    def start_and_skip(self) -> None:
        """Start each detour step after its predecessor; start or skip each ordinary step after all its predecessors."""
        for loop in self.plan.loops.values():
            for step, following in pairwise(loop.detour):
                if self._state(step) is StepState.OK and self._number(following) < self._number(step):
                    self._start(following)
        for name in self.plan.order:
            visit = self.visits.get(name)
            if (visit is not None and not visit.superseded) or self._is_on_detour(name):
                continue
            if all(self._state(before) in ENDED for before in self.plan.steps[name].predecessors):
                self._start_or_skip(name)

    def decision(self) -> Decision:
        """Return all changes together, and the final state of the run if it ended."""
        failed = tuple(name for name in self.plan.order if self._fails_the_run(name))
        outcome = None
        if self._is_over():
            outcome = RunState.FAILED if failed else RunState.COMPLETED
        return Decision(
            start=tuple(self.started),
            skip=tuple(self.skipped),
            supersede=tuple(self.superseded),
            restore=tuple(self.restored),
            looped=self.looped,
            outcome=outcome,
            failed=failed if outcome else (),
        )

    def _end_loop(self, loop: LoopPlan) -> None:
        """Let the visits of the loop's body count again: a detour step failed, and the origin's failure is final."""
        for name in loop.body:
            self.visits[name] = replace(self.visits[name], superseded=False)
            self.restored.append(name)

    def _supersede(self, names: Iterable[str]) -> None:
        for name in names:
            self.visits[name] = replace(self.visits[name], superseded=True)
            self.superseded.append(name)

    def _start_or_skip(self, name: str) -> None:
        step = self.plan.steps[name]
        if all(self._state(before) in STATES_THAT_MEET[step.condition(before)] for before in step.predecessors):
            self._start(name)
        else:
            self.skipped.append(self._new_visit(name, StepState.SKIPPED))

    def _start(self, name: str) -> None:
        self.started.append(self._new_visit(name, StepState.OPEN))

    def _new_visit(self, name: str, state: StepState) -> tuple[str, int]:
        number = self._number(name) + 1
        self.visits[name] = Visit(number, state)
        return name, number

    def _number(self, name: str) -> int:
        visit = self.visits.get(name)
        return visit.number if visit else 0

    def _state(self, name: str) -> StepState | None:
        """Return the state of the visit that counts now; None: the step has not started, or will start again."""
        visit = self.visits.get(name)
        return None if visit is None or visit.superseded else visit.state

    def _is_on_detour(self, name: str) -> bool:
        """Whether a loop that leads back to this step has not finished its detour steps."""
        return any(
            self._state(step) in (StepState.OPEN, StepState.CANCELLED)
            for loop in self.plan.loops.values()
            if loop.back_to == name
            for step in loop.detour
        )

    def _is_over(self) -> bool:
        detours = (self._state(name) for name in self.plan.detour_of)
        return all(self._state(name) in ENDED for name in self.plan.order) and not any(
            state in (StepState.OPEN, StepState.CANCELLED) for state in detours
        )

    def _fails_the_run(self, name: str) -> bool:
        """Whether a step failed, and no step handled the failure (a successor with another condition than `ok`)."""
        if self._state(name) is not StepState.FAILED:
            return False
        return not any(
            self.plan.steps[other].condition(name) is not Condition.OK and self._state(other) is not StepState.SKIPPED
            for other in self.plan.successors[name]
        )
