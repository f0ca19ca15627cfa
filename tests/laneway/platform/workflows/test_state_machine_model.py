"""Random definitions, random outcomes, in any order: what holds for each of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, DrawFn

from laneway.platform.schemas.workflow import Outcome
from laneway.platform.schemas.workflow_run import RunState
from laneway.platform.workflows.errors import InvalidDefinition
from laneway.platform.workflows.plan import Plan
from tests.laneway.platform.workflows.book import Book, expected, plan

OUTCOMES = st.sampled_from(Outcome)
CONDITIONS = st.sampled_from(["ok", "ok", "failed", "any"])


@st.composite
def dags(draw: DrawFn, most: int = 8) -> list[dict[str, Any]]:
    """Steps of which each comes after some of those before it."""
    names = [f"s{number}" for number in range(draw(st.integers(1, most)))]
    steps: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        after = draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=3)) if number else []
        when = {before: draw(CONDITIONS) for before in after}
        steps.append({"name": name, "after": after, "when": when})
    return draw(st.permutations(steps))


@st.composite
def looped(draw: DrawFn) -> Plan:
    """The same with loops, as far as they make a definition; some over steps of their own."""
    steps = draw(dags())
    for number in range(draw(st.integers(1, 3))):
        free = [step for step in steps if "then" not in step and "on_failed" not in step]
        origin = draw(st.sampled_from(free or steps))
        ordinary = [step["name"] for step in steps if "then" not in step]
        goto = draw(st.sampled_from(ordinary))
        asides = [f"aside{number}{place}" for place in range(draw(st.integers(0, 2)))]
        chain = [*asides, goto]
        more = [{"name": name, "then": following} for name, following in pairwise(chain)]
        loop = {**origin, "on_failed": {"goto": chain[0], "at_most": draw(st.integers(1, 3))}}
        tried = [loop if step is origin else step for step in steps] + more
        try:
            plan(*tried)
        except InvalidDefinition:
            continue
        steps = tried
    return plan(*steps)


@settings(max_examples=150, deadline=None)
@given(dags(), st.data())
def test_steps_end_as_their_predecessors_say_in_whatever_order_they_end(
    steps: list[dict[str, Any]], data: DataObject
) -> None:
    drawn = plan(*steps)
    outcomes = {name: data.draw(OUTCOMES, label=name) for name in drawn.order}
    book = Book(drawn)
    while book.open:
        name, _ = data.draw(st.sampled_from(book.open), label="ends")
        book.settle(name, outcomes[name])

    assert book.states() == expected(drawn, outcomes)
    ran = [name for name, state in book.states().items() if state != "skipped"]
    assert sorted(name for name, _ in book.started) == sorted(ran)
    unmet = [name for name, state in book.states().items() if state == "failed" and not _is_met(drawn, book, name)]
    assert sorted(book.failed) == sorted(unmet)
    assert book.outcome is (RunState.FAILED if unmet else RunState.COMPLETED)


@settings(max_examples=150, deadline=None)
@given(looped(), st.data())
def test_a_run_with_loops_always_ends_and_no_step_is_visited_more_often_than_its_loops_allow(
    drawn: Plan, data: DataObject
) -> None:
    book = Book(drawn)
    while book.open:
        name, visit = data.draw(st.sampled_from(book.open), label="ends")
        book.settle(name, data.draw(OUTCOMES, label=name))
        assert not book.settle(name, visit=visit).heard, "the same end again changed something"

    rounds = 1 + sum(loop.at_most for loop in drawn.loops.values())
    assert all(mark.visit <= rounds for mark in book.marks.values())
    assert all(book.jumps.get(origin, 0) <= loop.at_most for origin, loop in drawn.loops.items())
    assert book.outcome is not None


@settings(max_examples=100, deadline=None)
@given(looped(), st.data())
def test_a_failed_run_can_be_gone_on_with_from_what_failed_until_it_completes(drawn: Plan, data: DataObject) -> None:
    book = Book(drawn)
    while book.open:
        name, _ = data.draw(st.sampled_from(book.open), label="ends")
        book.settle(name, data.draw(OUTCOMES, label=name))
    done = {name for name, state in book.states().items() if state == "ok" and name in drawn.order}
    visits = {name: mark.visit for name, mark in book.marks.items()}

    for _ in range(len(drawn.steps) + 1):
        for name in _to_go_on_from(book):
            if book.marks[name].state.value == "failed" and not book.marks[name].superseded:
                assert book.revive(name).heard
        while book.open:
            book.settle(data.draw(st.sampled_from(book.open), label="ends well")[0])
        if book.outcome is RunState.COMPLETED:
            break

    assert book.outcome is RunState.COMPLETED
    asides = bool(drawn.aside_of)  # an aside that works at last leads back, and its loop's body is done again
    assert asides or all(book.marks[name].visit == visits[name] for name in done)


@settings(max_examples=200, deadline=None)
@given(looped(), st.data())
def test_a_cancelled_run_can_be_gone_on_with_whatever_its_running_steps_still_did(
    drawn: Plan, data: DataObject
) -> None:
    book = Book(drawn)
    for _ in range(data.draw(st.integers(0, 12), label="ends before the cancel")):
        if book.open:
            book.settle(data.draw(st.sampled_from(book.open), label="ends")[0], data.draw(OUTCOMES))
    if not book.open:
        return
    running = [name for name, _ in book.open]
    book.cancel(data.draw(st.dictionaries(st.sampled_from(running), OUTCOMES), label="done all the same"))

    book.go_on()
    while book.open:
        book.settle(data.draw(st.sampled_from(book.open), label="ends well")[0])

    assert book.outcome is not None


def _is_met(drawn: Plan, book: Book, failed: str) -> bool:
    """Whether a step that was there for this failure ran."""
    return any(
        step.when.get(failed, "ok") != "ok" and book.states()[name] != "skipped" for name, step in drawn.steps.items()
    )


def _to_go_on_from(book: Book) -> list[str]:
    failed = [name for name in book.failed if not book.marks[name].superseded]
    asides = {aside: loop.origin for aside, loop in book.plan.aside_of.items() if book.states().get(aside) == "failed"}
    return [*asides, *(name for name in failed if name not in asides.values())]
