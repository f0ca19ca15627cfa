"""Valid definitions, and the problems that are reported of invalid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from app.core.settings import ROOT
from app.schemas.savings import CalculatorInputs
from app.services.container import Services
from laneway.platform.workflows.definition_files import load_definitions
from laneway.platform.workflows.definitions import checked_plan, parsed_definition
from laneway.platform.workflows.errors import BrokenWorkflowType, InvalidDefinition, InvalidInput, UnknownWorkflowType
from laneway.platform.workflows.handlers import Handler

GOOD, HOOK = "good", "send_webhook_response_task"
HANDLERS = {GOOD: Handler(GOOD, lambda _call: None)}
INPUTS: dict[str, type[BaseModel]] = {"calculator_inputs": CalculatorInputs}


def definition(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a definition as plain data; tasks have a handler that exists."""
    full = [{"handler": GOOD, **step} if step.get("kind", "task") == "task" else step for step in steps]
    return {"name": "tried", "version": 1, "steps": full, **more}


def own(step: dict[str, Any]) -> dict[str, Any]:
    """Return a definition with one step, which is not done by a handler."""
    return {"name": "tried", "steps": [{"name": "a", **step}]}


def problems(data: Any) -> str:
    """Return the problems of an invalid definition."""
    with pytest.raises(InvalidDefinition) as found:
        checked_plan(parsed_definition("tried", data), handlers=HANDLERS, inputs=INPUTS)
    return str(found.value)


