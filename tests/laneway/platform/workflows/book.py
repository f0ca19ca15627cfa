"""A run kept in memory: applies decisions as the database does, and says when one breaks a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from laneway.platform.schemas.workflow import Condition, Outcome, WorkflowDefinition
from laneway.platform.schemas.workflow_run import RunState, StepState
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.state_machine import AS_STATE, MEETS, REVIVABLE, Change, Decision, Event, Mark, decide


def plan(*steps: dict[str, Any]) -> Plan:
    """The plan of these steps; a task needs no handler here."""
    full = [{"handler": "h", **step} if step.get("kind", "task") == "task" else step for step in steps]
    return Plan(WorkflowDefinition.model_validate({"name": "tried", "steps": full}))


class Book:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.marks: dict[str, Mark] = {}
        self.jumps: dict[str, int] = {}
        self.started: list[tuple[str, int]] = []
        self.outcome: RunState | None = None
        self.failed: tuple[str, ...] = ()
        self.apply(Event(Change.STARTED))

    @property
    def open(self) -> list[tuple[str, int]]:
        """The visits that run."""
        return [(name, mark.visit) for name, mark in self.marks.items() if mark.state is StepState.OPEN]

    def settle(self, step: str, outcome: Outcome = Outcome.OK, *, visit: int | None = None) -> Decision:
        """The latest visit of a step ended."""
        return self.apply(Event(Change.SETTLED, step, visit or self.marks[step].visit, outcome))

    def revive(self, step: str) -> Decision:
        """The latest visit of a step runs again."""
        return self.apply(Event(Change.REVIVED, step, self.marks[step].visit))

    def cancel(self, done: Mapping[str, Outcome]) -> None:
        """The run is cancelled; of what ran these steps end all the same, and nothing follows."""
        for name, _ in self.open:
            self._note(name, AS_STATE[done[name]] if name in done else StepState.CANCELLED)

    def go_on(self) -> None:
        """Go on with a cancelled run, as `Workflows.retry` does."""
        again = [name for name, mark in self.marks.items() if not mark.superseded and mark.state in REVIVABLE]
        repaired = {
            self.plan.aside_of[name].origin
            for name in again
            if name in self.plan.aside_of and self.marks[name].state is StepState.FAILED
        }
        again = sorted(
            (name for name in again if name not in repaired), key=lambda name: name not in self.plan.aside_of
        )
        for name in again:
            if not self.marks[name].superseded:
                self.apply(Event(Change.REVIVED, name, self.marks[name].visit))
        if not again:
            self.apply(Event(Change.STARTED))

    def apply(self, event: Event) -> Decision:
        """Decide, and write it down."""
        before = dict(self.marks)
        decision = decide(self.plan, before, event, jumps=self.jumps.get(event.step, 0))
        assert before == self.marks, "it changed what it was given"
        if not decision.heard:
            return decision
        if event.change is Change.SETTLED:
            self._note(event.step, AS_STATE[event.outcome])
        if event.change is Change.REVIVED:
            self._note(event.step, StepState.OPEN)
        for name in decision.supersede:
            self.marks[name] = replace(self.marks[name], superseded=True)
        for name in decision.restore:
            self.marks[name] = replace(self.marks[name], superseded=False)
        loop = self.plan.loops.get(event.step) or self.plan.aside_of.get(event.step)
        if loop is not None and (decision.jumped or decision.restore or loop.origin in decision.supersede):
            self.jumps[loop.origin] = self.jumps.get(loop.origin, 0) + (-1 if decision.restore else 1)
        for name, visit in decision.skip:
            self._put(name, visit, StepState.SKIPPED)
        for name, visit in decision.start:
            self._may_start(name)
            assert (name, visit) not in self.started, "a visit was started twice"
            self.started.append((name, visit))
            self._put(name, visit, StepState.OPEN)
        self.outcome, self.failed = decision.outcome, decision.failed
        assert (self.outcome is None) == bool(self.open), "a run ends when nothing runs any more, and not before"
        return decision

    def states(self) -> Mapping[str, str]:
        """Step → how its latest visit ended."""
        return {name: mark.state.value for name, mark in self.marks.items()}

    def _note(self, name: str, state: StepState) -> None:
        self.marks[name] = replace(self.marks[name], state=state)

    def _put(self, name: str, visit: int, state: StepState) -> None:
        last = self.marks.get(name)
        assert last is None or last.state is not StepState.OPEN, f"{name} is visited anew while it runs"
        assert visit == (last.visit if last else 0) + 1, f"the visits of {name} are not counted"
        self.marks[name] = Mark(visit, state)

    def _may_start(self, name: str) -> None:
        for predecessor in self.plan.steps[name].predecessors:
            mark = self.marks.get(predecessor)
            assert mark is not None and not mark.superseded, f"{name} started before {predecessor} was done"
            assert mark.state in MEETS[self.plan.steps[name].condition(predecessor)], (
                f"{name} started in spite of its when"
            )


def expected(plan: Plan, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """How the steps of a plan without loops end, found in the plainest way."""
    found: dict[str, str] = {}
    met = {Condition.OK: ("ok",), Condition.FAILED: ("failed",), Condition.ANY: ("ok", "failed", "skipped")}
    for name in plan.order:
        step = plan.steps[name]
        runs = all(found[before] in met[step.condition(before)] for before in step.predecessors)
        found[name] = outcomes[name].value if runs else "skipped"
    return found
