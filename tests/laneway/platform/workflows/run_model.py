"""A run in memory: stores decisions as the database does, and fails when one of them breaks a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.state_machine import (
    REVIVABLE,
    STATE_OF,
    STATES_THAT_MEET,
    Decision,
    RunEvent,
    RunEventKind,
    Visit,
    decision_after,
)
from laneway.schemas.workflow import Condition, Outcome, WorkflowDefinition
from laneway.schemas.workflow_run import RunState, StepState


def plan(*steps: dict[str, Any]) -> Plan:
    """Return the plan of these steps; a task needs no handler here."""
    full = [{"handler": "h", **step} if step.get("kind", "task") == "task" else step for step in steps]
    return Plan(WorkflowDefinition.model_validate({"name": "tried", "steps": full}))


class RunModel:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.visits: dict[str, Visit] = {}
        self.rounds: dict[str, int] = {}
        self.started: list[tuple[str, int]] = []
        self.outcome: RunState | None = None
        self.failed: tuple[str, ...] = ()
        self.apply(RunEvent(RunEventKind.STARTED))

    @property
    def open(self) -> list[tuple[str, int]]:
        """The visits that run."""
        return [(name, visit.number) for name, visit in self.visits.items() if visit.state is StepState.OPEN]

    def end(self, step: str, outcome: Outcome = Outcome.OK, *, visit: int | None = None) -> Decision:
        """End the latest visit of a step."""
        return self.apply(RunEvent(RunEventKind.ENDED, step, visit or self.visits[step].number, outcome))

    def revive(self, step: str) -> Decision:
        """Run the latest visit of a step again."""
        return self.apply(RunEvent(RunEventKind.REVIVED, step, self.visits[step].number))

    def cancel(self, ended: Mapping[str, Outcome]) -> None:
        """Cancel the run. The running steps in `ended` end anyway, and nothing follows them."""
        for name, _ in self.open:
            self._set_state(name, STATE_OF[ended[name]] if name in ended else StepState.CANCELLED)

    def retry(self) -> None:
        """Continue a cancelled run, as `Workflows.retry` does."""
        again = [name for name, visit in self.visits.items() if not visit.superseded and visit.state in REVIVABLE]
        origins = {
            self.plan.detour_of[name].origin
            for name in again
            if name in self.plan.detour_of and self.visits[name].state is StepState.FAILED
        }
        again = sorted(
            (name for name in again if name not in origins), key=lambda name: name not in self.plan.detour_of
        )
        for name in again:
            if not self.visits[name].superseded:
                self.apply(RunEvent(RunEventKind.REVIVED, name, self.visits[name].number))
        if not again:
            self.apply(RunEvent(RunEventKind.STARTED))

    def apply(self, event: RunEvent) -> Decision:
        """Take the decision about an event, check it, and store it."""
        before = dict(self.visits)
        decision = decision_after(self.plan, before, event, rounds=self.rounds.get(event.step, 0))
        assert before == self.visits, "the decision changed its arguments"
        if decision.applies:
            self._store(event, decision)
        return decision

    def states(self) -> Mapping[str, str]:
        """Return step → the state of its latest visit."""
        return {name: visit.state.value for name, visit in self.visits.items()}

    def _store(self, event: RunEvent, decision: Decision) -> None:
        if event.kind is RunEventKind.ENDED:
            self._set_state(event.step, STATE_OF[event.outcome])
        if event.kind is RunEventKind.REVIVED:
            self._set_state(event.step, StepState.OPEN)
        for name in decision.supersede:
            self.visits[name] = replace(self.visits[name], superseded=True)
        for name in decision.restore:
            self.visits[name] = replace(self.visits[name], superseded=False)
        loop = self.plan.loops.get(event.step) or self.plan.detour_of.get(event.step)
        if loop is not None and (decision.looped or decision.restore or loop.origin in decision.supersede):
            self.rounds[loop.origin] = self.rounds.get(loop.origin, 0) + (-1 if decision.restore else 1)
        for name, number in decision.skip:
            self._add_visit(name, number, StepState.SKIPPED)
        for name, number in decision.start:
            self._check_start(name)
            assert (name, number) not in self.started, "a visit was started twice"
            self.started.append((name, number))
            self._add_visit(name, number, StepState.OPEN)
        self.outcome, self.failed = decision.outcome, decision.failed
        assert (self.outcome is None) == bool(self.open), "a run ends when nothing runs any more, and not before"

    def _set_state(self, name: str, state: StepState) -> None:
        self.visits[name] = replace(self.visits[name], state=state)

    def _add_visit(self, name: str, number: int, state: StepState) -> None:
        last = self.visits.get(name)
        assert last is None or last.state is not StepState.OPEN, f"{name} is started again while it runs"
        assert number == (last.number if last else 0) + 1, f"the visits of {name} are not numbered one by one"
        self.visits[name] = Visit(number, state)

    def _check_start(self, name: str) -> None:
        for predecessor in self.plan.steps[name].predecessors:
            visit = self.visits.get(predecessor)
            assert visit is not None and not visit.superseded, f"{name} started before {predecessor} ended"
            met = STATES_THAT_MEET[self.plan.steps[name].condition(predecessor)]
            assert visit.state in met, f"{name} started although its condition is not met"


def expected(plan: Plan, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Return step → final state for a plan without loops, computed in the simplest way."""
    found: dict[str, str] = {}
    met = {Condition.OK: ("ok",), Condition.FAILED: ("failed",), Condition.ANY: ("ok", "failed", "skipped")}
    for name in plan.order:
        step = plan.steps[name]
        runs = all(found[before] in met[step.condition(before)] for before in step.predecessors)
        found[name] = outcomes[name].value if runs else "skipped"
    return found
