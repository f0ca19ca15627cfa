"""Checks what a definition says of the children of its steps: tasks, payloads, references, lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError

from laneway._suggestion import suggest
from laneway.platform.registry import registry
from laneway.platform.workflows.plan import Plan
from laneway.platform.workflows.references import problem_of, references_in
from laneway.schemas.workflow import StepDefinition


def child_problems(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with the children of the steps of a definition, one text a fault."""
    for step in plan.steps.values():
        for text in (*_reference_problems(plan, step), *_list_problems(step), *_task_problems(step)):
            yield f"step {step.name!r}: {text}"


def unknown_workflows(plan: Plan, known: Mapping[str, object]) -> Iterator[str]:
    """Yield the steps of a definition whose workflow there is not."""
    for step in plan.steps.values():
        if step.workflow is not None and step.workflow not in known:
            yield f"step {step.name!r}: there is no workflow {suggest(step.workflow, known)}; there are {_names(known)}"


def _reference_problems(plan: Plan, step: StepDefinition) -> Iterator[str]:
    visible = plan.visible_to(step.name)
    if step.task is not None or step.workflow is not None:  # the arguments of a handler stay as they are
        has_item = step.for_each is not None
        for reference in references_in(step.options):
            if problem := problem_of(reference, visible=visible, has_item=has_item):
                yield f"with: {problem}"
    if step.for_each is not None and isinstance(step.for_each.items, str):
        found = [*references_in(step.for_each.items)]
        if not found:
            yield f"for_each.items: {step.for_each.items!r} is neither a list nor a reference such as $input.files"
        for reference in found:
            if problem := problem_of(reference, visible=visible, has_item=False):
                yield f"for_each.items: {problem}"


def _list_problems(step: StepDefinition) -> Iterator[str]:
    each = step.for_each
    if each is not None and not isinstance(each.items, str) and len(each.items) > each.at_most:
        yield f"for_each.items: the list has {len(each.items):,} items, more than at_most ({each.at_most:,})"


def _task_problems(step: StepDefinition) -> Iterator[str]:
    if step.task is None:
        return
    spec = registry.get(step.task)
    if spec is None:
        names = sorted(name for name in registry if not registry.is_internal(name))
        yield f"there is no task {suggest(step.task, names)}; there are {', '.join(names) or 'none'}"
    elif registry.is_internal(step.task):
        yield f"the task {step.task!r} is internal: only the platform submits it"
    else:
        yield from _payload_problems(step, spec.payload)


def _payload_problems(step: StepDefinition, model: type[BaseModel]) -> Iterator[str]:
    """Yield wrong and missing fields. What a reference stands for is checked when the task is submitted."""
    try:
        model.model_validate(step.options)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            field = str(item["loc"][0]) if item["loc"] else ""
            if not field or not any(references_in(step.options.get(field))):
                yield f"with.{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"


def _names(known: Mapping[str, object]) -> str:
    return ", ".join(sorted(known)) or "none"
