"""Reads a folder of workflow definitions. A file that is not valid is set aside with its problems; the others are used.

Each problem names the line of the file, so that it is found without counting steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import yaml
from pydantic import BaseModel

from laneway.platform.logging import logger
from laneway.platform.workflows.child_checks import unknown_workflows
from laneway.platform.workflows.definitions import BrokenDefinition, Definitions, checked_plan, parsed_definition
from laneway.platform.workflows.errors import InvalidDefinition
from laneway.platform.workflows.handlers import Handler
from laneway.platform.workflows.plan import Plan

log = logger(__name__)

_NAME: Final = re.compile(r"^name:\s*['\"]?([\w.-]+)", re.MULTILINE)
_STEP: Final = re.compile(r"steps?(?: of)? '([^']+)'")
_FIELD: Final = re.compile(r"([\w.-]+): ")


@dataclass(frozen=True, slots=True)
class _File:
    """The text of a definition's file."""

    path: Path
    text: str

    @property
    def workflow(self) -> str:
        """The name of the workflow, also if the text is no YAML; without one, the name of the file."""
        found = _NAME.search(self.text)
        return found[1] if found else self.path.stem

    def with_lines(self, problems: Sequence[str]) -> list[str]:
        """The problems, each with the number of its line where that can be told."""
        root = _compose(self.text)
        lines = [_line_of(problem, root) if root else None for problem in problems]
        return [f"line {line}: {problem}" if line else problem for line, problem in zip(lines, problems, strict=True)]


def load_definitions(
    folder: Path | None,
    *,
    handlers: Mapping[str, Handler],
    inputs: Mapping[str, type[BaseModel]],
) -> Definitions:
    """Load every definition of a folder; without a folder there are none.

    Definitions that are not valid are in `Definitions.broken`, and in the log. Of two files with the same name of a
    workflow, neither is used.
    """
    plans: dict[str, Plan] = {}
    broken: dict[str, BrokenDefinition] = {}
    files: dict[str, str] = {}
    paths = {path.name: path for path in sorted(folder.glob("*.yaml"))} if folder else {}
    for path in paths.values():
        found = _load(path, handlers=handlers, inputs=inputs)
        first = files.setdefault(found.definition.name if isinstance(found, Plan) else found.name, path.name)
        if isinstance(found, Plan) and first != path.name:
            name = found.definition.name
            plans.pop(name, None)
            found = BrokenDefinition(name, path.name, [f"the file {first} defines a workflow of the same name"])
        if isinstance(found, Plan):
            plans[found.definition.name] = found
        else:
            plans.pop(found.name, None)
            broken[found.name] = found
            log.warning("workflow definition not used", file=str(path), workflow=found.name, problems=found.problems)
    used = {name: _File(paths[files[name]], paths[files[name]].read_text("utf-8")) for name in plans}
    _set_aside_with_unknown_workflows(plans, broken, used)
    return Definitions(plans, inputs, broken)


def _set_aside_with_unknown_workflows(
    plans: dict[str, Plan], broken: dict[str, BrokenDefinition], files: Mapping[str, _File]
) -> None:
    """A step may be a workflow of any file. One that is broken is there: its run says what is wrong with it."""
    known = {**plans, **broken}
    for name, plan in list(plans.items()):
        if problems := list(unknown_workflows(plan, known)):
            broken[name] = BrokenDefinition(name, files[name].path.name, files[name].with_lines(problems))
            del plans[name]
            log.warning("workflow definition not used", file=str(files[name].path), workflow=name, problems=problems)


def _load(
    path: Path, *, handlers: Mapping[str, Handler], inputs: Mapping[str, type[BaseModel]]
) -> Plan | BrokenDefinition:
    try:
        file = _File(path, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 text: {error}"
        return BrokenDefinition(path.stem, path.name, [reason or type(error).__name__])
    try:
        definition = parsed_definition(path.name, yaml.safe_load(file.text))
        return checked_plan(definition, handlers=handlers, inputs=inputs)
    except yaml.YAMLError as error:
        return BrokenDefinition(file.workflow, path.name, [_yaml_problem(error)])
    except InvalidDefinition as error:
        return BrokenDefinition(file.workflow, path.name, file.with_lines(error.problems))
    except RecursionError:
        return BrokenDefinition(file.workflow, path.name, ["it is nested too deeply"])


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: it is not YAML: {error.problem or error.context}"
    return f"it is not YAML: {error}"


def _compose(text: str) -> yaml.Node | None:
    try:
        return cast("yaml.Node | None", yaml.compose(text, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    except (yaml.YAMLError, RecursionError):
        return None


def _line_of(problem: str, root: yaml.Node) -> int | None:
    """The line that a problem is about: that of the step or of the field that it names."""
    step = _STEP.search(problem)
    if step is not None:
        return next((node.start_mark.line + 1 for node in _steps(root) if _text(_child(node, "name")) == step[1]), None)
    field = _FIELD.match(problem)
    if field is None:
        return None
    node, reached = root, False
    for part in field[1].split("."):
        child = _child(node, part)
        if child is None:
            break
        node, reached = child, True
    return node.start_mark.line + 1 if reached else None


def _steps(root: yaml.Node) -> Iterator[yaml.Node]:
    steps = _child(root, "steps")
    if isinstance(steps, yaml.SequenceNode):
        yield from cast("list[yaml.Node]", steps.value)


def _child(node: yaml.Node, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode):
        items = cast("list[yaml.Node]", node.value)
        return items[int(key)] if key.isdecimal() and int(key) < len(items) else None
    if isinstance(node, yaml.MappingNode):
        pairs = cast("list[tuple[Any, yaml.Node]]", node.value)
        return next((value for name, value in pairs if _text(name) == key), None)
    return None


def _text(node: yaml.Node | None) -> str | None:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None
