"""The plan of a workflow: a definition whose steps fit together, with the order of its steps and its loops.

- A step with `then` is a *detour step*: only a loop leads to it. All other steps are *ordinary*; they form a graph
  without cycles.
- A loop belongs to the step with `on_failed`, its *origin*. When the origin fails, the run continues with the detour
  steps of the loop, if it has any, and then with an ordinary step: the origin itself, or one that the origin comes
  after. All steps from there to the origin are the *body* of the loop, and run again.
- Of the steps of a body, only the origin leads to a step outside. Two bodies have no step in common, or one lies within
  the other. So no step outside a loop depends on a step that may run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from laneway.platform.workflows.errors import InvalidDefinition
from laneway.schemas.workflow import MAX_ROUNDS, StepDefinition, StepKind, WorkflowDefinition


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """One loop: when `origin` fails, run `detour` and continue with `back_to`, at most `at_most` times in one run."""

    origin: str
    at_most: int
    detour: tuple[str, ...]
    """The detour steps, in order."""
    back_to: str
    body: tuple[str, ...]
    """The ordinary steps from `back_to` to `origin`, in order."""


class Plan:
    """The graph of a definition. Raises InvalidDefinition, which names every problem of the definition."""

    def __init__(self, definition: WorkflowDefinition) -> None:
        self.definition = definition
        self.steps: Mapping[str, StepDefinition] = {step.name: step for step in definition.steps}
        self._raise_if_any(self._name_problems())
        self.order = self._topological_order()
        """The ordinary steps in topological order: each follows the steps that it comes after."""
        self._raise_if_any(self._cycle_problems())
        self._raise_if_any(self._detour_problems())
        self.loops: Mapping[str, LoopPlan] = {name: self._loop(name) for name in self.order if self._has_loop(name)}
        """Origin → its loop."""
        self._raise_if_any(self._nesting_problems())
        self.detour_of = {step: loop for loop in self.loops.values() for step in loop.detour}
        """Detour step → the loop that leads to it."""

    @cached_property
    def successors(self) -> Mapping[str, tuple[str, ...]]:
        """Step → the steps that come right after it."""
        return {
            name: tuple(other for other in self.order if name in self.steps[other].predecessors) for name in self.order
        }

    @cached_property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        """Step → all steps that it comes after, directly or indirectly."""
        found: dict[str, frozenset[str]] = {}
        for name in self.order:
            before = self.steps[name].predecessors
            found[name] = frozenset(before).union(*(found[step] for step in before))
        return found

    @cached_property
    def signals(self) -> Mapping[str, str]:
        """Name of a signal → the step that waits for it."""
        return {step.signal_name: name for name, step in self.steps.items() if step.kind is StepKind.SIGNAL}

    def visible_to(self, step: str) -> tuple[str, ...]:
        """Return the steps whose outputs a step gets: its ancestors, and steps of the loops before and around it."""
        loop = self.detour_of.get(step)
        if loop is not None:
            before = {*self.ancestors[loop.origin], loop.origin, *loop.detour[: loop.detour.index(step)]}
        else:
            before = {*self.ancestors[step], *self._loop_steps_before(step)}
        return tuple(name for name in self.steps if name in before)

    def _loop_steps_before(self, step: str) -> Iterator[str]:
        """Yield the detour steps of loops before and around a step, and the origins of loops that lead back to it."""
        for loop in self.loops.values():
            if step in loop.body or loop.origin in self.ancestors[step]:
                yield from loop.detour
            if step == loop.back_to:
                yield loop.origin

    # --- checks of the definition

    def _raise_if_any(self, problems: Iterable[str]) -> None:
        found = list(dict.fromkeys(problems))
        if found:
            raise InvalidDefinition(self.definition.name, found)

    def _name_problems(self) -> Iterator[str]:
        """Yield duplicate steps and signals, and references to unknown steps."""
        seen: set[str] = set()
        for step in self.definition.steps:
            if step.name in seen:
                yield f"there are two steps {step.name!r}"
            seen.add(step.name)
            for field, name in _references(step):
                if name not in self.steps:
                    yield f"step {step.name!r}: {field} names the unknown step {name!r}"
        signals = [step.signal_name for step in self.definition.steps if step.kind is StepKind.SIGNAL]
        yield from (f"two steps wait for the signal {name!r}" for name in signals if signals.count(name) > 1)

    def _topological_order(self) -> tuple[str, ...]:
        """Return the ordinary steps in order (Kahn's algorithm), without those on cycles and after cycles."""
        remaining = {name: set(step.predecessors) for name, step in self.steps.items() if step.then is None}
        order: list[str] = []
        while ready := [name for name, before in remaining.items() if before <= set(order)]:
            order += ready
            for name in ready:
                del remaining[name]
        return tuple(order)

    def _cycle_problems(self) -> Iterator[str]:
        """Yield cycles, and ordinary steps that come after a detour step."""
        missing = [name for name, step in self.steps.items() if step.then is None and name not in self.order]
        detours = {name for name, step in self.steps.items() if step.then is not None}
        behind = [name for name in missing if detours & set(self.steps[name].predecessors)]
        for name in behind:
            wrong = ", ".join(sorted(detours & set(self.steps[name].predecessors)))
            yield f"step {name!r} comes after {wrong}, which only a loop leads to: it may never run"
        if missing and not behind:
            yield f"the steps {', '.join(missing)} wait for each other: a cycle (loops are written with on_failed)"

    def _detour_problems(self) -> Iterator[str]:
        """Yield loops that lead nowhere or forward, and detour steps that do not belong to exactly one loop."""
        led_to: list[str] = []
        for name in self.order:
            if self._has_loop(name):
                detour, back_to = self._detour(name)
                led_to += detour
                if back_to is None:
                    yield f"step {name!r}: the steps {', '.join(detour)} lead to each other (then), and never back"
                elif back_to != name and back_to not in self.ancestors[name]:
                    yield f"step {name!r}: its loop leads to {back_to!r}, which it does not come after"
        for name, step in self.steps.items():
            if step.then is None:
                continue
            if step.predecessors or step.on_failed:
                yield f"step {name!r} has then, so only a loop leads to it: it has no after, when or on_failed"
            if led_to.count(name) != 1:
                how = "no loop leads to it" if name not in led_to else "more than one loop leads to it"
                yield f"step {name!r} has then, but {how}"

    def _nesting_problems(self) -> Iterator[str]:
        """Yield steps that depend on a step inside a loop, too many rounds in total, and loops that overlap."""
        loops = list(self.loops.values())
        for loop in loops:
            for name in loop.body[:-1]:
                for outside in sorted(set(self.successors[name]) - set(loop.body)):
                    yield (
                        f"step {outside!r} comes after {name!r}, which the loop of {loop.origin!r} runs again: "
                        f"let it come after {loop.origin!r}"
                    )
        if sum(loop.at_most for loop in loops) > MAX_ROUNDS:
            yield f"its loops may run {sum(loop.at_most for loop in loops)} times in total, more than {MAX_ROUNDS}"
        for number, loop in enumerate(loops):
            for other in loops[number + 1 :]:
                first, second = set(loop.body), set(other.body)
                if first & second and not (first <= second or second <= first):
                    yield f"the loops of {loop.origin!r} and {other.origin!r} overlap: one must lie within the other"

    # --- loops

    def _has_loop(self, name: str) -> bool:
        return self.steps[name].on_failed is not None

    def _detour(self, origin: str) -> tuple[tuple[str, ...], str | None]:
        """Return the detour steps of a loop and the ordinary step that they lead to; None: they never lead back."""
        detour: list[str] = []
        loop = self.steps[origin].on_failed
        name = loop.goto if loop else origin
        while (following := self.steps[name].then) is not None:
            if name in detour:
                return tuple(detour), None
            detour.append(name)
            name = following
        return tuple(detour), name

    def _loop(self, name: str) -> LoopPlan:
        (detour, back_to), loop = self._detour(name), self.steps[name].on_failed
        assert back_to is not None and loop is not None  # noqa: S101  checked before
        from_target = [step for step in self.order if step == back_to or back_to in self.ancestors[step]]
        body = tuple(step for step in from_target if step == name or step in self.ancestors[name])
        return LoopPlan(name, loop.at_most, detour, back_to, body)


def _references(step: StepDefinition) -> Iterator[tuple[str, str]]:
    """Yield each step that this one names, with the field that names it."""
    goto = step.on_failed.goto if step.on_failed else None
    for field, names in (("after", step.after), ("when", step.when), ("then", [step.then]), ("on_failed", [goto])):
        yield from ((field, name) for name in names if name is not None)
