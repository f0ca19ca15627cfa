"""References in the `with` of a step stand for values of the run; every other value stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform.workflows.references import UnknownReference, problem_of, references_in, resolved

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


def escaped(value: object) -> object:
    """The value as a definition has to write it, so that nothing in it is a reference."""
    if isinstance(value, str):
        return f"${value}" if value.startswith("$") else value
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return {name: escaped(each) for name, each in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_values_without_references_stay_as_they_are(value: object) -> None:
    assert list(references_in(escaped(value))) == []
    assert resolved(escaped(value), {}, step="a") == value


@given(VALUES, st.lists(NAMES, min_size=1, max_size=4))
def test_a_reference_is_the_value_at_its_path(value: object, path: list[str]) -> None:
    scope: object = value
    for name in reversed(path):
        scope = {name: scope}
    reference = "$input." + ".".join(path)

    assert list(references_in([{"x": reference}])) == [reference]
    assert problem_of(reference, visible=(), has_item=False) is None
    assert resolved({"x": [reference]}, {"input": scope}, step="a") == {"x": [value]}


@pytest.mark.parametrize(
    "reference", ["$input.b", "$input.a.b", "$input.list.2", "$input.list.x", "$steps.x.y", "$item"]
)
def test_a_value_that_the_run_has_not_got_is_named(reference: str) -> None:
    scope = {"input": {"a": 1, "list": [0, 1]}, "steps": {"x": {}}}
    with pytest.raises(UnknownReference, match=r"The step 'a' refers to \$.*, but there is no '\w+'"):
        resolved(reference, scope, step="a")


def test_items_of_lists_are_found_by_their_number() -> None:
    assert resolved("$input.list.1.n", {"input": {"list": [{"n": 0}, {"n": 1}]}}, step="a") == 1
