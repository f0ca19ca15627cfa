"""Workflow definitions: each is checked completely before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from laneway.platform.queues import queues as declared_queues
from laneway.platform.workflows.child_checks import child_problems
from laneway.platform.workflows.errors import BrokenWorkflowType, InvalidDefinition, InvalidInput, UnknownWorkflowType
from laneway.platform.workflows.handlers import Handler
from laneway.platform.workflows.plan import Plan
from laneway.schemas.workflow import StepDefinition, WorkflowDefinition


@dataclass(frozen=True, slots=True)
class BrokenDefinition:
    """A file that is no valid definition, and what is wrong with it. `name`: of its workflow, as far as it can be told.

    `problems` begin with the line of the file where it is known.
    """

    name: str
    file: str
    problems: Sequence[str]

    def __str__(self) -> str:
        return f"{self.file} is not valid: {'; '.join(self.problems)}"


class Definitions:
    """The definitions that can be started, and those that are broken."""

    def __init__(
        self,
        plans: Mapping[str, Plan],
        inputs: Mapping[str, type[BaseModel]],
        broken: Mapping[str, BrokenDefinition] | None = None,
    ) -> None:
        self._plans, self._inputs, self._broken = dict(plans), inputs, dict(broken or {})

    @property
    def plans(self) -> list[Plan]:
        """All plans, sorted by name."""
        return [self._plans[name] for name in sorted(self._plans)]

    @property
    def broken(self) -> list[BrokenDefinition]:
        """The broken definitions, sorted by name."""
        return [self._broken[name] for name in sorted(self._broken)]

    def plan(self, name: str) -> Plan:
        """Return one plan. Raises BrokenWorkflowType, and UnknownWorkflowType."""
        if name in self._broken:
            broken = self._broken[name]
            raise BrokenWorkflowType(name, broken.file, list(broken.problems))
        if name not in self._plans:
            raise UnknownWorkflowType(name, sorted(self._plans))
        return self._plans[name]

    def input_type(self, plan: Plan) -> type[BaseModel] | None:
        """Return the type of the plan's input, if it has one."""
        return self._inputs[plan.definition.input] if plan.definition.input else None

    def validated_input(self, plan: Plan, input: dict[str, Any]) -> dict[str, Any]:
        """Return the input, validated by its type.

        Raises InvalidInput, which names each invalid field and its problem, never its value.
        """
        model = self.input_type(plan)
        if model is None:
            return input
        try:
            return model.model_validate(input).model_dump(mode="json")
        except ValidationError as error:
            raise InvalidInput(plan.definition.name, _problems(error)) from None


def checked_plan(
    definition: WorkflowDefinition,
    *,
    handlers: Mapping[str, Handler],
    inputs: Mapping[str, type[BaseModel]],
) -> Plan:
    """Return the plan of a definition after checking its handlers, arguments, queues and input.

    Raises InvalidDefinition.
    """
    plan = Plan(definition)
    problems = [*_unknown_references(definition, handlers, inputs), *child_problems(plan)]
    if problems:
        raise InvalidDefinition(definition.name, problems)
    return plan


def parsed_definition(name: str, data: object) -> WorkflowDefinition:
    """Return the definition that plain data (the content of a file) describes. Raises InvalidDefinition."""
    if not isinstance(data, dict):
        raise InvalidDefinition(name, ["it must be a mapping with name, version and steps"])
    try:
        return WorkflowDefinition.model_validate(data)
    except ValidationError as error:
        raise InvalidDefinition(name, _problems(error)) from None


def _unknown_references(
    definition: WorkflowDefinition, handlers: Mapping[str, Handler], inputs: Mapping[str, type[BaseModel]]
) -> Iterator[str]:
    """Yield input types, queues and handlers that do not exist, and invalid arguments of handlers."""
    if definition.input is not None and definition.input not in inputs:
        yield f"input: there is no type {definition.input!r}; there are {', '.join(sorted(inputs))}"
    for step in definition.steps:
        yield from step_problems(step, handlers)


def step_problems(step: StepDefinition, handlers: Mapping[str, Handler]) -> Iterator[str]:
    """Yield why a step cannot run: there is no such queue or handler, or the handler does not take its options."""
    if step.queue not in declared_queues:
        yield f"step {step.name!r}: there is no queue {step.queue!r}; there are {', '.join(declared_queues)}"
    if step.handler is not None:
        yield from _handler_problems(step, step.handler, handlers)


def _handler_problems(step: StepDefinition, name: str, handlers: Mapping[str, Handler]) -> Iterator[str]:
    handler = handlers.get(name)
    if handler is None:
        yield f"step {step.name!r}: there is no handler {name!r}; there are {', '.join(sorted(handlers))}"
        return
    try:
        handler.options.model_validate(step.options)
    except ValidationError as error:
        yield from (f"step {step.name!r}: with.{problem}" for problem in _problems(error))


def _problems(error: ValidationError) -> list[str]:
    """Return field and message of each problem, without the values."""
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return [
        f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg'].removeprefix('Value error, ')}" for item in details
    ]
