"""The children of a step: what its definition, or its handler, says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.errors import PermanentError
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.platform.workflows.children import ChildPlan
from laneway.platform.workflows.handlers import Children, ChildTask
from laneway.platform.workflows.references import resolved
from laneway.schemas.workflow import MOST_ITEMS, Failures, StepDefinition
from laneway.schemas.workflow_run import WorkflowItemRef, WorkflowStepRef

ITEM_ROLE: Final = "workflow items"


class NotAList(PermanentError):
    """A step is to run for each item of something that is no list."""

    title = "Not a list"

    template = "The step {step!r} runs for each item of a list, and {what} is {found}."
    step: str
    what: str
    found: str


class TooManyItems(PermanentError):
    """A step is to run for more items than it may."""

    title = "Too many items"

    template = (
        "The step {step!r} has {found:,} items, and may have {most:,}: split the list, or give each child a part of it."
    )
    step: str
    found: int
    most: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What the references of a step stand for."""

    input: Mapping[str, Any]
    outputs: Mapping[str, dict[str, Any]]

    def values(self, **more: Any) -> dict[str, Any]:
        """The values by the names with which references begin."""
        return {"input": self.input, "steps": self.outputs, **more}


def items_of(step: StepDefinition, scope: Scope) -> list[Any]:
    """The items of a step with `for_each`. Raises UnknownReference, NotAList, TooManyItems."""
    assert step.for_each is not None  # noqa: S101 - the caller asks for a step that has it
    given = step.for_each.items
    found: Any = resolved(given if isinstance(given, str) else list(given), scope.values(), step=step.name)
    if not isinstance(found, list):
        what = given if isinstance(given, str) else "its items"
        raise NotAList(step.name, what, f"of the type {type(found).__name__}")
    items = cast("list[Any]", found)
    if len(items) > step.for_each.at_most:
        raise TooManyItems(step.name, len(items), step.for_each.at_most)
    return items


def planned(ref: WorkflowStepRef, step: StepDefinition, scope: Scope) -> ChildPlan:
    """The children that a definition says. Raises as `items_of`."""
    each = step.for_each
    items: Sequence[Any] = [None] if each is None else items_of(step, scope)

    def arguments(index: int) -> dict[str, Any]:
        more = {} if each is None else {"item": items[index], "index": index}
        return resolved(step.options, scope.values(**more), step=step.name)

    def submission(index: int, id: str) -> Submission:
        if step.task is not None:
            return Submission(step.task, arguments(index), _options(step, id, is_own="queue" in step.model_fields_set))
        item = WorkflowItemRef(run_id=ref.run_id, step=ref.step, visit=ref.visit, index=index)
        return Submission(registry.by_role(ITEM_ROLE), item, _options(step, id, is_own=True))

    return ChildPlan(
        kind=WaitKind.TASK if step.workflow is None else WaitKind.WORKFLOW,
        count=len(items),
        submission=submission,
        run=lambda index: (step.workflow or "", arguments(index)),
        at_once=1 if each is None else each.at_once,
        failures=Failures.FAIL if each is None else each.failures,
        is_list=each is not None,
    )


def chosen(stored: Mapping[str, Any]) -> ChildPlan:
    """The children that a handler returned, as `as_json` stored them."""
    children: list[dict[str, Any]] = stored["children"]

    def submission(index: int, id: str) -> Submission:
        return Submission(children[index]["task"], children[index]["payload"], SubmitOptions(id=id))

    return ChildPlan(
        kind=WaitKind(stored["kind"]),
        count=len(children),
        submission=submission,
        run=lambda index: (children[index]["workflow"], children[index]["input"]),
        at_once=stored["at_once"],
        failures=Failures(stored["failures"]),
    )


def as_json(step: str, children: Children) -> dict[str, Any]:
    """What is stored of the children that a handler returned. Raises TooManyItems, PermanentError."""
    if len(children.children) > MOST_ITEMS:
        raise TooManyItems(step, len(children.children), MOST_ITEMS)
    are_tasks = [isinstance(child, ChildTask) for child in children.children]
    if len(set(are_tasks)) > 1:
        raise PermanentError(f"The children of the step {step!r} are tasks and workflows: they must be of one kind.")
    kind = WaitKind.TASK if all(are_tasks) else WaitKind.WORKFLOW
    return {
        "kind": kind.value,
        "at_once": max(1, children.at_once),
        "failures": children.failures.value,
        "children": [
            {"task": child.name, "payload": child.payload}
            if isinstance(child, ChildTask)
            else {"workflow": child.type, "input": child.input}
            for child in children.children
        ],
    }


def _options(step: StepDefinition, id: str, *, is_own: bool) -> SubmitOptions:
    """`is_own`: the child runs in the queue of the step."""
    return SubmitOptions(
        id=id, queue=step.queue if is_own else None, max_retries=step.max_retries, time_limit=step.timeout
    )