LOOP = {"goto": "fix", "at_most": 2}
A, B = {"name": "a"}, {"name": "b", "after": ["a"]}
WRONG: list[tuple[Any, str]] = [
    ([], "must be a mapping"),
    ({"name": "tried", "steps": []}, "at least 1 item"),
    (definition({"name": "A"}), "steps.0.name"),
    (definition(A, surprise=1), "surprise"),
    (definition({**A, "kind": "dream"}), "steps.0.kind"),
    (definition(A, A), "two steps 'a'"),
    (definition({**A, "after": ["ghost"]}), "after names the unknown step 'ghost'"),
    (definition({**A, "when": {"ghost": "ok"}}), "when names the unknown step 'ghost'"),
    (definition({**A, "when": {"a": "maybe"}}), "when"),
    (definition({**A, "after": ["b"]}, B), "wait for each other: a cycle"),
    (definition({**A, "after": ["a"]}), "a cycle"),
    (definition({"name": "a", "handler": "ghost"}), "no handler 'ghost'"),
    (definition({**A, "queue": "ghost"}), "no queue 'ghost'"),
    (definition({**A, "with": {"ghost": 1}}), "with.ghost"),
    (definition(A, input="ghost"), "no type 'ghost'"),
    (definition({"name": "a", "kind": "wait"}), "needs 'seconds'"),
    (definition({"name": "a", "kind": "signal"}), "needs 'timeout'"),
    ({"name": "tried", "steps": [{"name": "a"}]}, "needs 'handler'"),
    (definition({"name": "a", "kind": "wait", "seconds": 1, "handler": GOOD}), "has no handler"),
    (definition({"name": "a", "task": HOOK}), "only one of handler and task"),
    (definition({"name": "a", "kind": "wait", "seconds": 1, "for_each": {"items": []}}), "has no for_each"),
    (own({"workflow": "w", "timeout": 5}), "has no timeout and no max_retries"),
    (own({"task": "send_webhook_task"}), "step 'a': there is no task 'send_webhook_task' (did you mean"),
    (own({"task": "run_workflow_step_task"}), "step 'a': the task 'run_workflow_step_task' is internal"),
    (own({"task": HOOK, "with": {"url": "$input.url", "event": 5}}), "step 'a': with.event: Input should be a valid"),
    (own({"task": HOOK, "with": {"url": "$output.url"}}), "$output.url begins with none of $input, $steps, $item"),
    (own({"task": HOOK, "with": {"url": "$steps.b.url"}}), "has to name a step that this one comes after"),
    (own({"task": HOOK, "with": {"url": "$item.url"}}), "has a meaning only in the with of a step with for_each"),
    (own({"task": HOOK, "with": {"url": "$input..url"}}), "has an empty name between its dots"),
    (definition({"name": "a", "for_each": {"items": "files"}}), "'files' is neither a list nor a reference"),
    (definition({"name": "a", "for_each": {"items": "$item"}}), "has a meaning only in the with"),
    (definition({"name": "a", "for_each": {"items": [1, 2], "at_most": 1}}), "has 2 items, more than at_most (1)"),
    (definition({"name": "a", "for_each": {"items": [1], "at_most": 10_001}}), "less than or equal to 10000"),
    (definition({"name": "a", "for_each": {"items": [1], "at_once": 0}}), "greater than or equal to 1"),
    (definition({"name": "a", "for_each": {"items": [1], "failures": "maybe"}}), "'fail', 'stop' or 'allow'"),
    (definition({**A, "seconds": 3}), "has no seconds"),
    (definition({**A, "timeout": 0}), "timeout"),
    (definition({**A, "timeout": 90_000}), "at most 86400 s"),
    (definition({**A, "max_retries": 101}), "max_retries"),
    (
        definition(
            {"name": "a", "kind": "signal", "timeout": 1, "signal": "go"},
            {"name": "b", "kind": "signal", "timeout": 1, "signal": "go"},
        ),
        "two steps wait for the signal 'go'",
    ),
    (definition({**A, "on_failed": {"goto": "ghost", "at_most": 1}}), "on_failed names the unknown step 'ghost'"),
    (definition({**A, "on_failed": {"goto": "a", "at_most": 0}}), "at_most"),
    (
        definition(
            {**A, "on_failed": {"goto": "a", "at_most": 60}}, {"name": "b", "on_failed": {"goto": "b", "at_most": 60}}
        ),
        "120 times in total",
    ),
    (definition({**A, "on_failed": LOOP}, {"name": "fix", "then": "ghost"}), "then names the unknown step 'ghost'"),
    (definition({**A, "on_failed": LOOP}, {"name": "fix"}), "leads to 'fix', which it does not come after"),
    (definition({**A, "on_failed": LOOP}, {"name": "fix", "then": "fix"}), "and never back"),
    (definition(A, {"name": "fix", "then": "a"}), "no loop leads to it"),
    (
        definition({**A, "on_failed": LOOP}, {**B, "on_failed": LOOP}, {"name": "fix", "then": "a"}),
        "more than one loop",
    ),
    (
        definition({**A, "on_failed": LOOP}, {"name": "fix", "then": "a"}, {"name": "b", "after": ["fix"]}),
        "which only a loop leads to",
    ),
    (definition({**A, "on_failed": LOOP}, {"name": "fix", "then": "a", "after": ["a"]}), "has no after"),
    (
        definition(A, {**B, "on_failed": {"goto": "a", "at_most": 1}}, {"name": "c", "after": ["a"]}),
        "let it come after 'b'",
    ),
    (
        definition(
            A,
            {**B, "on_failed": {"goto": "a", "at_most": 1}},
            {"name": "c", "after": ["b"], "on_failed": {"goto": "b", "at_most": 1}},
        ),
        "overlap",
    ),
]


def test_each_problem_of_a_definition_is_named() -> None:
    for data, problem in WRONG:
        assert problem in problems(data), data


def test_all_problems_of_a_definition_are_reported_together() -> None:
    text = problems(definition({**A, "after": ["ghost"], "then": "gone"}, {**A}))

    assert text.count("\n  - ") == 3


