"""What comes next in a run: a pure function over the plan, the states of its steps, and what just happened.

Nothing here reads a clock, a database or a queue. Whoever calls it writes the decision down, in the transaction in
which it read the states (`advancing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

from laneway.platform.schemas.workflow import Condition, Outcome
from laneway.platform.schemas.workflow_run import RunState, StepState
from laneway.platform.workflows.plan import LoopPlan, Plan

SETTLED = frozenset({StepState.OK, StepState.FAILED, StepState.SKIPPED})
REVIVABLE = frozenset({StepState.FAILED, StepState.CANCELLED})
AS_STATE = {Outcome.OK: StepState.OK, Outcome.FAILED: StepState.FAILED}
MEETS = {
    Condition.OK: frozenset({StepState.OK}),
    Condition.FAILED: frozenset({StepState.FAILED}),
    Condition.ANY: SETTLED,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """The latest visit of a step; superseded: a loop led back, and what it says does not count any more."""

    visit: int
    state: StepState
    superseded: bool = False


class Change(StrEnum):
    """What just happened."""

    STARTED = "started"
    SETTLED = "settled"
    REVIVED = "revived"


@dataclass(frozen=True, slots=True)
class Event:
    """The run was started or goes on, a visit of a step ended, or one that had failed or was cancelled runs again."""

    change: Change
    step: str = ""
    visit: int = 0
    outcome: Outcome = Outcome.OK


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be written down; visits by (step, number)."""

    heard: bool = True
    """False: the event was about a visit that is not the latest, or had ended; nothing changes."""
    start: tuple[tuple[str, int], ...] = ()
    skip: tuple[tuple[str, int], ...] = ()
    supersede: tuple[str, ...] = ()
    """Steps whose latest visit does not count any more."""
    restore: tuple[str, ...] = ()
    """Steps whose latest visit counts again."""
    jumped: bool = False
    """The step that the event is about leads back once more."""
    outcome: RunState | None = None
    """How the run ended, when it did."""
    failed: tuple[str, ...] = ()
    """The steps that made it fail."""


def decide(plan: Plan, marks: Mapping[str, Mark], event: Event, *, jumps: int = 0) -> Decision:
    """What comes of an event. `jumps`: how often the step that it is about has led back in this run."""
    work = _Deciding(plan, dict(marks))
    if event.change is Change.SETTLED and not work.settle(event, jumps=jumps):
        return Decision(heard=False)
    if event.change is Change.REVIVED and not work.revive(event):
        return Decision(heard=False)
    work.advance()
    return work.decision()


@dataclass
class _Deciding:
    """The states while they are worked on."""

    plan: Plan
    marks: dict[str, Mark]
    started: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    skipped: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    superseded: list[str] = field(default_factory=list[str])
    restored: list[str] = field(default_factory=list[str])
    jumped: bool = False

    def settle(self, event: Event, *, jumps: int) -> bool:
        """A visit ended."""
        mark = self.marks.get(event.step)
        if mark is None or mark.visit != event.visit or mark.state is not StepState.OPEN:
            return False
        self.marks[event.step] = replace(mark, state=AS_STATE[event.outcome])
        loop, aside_of = self.plan.loops.get(event.step), self.plan.aside_of.get(event.step)
        if loop is not None and event.outcome is Outcome.FAILED and jumps < loop.at_most:
            self.jumped = True
            self._supersede(loop.body)
            if loop.asides:
                self._start(loop.asides[0])
        elif aside_of is not None:
            self._settle_aside(event, aside_of)
        return True

    def revive(self, event: Event) -> bool:
        """A visit that had failed or was cancelled runs again; what was skipped for it is considered anew."""
        mark = self.marks.get(event.step)
        if mark is None or mark.visit != event.visit or mark.superseded or mark.state not in REVIVABLE:
            return False
        self.marks[event.step] = replace(mark, state=StepState.OPEN)
        loop = self.plan.aside_of.get(event.step)
        origin = loop.origin if loop else event.step
        behind = [name for name in self.plan.order if origin in self.plan.ancestors[name]]
        self._supersede([name for name in behind if self._state(name) is StepState.SKIPPED])
        if loop is not None and mark.state is StepState.FAILED:
            self._supersede(loop.body)
        return True

    def advance(self) -> None:
        """Start the asides whose turn it is; start or skip every ordinary step whose predecessors have all ended."""
        for loop in self.plan.loops.values():
            for aside, following in pairwise(loop.asides):
                if self._state(aside) is StepState.OK and self._visits(following) < self._visits(aside):
                    self._start(following)
        for name in self.plan.order:
            mark, before = self.marks.get(name), self.plan.steps[name].predecessors
            if (mark is not None and not mark.superseded) or self._is_held(name):
                continue
            states = {step: self._state(step) for step in before}
            if any(state not in SETTLED for state in states.values()):
                continue
            wanted = all(state in MEETS[self.plan.steps[name].condition(step)] for step, state in states.items())
            if wanted:
                self._start(name)
            else:
                self._put(name, StepState.SKIPPED)
                self.skipped.append((name, self.marks[name].visit))

    def decision(self) -> Decision:
        """Everything together."""
        failed = tuple(name for name in self.plan.order if self._made_it_fail(name))
        outcome = None
        if self._is_over():
            outcome = RunState.FAILED if failed else RunState.COMPLETED
        return Decision(
            start=tuple(self.started),
            skip=tuple(self.skipped),
            supersede=tuple(self.superseded),
            restore=tuple(self.restored),
            jumped=self.jumped,
            outcome=outcome,
            failed=failed if outcome else (),
        )

    def _settle_aside(self, event: Event, loop: LoopPlan) -> None:
        """When one failed the origin's failure stands; else `advance` goes on to the next one."""
        if event.outcome is Outcome.FAILED:
            for name in loop.body:
                self.marks[name] = replace(self.marks[name], superseded=False)
                self.restored.append(name)

    def _supersede(self, names: tuple[str, ...] | list[str]) -> None:
        for name in names:
            self.marks[name] = replace(self.marks[name], superseded=True)
            self.superseded.append(name)

    def _start(self, name: str) -> None:
        self._put(name, StepState.OPEN)
        self.started.append((name, self.marks[name].visit))

    def _put(self, name: str, state: StepState) -> None:
        self.marks[name] = Mark(self._visits(name) + 1, state)

    def _visits(self, name: str) -> int:
        mark = self.marks.get(name)
        return mark.visit if mark else 0

    def _state(self, name: str) -> StepState | None:
        """As it counts now; None: it is still to come."""
        mark = self.marks.get(name)
        return None if mark is None or mark.superseded else mark.state

    def _is_held(self, name: str) -> bool:
        """Whether a loop that leads back to it is still among its asides."""
        return any(
            self._state(aside) in (StepState.OPEN, StepState.CANCELLED)
            for loop in self.plan.loops.values()
            if loop.back_to == name
            for aside in loop.asides
        )

    def _is_over(self) -> bool:
        asides = (self._state(name) for name in self.plan.aside_of)
        return all(self._state(name) in SETTLED for name in self.plan.order) and not any(
            state in (StepState.OPEN, StepState.CANCELLED) for state in asides
        )

    def _made_it_fail(self, name: str) -> bool:
        """Whether a step failed, and no other one was there for that."""
        if self._state(name) is not StepState.FAILED:
            return False
        return not any(
            self.plan.steps[other].condition(name) is not Condition.OK and self._state(other) is not StepState.SKIPPED
            for other in self.plan.successors[name]
        )
