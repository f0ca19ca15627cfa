"""References in the `with` and `for_each` of a step: texts that stand for a value of the run.

`$input.customer.id` is a value of the run's input, `$steps.build.path` one of the output of a step that this step
comes after, `$item.name` one of the current item, and `$index` its number, from 0. A text that begins with `$$` loses
one `$`. All other values stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from laneway.platform.errors import PermanentError

ROOTS: Final = ("input", "steps", "item", "index")


class UnknownReference(PermanentError):
    """A reference names a value that the run does not have."""

    title = "Unknown reference"

    template = "The step {step!r} refers to {reference}, but {problem}."
    step: str
    reference: str
    problem: str


def references_in(value: object) -> Iterator[str]:
    """Yield every reference in a value."""
    if isinstance(value, str):
        if value.startswith("$") and not value.startswith("$$"):
            yield value
    elif isinstance(value, Mapping):
        for each in cast("Mapping[str, object]", value).values():
            yield from references_in(each)
    elif isinstance(value, Sequence):
        for each in cast("Sequence[object]", value):
            yield from references_in(each)


def problem_of(reference: str, *, visible: Sequence[str], has_item: bool) -> str | None:
    """What is wrong with a reference in a definition; None if nothing is. `visible`: the steps that it may name."""
    root, *path = reference[1:].split(".")
    if root not in ROOTS:
        return f"{reference} begins with none of {', '.join(f'${name}' for name in ROOTS)} ($$ is a dollar sign)"
    if root in ("item", "index") and not has_item:
        return f"{reference} has a meaning only in the with of a step with for_each"
    if root == "steps" and (not path or path[0] not in visible):
        return f"{reference} has to name a step that this one comes after: {', '.join(visible) or 'there is none'}"
    if "" in path:
        return f"{reference} has an empty name between its dots"
    return None


def resolved(value: Any, scope: Mapping[str, Any], *, step: str) -> Any:
    """The value with each reference replaced by what it stands for. Raises UnknownReference."""
    if isinstance(value, str):
        if value.startswith("$$"):
            return value[1:]
        return _look_up(value, scope, step=step) if value.startswith("$") else value
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {name: resolved(each, scope, step=step) for name, each in items}
    if isinstance(value, Sequence):
        return [resolved(each, scope, step=step) for each in cast("Sequence[Any]", value)]
    return value


def _look_up(reference: str, scope: Mapping[str, Any], *, step: str) -> Any:
    found: Any = scope
    for name in reference[1:].split("."):
        if isinstance(found, Mapping) and name in found:
            found = cast("Mapping[str, Any]", found)[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(name)]
        else:
            raise UnknownReference(step, reference, f"there is no {name!r}")
    return found
