"""The layout of a workflow's graph."""

from __future__ import annotations

from typing import Any

from laneway.console.graph import columns_of, drawing
from laneway.platform.workflows.plan import Plan
from laneway.schemas.workflow import WorkflowDefinition


def plan(*steps: dict[str, Any]) -> Plan:
    """The plan of these steps, each a timer."""
    given = [{"kind": "wait", "seconds": 1, **step} for step in steps]
    return Plan(WorkflowDefinition.model_validate({"name": "drawn", "steps": given}))


def test_each_step_stands_behind_all_that_it_comes_after() -> None:
    found = plan(
        {"name": "d", "after": ["b", "c", "a"]},
        {"name": "a"},
        {"name": "b", "after": ["a"]},
        {"name": "c", "after": ["a"]},
    )

    assert [sorted(column) for column in columns_of(found)] == [["a"], ["b", "c"], ["d"]]


def test_a_long_line_gets_a_row_of_its_own_and_no_two_boxes_meet() -> None:
    graph = drawing(plan({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["a", "b"]}))
    places = {box.step: (box.x, box.y) for box in graph.boxes}
    (long,) = [line.path for line in graph.lines if line.link[:2] == ("a", "c")]

    assert places["a"][0] < places["b"][0] < places["c"][0]
    assert long.count("C") == 2
    assert f" {places['b'][1] + 23} " not in long
    assert len(set(places.values())) == 3


def test_a_loop_leads_back_through_its_detour_and_within_the_graph() -> None:
    graph = drawing(
        plan(
            {"name": "a"},
            {"name": "check", "after": ["a"], "on_failed": {"goto": "fix", "at_most": 2}},
            {"name": "fix", "then": "a"},
        )
    )

    back = [line.link[:2] for line in graph.lines if line.link.kind == "loop"]
    assert back == [("check", "fix"), ("fix", "a")]
    assert max(box.y for box in graph.boxes) + 46 < graph.height
    assert max(box.x for box in graph.boxes) + 184 < graph.width


def test_a_line_up_to_a_step_of_the_same_column_keeps_clear_of_the_boxes() -> None:
    graph = drawing(
        plan(
            {"name": "a"},
            {"name": "check", "after": ["a"], "on_failed": {"goto": "fix", "at_most": 2}},
            {"name": "fix", "then": "check"},
        )
    )

    places = {box.step: (box.x, box.y) for box in graph.boxes}
    (up,) = [line.path for line in graph.lines if line.link[:2] == ("fix", "check")]
    numbers = [int(each) for each in up.replace("M", "").replace("C", "").split()]
    assert places["fix"][0] == places["check"][0] and places["fix"][1] > places["check"][1]
    assert max(numbers[::2]) <= places["fix"][0] and min(numbers[::2]) >= 0
    assert numbers[-2:] == [places["check"][0], places["check"][1] + 46 - 8]


def test_the_largest_plan_is_drawn() -> None:
    names = [f"s{number}" for number in range(100)]
    steps = [{"name": name, "after": names[:number]} for number, name in enumerate(names)]

    graph = drawing(plan(*steps))

    assert (len(graph.boxes), len(graph.lines)) == (100, 4950)
