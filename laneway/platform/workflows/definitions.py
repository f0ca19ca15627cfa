"""The definitions of workflows: read from YAML files, checked as a whole before any of them is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from laneway.platform.queues import queues as declared
from laneway.platform.schemas.workflow import WorkflowDefinition
from laneway.platform.workflows.errors import InvalidDefinition, InvalidInput, UnknownWorkflowType
from laneway.platform.workflows.handlers import Handler
from laneway.platform.workflows.plan import Plan


class Definitions:
    """What can be started."""

    def __init__(self, plans: Mapping[str, Plan], inputs: Mapping[str, type[BaseModel]]) -> None:
        self._plans, self._inputs = dict(plans), inputs

    @property
    def plans(self) -> list[Plan]:
        """All of them, by name."""
        return [self._plans[name] for name in sorted(self._plans)]

    def plan(self, name: str) -> Plan:
        """One of them. Raises UnknownWorkflowType."""
        if name not in self._plans:
            raise UnknownWorkflowType(name, sorted(self._plans))
        return self._plans[name]

    def input_of(self, plan: Plan) -> type[BaseModel] | None:
        """The type of its input, if it has one."""
        return self._inputs[plan.definition.input] if plan.definition.input else None

    def checked_input(self, plan: Plan, given: dict[str, Any]) -> dict[str, Any]:
        """The input as its type has it. Raises InvalidInput, naming each field and problem, never the values."""
        kind = self.input_of(plan)
        if kind is None:
            return given
        try:
            return kind.model_validate(given).model_dump(mode="json")
        except ValidationError as error:
            raise InvalidInput(plan.definition.name, _told(error)) from None


def load(
    folder: Path | None,
    *,
    handlers: Mapping[str, Handler],
    inputs: Mapping[str, type[BaseModel]],
) -> Definitions:
    """Every definition in a folder; without a folder, none.

    Raises InvalidDefinition for the first one that is wrong, with all its problems.
    """
    plans: dict[str, Plan] = {}
    for path in sorted(folder.glob("*.yaml")) if folder else ():
        plan = checked(_read(path), handlers=handlers, inputs=inputs)
        if plan.definition.name in plans:
            raise InvalidDefinition(path.name, [f"there are two definitions named {plan.definition.name!r}"])
        plans[plan.definition.name] = plan
    return Definitions(plans, inputs)


def checked(
    definition: WorkflowDefinition,
    *,
    handlers: Mapping[str, Handler],
    inputs: Mapping[str, type[BaseModel]],
) -> Plan:
    """The plan of a definition whose handlers, arguments, queues and input are known. Raises InvalidDefinition."""
    plan = Plan(definition)
    problems = list(_strangers(definition, handlers, inputs))
    if problems:
        raise InvalidDefinition(definition.name, problems)
    return plan


def parsed(name: str, data: object) -> WorkflowDefinition:
    """A definition as plain data (what a file says) as its type. Raises InvalidDefinition."""
    if not isinstance(data, dict):
        raise InvalidDefinition(name, ["it must be a mapping with name, version and steps"])
    try:
        return WorkflowDefinition.model_validate(data)
    except ValidationError as error:
        raise InvalidDefinition(name, _told(error)) from None


def _read(path: Path) -> WorkflowDefinition:
    try:
        data: object = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDefinition(path.name, [f"it is not YAML: {error}"]) from None
    return parsed(path.name, data)


def _strangers(
    definition: WorkflowDefinition, handlers: Mapping[str, Handler], inputs: Mapping[str, type[BaseModel]]
) -> Iterator[str]:
    if definition.input is not None and definition.input not in inputs:
        yield f"input: there is no type {definition.input!r}; there are {', '.join(sorted(inputs))}"
    for step in definition.steps:
        if step.queue not in declared:
            yield f"step {step.name!r}: there is no queue {step.queue!r}; there are {', '.join(declared)}"
        if step.handler is None:
            continue
        handler = handlers.get(step.handler)
        if handler is None:
            yield f"step {step.name!r}: there is no handler {step.handler!r}; there are {', '.join(sorted(handlers))}"
            continue
        try:
            handler.options.model_validate(step.options)
        except ValidationError as error:
            yield from (f"step {step.name!r}: with.{problem}" for problem in _told(error))


def _told(error: ValidationError) -> list[str]:
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return [
        f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg'].removeprefix('Value error, ')}" for item in details
    ]