def test_a_definition_may_have_diamonds_loops_within_loops_timers_and_signals() -> None:
    plan = checked_plan(
        parsed_definition(
            "tried",
            definition(
                A,
                {**B, "on_failed": {"goto": "b", "at_most": 1}},
                {"name": "c", "after": ["b"], "on_failed": {"goto": "fix", "at_most": 3}},
                {"name": "fix", "then": "more"},
                {"name": "more", "then": "b"},
                {"name": "left", "after": ["c"]},
                {"name": "right", "when": {"c": "any"}},
                {"name": "pause", "kind": "wait", "seconds": 1.5, "after": ["left", "right"]},
                {"name": "approve", "kind": "signal", "timeout": 60, "on_timeout": "ok", "after": ["pause"]},
            ),
        ),
        handlers=HANDLERS,
        inputs=INPUTS,
    )

    assert plan.order == ("a", "b", "c", "left", "right", "pause", "approve")
    assert (plan.loops["c"].detour, plan.loops["c"].body) == (("fix", "more"), ("b", "c"))
    assert plan.signals == {"approve": "approve"}
    assert plan.visible_to("more") == ("a", "b", "c", "fix")


def test_every_shipped_definition_is_valid_and_named_like_its_file(services: Services) -> None:
    names = [plan.definition.name for plan in services.workflow_definitions.plans]

    assert names == sorted(path.stem for path in (ROOT / "app" / "workflows").glob("*.yaml"))
    assert "savings_assessment" in names


def test_a_broken_file_is_named_with_line_and_reason_and_the_others_are_used(tmp_path: Path) -> None:
    step = f"{{name: a, handler: {GOOD}}}"
    (tmp_path / "good.yaml").write_text(f"name: good\nsteps: [{step}]\n")
    (tmp_path / "no-yaml.yaml").write_text("name: torn\nsteps:\n  - {name: a\n  - [\n")
    (tmp_path / "field.yaml").write_text(f"name: field\nversion: soon\nsteps: [{step}]\n")
    (tmp_path / "handler.yaml").write_text(f"name: typo\nsteps:\n  - {step}\n  - name: b\n    handler: gone\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    known = load_definitions(tmp_path, handlers=HANDLERS, inputs=INPUTS)

    assert [plan.definition.name for plan in known.plans] == ["good"]
    found = {broken.name: (broken.file, "; ".join(broken.problems)) for broken in known.broken}
    assert set(found) == {"torn", "field", "typo", "list", "latin"}
    assert found["torn"][0] == "no-yaml.yaml" and found["torn"][1].startswith("line 4: it is not YAML: ")
    assert found["field"][1].startswith("line 2: version: ")
    assert found["typo"][1].startswith("line 4: step 'b': there is no handler 'gone'")
    assert "mapping" in found["list"][1] and "UTF-8" in found["latin"][1]
    with pytest.raises(BrokenWorkflowType, match=r"'typo' cannot be started.*handler\.yaml.*line 4: .*restart"):
        known.plan("typo")
    with pytest.raises(UnknownWorkflowType):
        known.plan("never")


def test_a_step_may_be_a_workflow_of_any_file_also_of_its_own(tmp_path: Path) -> None:
    for name, other in (("first", "second"), ("second", "second"), ("third", "secnd")):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nsteps:\n  - {{name: a, workflow: {other}}}\n")
    known = load_definitions(tmp_path, handlers=HANDLERS, inputs=INPUTS)

    assert [plan.definition.name for plan in known.plans] == ["first", "second"]
    (broken,) = known.broken
    assert str(broken) == (
        "third.yaml is not valid: line 3: step 'a': there is no workflow 'secnd' (did you mean 'second'?); "
        "there are first, second, third"
    )


def test_of_two_files_for_one_workflow_neither_is_used(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(f"name: same\nsteps: [{{name: a, handler: {GOOD}}}]\n")
    known = load_definitions(tmp_path, handlers=HANDLERS, inputs=INPUTS)

    assert known.plans == []
    assert [str(broken) for broken in known.broken] == [
        "b.yaml is not valid: the file a.yaml defines a workflow of the same name"
    ]


def test_an_input_is_checked_against_its_type_and_an_unknown_type_of_workflow_is_named(services: Services) -> None:
    known = services.workflow_definitions
    with pytest.raises(UnknownWorkflowType, match="savings_assessment"):
        known.plan("brew_coffee")
    with pytest.raises(InvalidInput, match="hourly_wage"):
        known.validated_input(known.plan("savings_assessment"), {"hourly_wage": "-4711"})
