"""A definition whose steps fit together: their order, and the loops that lead back.

A step with `then` is an aside: only a loop leads to it. All others are ordinary, and form a graph without cycles. A
loop belongs to the step with `on_failed`, its origin: it leads over its asides back to a step that the origin comes
after (or to the origin itself); what lies between the two is its body, and is run again. A body is left through its
origin only, and two bodies are apart or one within the other: so nothing outside ever rests on what is run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from laneway.platform.schemas.workflow import MAX_ROUNDS, StepDefinition, StepKind, WorkflowDefinition
from laneway.platform.workflows.errors import InvalidDefinition


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """One loop: from `origin`, when it failed, over `asides` to `back_to`, at most so often."""

    origin: str
    at_most: int
    asides: tuple[str, ...]
    back_to: str
    body: tuple[str, ...]
    """From `back_to` to `origin`, in order."""


class Plan:
    """The graph of a definition. Raises InvalidDefinition, which names everything that is wrong with it."""

    def __init__(self, definition: WorkflowDefinition) -> None:
        self.definition = definition
        self.steps: Mapping[str, StepDefinition] = {step.name: step for step in definition.steps}
        self._refuse(self._misnamed())
        self.order = self._sorted()
        """The ordinary steps, each behind those that it comes after."""
        self._refuse(self._cycles())
        self._refuse(self._astray())
        self.loops: Mapping[str, LoopPlan] = {name: self._loop(name) for name in self.order if self._loops(name)}
        self._refuse(self._tangled())
        self.aside_of = {aside: loop for loop in self.loops.values() for aside in loop.asides}

    @cached_property
    def successors(self) -> Mapping[str, tuple[str, ...]]:
        """Step → the steps that come right after it."""
        return {
            name: tuple(other for other in self.order if name in self.steps[other].predecessors) for name in self.order
        }

    @cached_property
    def ancestors(self) -> Mapping[str, frozenset[str]]:
        """Step → everything that it comes after, directly or not."""
        found: dict[str, frozenset[str]] = {}
        for name in self.order:
            before = self.steps[name].predecessors
            found[name] = frozenset(before).union(*(found[step] for step in before))
        return found

    @cached_property
    def signals(self) -> Mapping[str, str]:
        """Name of a signal → the step that waits for it."""
        return {step.signal_name: name for name, step in self.steps.items() if step.kind is StepKind.SIGNAL}

    def known_to(self, step: str) -> tuple[str, ...]:
        """The steps whose outputs a step is given: what it comes after, and the asides of the loops around it."""
        loop = self.aside_of.get(step)
        if loop is not None:
            before = {*self.ancestors[loop.origin], loop.origin, *loop.asides[: loop.asides.index(step)]}
        else:
            before = {*self.ancestors[step], *self._around(step)}
        return tuple(name for name in self.steps if name in before)

    def _around(self, step: str) -> Iterator[str]:
        """Of the loops before and around a step the asides; of those that lead back to it the origin, too."""
        for loop in self.loops.values():
            if step in loop.body or loop.origin in self.ancestors[step]:
                yield from loop.asides
            if step == loop.back_to:
                yield loop.origin

    def _refuse(self, problems: Iterator[str]) -> None:
        found = list(dict.fromkeys(problems))
        if found:
            raise InvalidDefinition(self.definition.name, found)

    def _misnamed(self) -> Iterator[str]:
        seen: set[str] = set()
        for step in self.definition.steps:
            if step.name in seen:
                yield f"there are two steps {step.name!r}"
            seen.add(step.name)
            goto = step.on_failed.goto if step.on_failed else None
            for field, names in (
                ("after", step.after),
                ("when", step.when),
                ("then", [step.then]),
                ("on_failed", [goto]),
            ):
                for name in names:
                    if name is not None and name not in self.steps:
                        yield f"step {step.name!r}: {field} names the unknown step {name!r}"
        waited = [step.signal_name for step in self.definition.steps if step.kind is StepKind.SIGNAL]
        yield from (f"two steps wait for the signal {name!r}" for name in waited if waited.count(name) > 1)

    def _sorted(self) -> tuple[str, ...]:
        """Kahn's algorithm; steps on cycles, and behind them, are missing from it."""
        left = {name: set(step.predecessors) for name, step in self.steps.items() if step.then is None}
        order: list[str] = []
        while ready := [name for name, before in left.items() if before <= set(order)]:
            order += ready
            for name in ready:
                del left[name]
        return tuple(order)

    def _cycles(self) -> Iterator[str]:
        left = [name for name, step in self.steps.items() if step.then is None and name not in self.order]
        asides = {name for name, step in self.steps.items() if step.then is not None}
        behind = [name for name in left if asides & set(self.steps[name].predecessors)]
        for name in behind:
            wrong = ", ".join(sorted(asides & set(self.steps[name].predecessors)))
            yield f"step {name!r} comes after {wrong}, which only a loop leads to: it may never run"
        if left and not behind:
            yield f"the steps {', '.join(left)} wait for each other: a cycle (loops are written with on_failed)"

    def _astray(self) -> Iterator[str]:
        led_to: list[str] = []
        for name in self.order:
            if self._loops(name):
                asides, back_to = self._way(name)
                led_to += asides
                if back_to is None:
                    yield f"step {name!r}: the steps {', '.join(asides)} lead to each other by then, and never back"
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

    def _tangled(self) -> Iterator[str]:
        for loop in self.loops.values():
            for name in loop.body[:-1]:
                for outside in sorted(set(self.successors[name]) - set(loop.body)):
                    yield (
                        f"step {outside!r} comes after {name!r}, which the loop of {loop.origin!r} runs again: "
                        f"let it come after {loop.origin!r}"
                    )
        loops = list(self.loops.values())
        if sum(loop.at_most for loop in loops) > MAX_ROUNDS:
            yield f"its loops may go round {sum(loop.at_most for loop in loops)} times in sum, more than {MAX_ROUNDS}"
        for number, one in enumerate(loops):
            for other in loops[number + 1 :]:
                both, first, second = set(one.body) & set(other.body), set(one.body), set(other.body)
                if both and not (first <= second or second <= first):
                    yield (f"the loops of {one.origin!r} and {other.origin!r} overlap: one must lie within the other")

    def _loops(self, name: str) -> bool:
        return self.steps[name].on_failed is not None

    def _way(self, origin: str) -> tuple[tuple[str, ...], str | None]:
        """The asides of a loop, and the ordinary step that they lead to."""
        asides: list[str] = []
        loop = self.steps[origin].on_failed
        name = loop.goto if loop else origin
        while (following := self.steps[name].then) is not None:
            if name in asides:
                return tuple(asides), None
            asides.append(name)
            name = following
        return tuple(asides), name

    def _loop(self, origin: str) -> LoopPlan:
        (asides, back_to), loop = self._way(origin), self.steps[origin].on_failed
        assert back_to is not None and loop is not None  # noqa: S101  checked before
        body = tuple(
            name
            for name in self.order
            if (name == back_to or back_to in self.ancestors[name])
            and (name == origin or name in self.ancestors[origin])
        )
        return LoopPlan(origin, loop.at_most, asides, back_to, body)
