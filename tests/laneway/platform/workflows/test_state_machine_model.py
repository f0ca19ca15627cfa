"""Properties of the state machine for random definitions, outcomes and orders."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, DrawFn

from laneway.platform.workflows.errors import InvalidDefinition
from laneway.platform.workflows.plan import Plan
from laneway.schemas.workflow import Outcome
from laneway.schemas.workflow_run import RunState
from tests.fixtures.budget import budget
from tests.laneway.platform.workflows.run_model import RunModel, expected, plan

OUTCOMES = st.sampled_from(Outcome)
CONDITIONS = st.sampled_from(["ok", "ok", "failed", "any"])


@st.composite
def dags(draw: DrawFn, most: int = 8) -> list[dict[str, Any]]:
    """Draw steps, each of which comes after some of the steps before it."""
    names = [f"s{number}" for number in range(draw(st.integers(1, most)))]
    steps: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        after = draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=3)) if number else []
        when = {before: draw(CONDITIONS) for before in after}
        steps.append({"name": name, "after": after, "when": when})
    return draw(st.permutations(steps))


@st.composite
def looped(draw: DrawFn) -> Plan:
    """Draw a plan with loops, as far as they are valid; some lead over detour steps."""
    steps = draw(dags())
    for number in range(draw(st.integers(1, 3))):
        free = [step for step in steps if "then" not in step and "on_failed" not in step]
        origin = draw(st.sampled_from(free or steps))
        ordinary = [step["name"] for step in steps if "then" not in step]
        goto = draw(st.sampled_from(ordinary))
        detour = [f"detour{number}{place}" for place in range(draw(st.integers(0, 2)))]
        chain = [*detour, goto]
        more = [{"name": name, "then": following} for name, following in pairwise(chain)]
        loop = {**origin, "on_failed": {"goto": chain[0], "at_most": draw(st.integers(1, 3))}}
        tried = [loop if step is origin else step for step in steps] + more
        try:
            plan(*tried)
        except InvalidDefinition:
            continue
        steps = tried
    return plan(*steps)


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(dags(), st.data())
def test_final_states_do_not_depend_on_the_order_in_which_steps_end(
    steps: list[dict[str, Any]], data: DataObject
) -> None:
    drawn = plan(*steps)
    outcomes = {name: data.draw(OUTCOMES, label=name) for name in drawn.order}
    run = RunModel(drawn)
    while run.open:
        name, _ = data.draw(st.sampled_from(run.open), label="ends")
        run.end(name, outcomes[name])

    assert run.states() == expected(drawn, outcomes)
    ran = [name for name, state in run.states().items() if state != "skipped"]
    assert sorted(name for name, _ in run.started) == sorted(ran)
    unhandled = [
        name for name, state in run.states().items() if state == "failed" and not _is_handled(drawn, run, name)
    ]
    assert sorted(run.failed) == sorted(unhandled)
    assert run.outcome is (RunState.FAILED if unhandled else RunState.COMPLETED)


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(looped(), st.data())
def test_a_run_with_loops_always_ends_and_loops_keep_their_limits(drawn: Plan, data: DataObject) -> None:
    run = RunModel(drawn)
    while run.open:
        name, visit = data.draw(st.sampled_from(run.open), label="ends")
        run.end(name, data.draw(OUTCOMES, label=name))
        assert not run.end(name, visit=visit).applies, "a repeated end changed something"

    rounds = 1 + sum(loop.at_most for loop in drawn.loops.values())
    assert all(visit.number <= rounds for visit in run.visits.values())
    assert all(run.rounds.get(origin, 0) <= loop.at_most for origin, loop in drawn.loops.items())
    assert run.outcome is not None


@settings(max_examples=budget(short=50, long=500), deadline=None)
@given(looped(), st.data())
def test_a_failed_run_can_be_retried_from_its_failed_steps_until_it_completes(drawn: Plan, data: DataObject) -> None:
    run = RunModel(drawn)
    while run.open:
        name, _ = data.draw(st.sampled_from(run.open), label="ends")
        run.end(name, data.draw(OUTCOMES, label=name))
    done = {name for name, state in run.states().items() if state == "ok" and name in drawn.order}
    visits = {name: visit.number for name, visit in run.visits.items()}

    for _ in range(len(drawn.steps) + 1):
        for name in _steps_to_retry(run):
            if run.visits[name].state.value == "failed" and not run.visits[name].superseded:
                assert run.revive(name).applies
        while run.open:
            run.end(data.draw(st.sampled_from(run.open), label="ends well")[0])
        if run.outcome is RunState.COMPLETED:
            break

    assert run.outcome is RunState.COMPLETED
    has_detours = bool(drawn.detour_of)  # a detour step that succeeds leads back, and the body of its loop runs again
    assert has_detours or all(run.visits[name].number == visits[name] for name in done)


@settings(max_examples=budget(short=60, long=500), deadline=None)
@given(looped(), st.data())
def test_a_cancelled_run_can_be_retried_whatever_its_running_steps_did(drawn: Plan, data: DataObject) -> None:
    run = RunModel(drawn)
    for _ in range(data.draw(st.integers(0, 12), label="ends before the cancel")):
        if run.open:
            run.end(data.draw(st.sampled_from(run.open), label="ends")[0], data.draw(OUTCOMES))
    if not run.open:
        return
    running = [name for name, _ in run.open]
    run.cancel(data.draw(st.dictionaries(st.sampled_from(running), OUTCOMES), label="done all the same"))

    run.retry()
    while run.open:
        run.end(data.draw(st.sampled_from(run.open), label="ends well")[0])

    assert run.outcome is not None


def _is_handled(drawn: Plan, run: RunModel, failed: str) -> bool:
    """Whether a step ran that handles this failure."""
    return any(
        step.when.get(failed, "ok") != "ok" and run.states()[name] != "skipped" for name, step in drawn.steps.items()
    )


def _steps_to_retry(run: RunModel) -> list[str]:
    failed = [name for name in run.failed if not run.visits[name].superseded]
    detours = {step: loop.origin for step, loop in run.plan.detour_of.items() if run.states().get(step) == "failed"}
    return [*detours, *(name for name in failed if name not in detours.values())]
