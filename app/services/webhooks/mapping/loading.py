"""Loads a mapping from YAML and checks it completely. An error names the line and the key, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

import yaml
from pydantic import ValidationError

from app.services.webhooks.mapping.errors import InvalidMapping
from app.services.webhooks.mapping.paths import is_placeholder, path_problem, placeholders
from app.services.webhooks.mapping.rules import Mapping, Rule
from laneway.platform.registry import TaskSpec, registry

MAX_CHARACTERS: Final = 1_000_000
MAX_PROBLEMS: Final = 20
MAX_DEPTH: Final = 30

KeyPath = tuple[str | int, ...]
"""Keys and indexes that lead to a value of the file."""


def load_mapping(text: str, *, file: str) -> Mapping:
    """The mapping in the text of a file. Raises InvalidMapping with every problem that it finds."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidMapping(file, [f"it has more than {MAX_CHARACTERS} characters"])
    data, lines = _parsed(text, file)
    if not isinstance(data, dict):
        raise InvalidMapping(file, ["line 1: write a list of rules under the key 'rules'"])
    try:
        mapping = Mapping.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [(tuple(item["loc"]), item["msg"].removeprefix("Value error, ")) for item in details]
        raise InvalidMapping(file, _described(problems, lines)) from None
    problems = [*_repeated(mapping), *_rule_problems(mapping)]
    if problems:
        raise InvalidMapping(file, _described(problems, lines))
    return mapping


def _parsed(text: str, file: str) -> tuple[Any, dict[KeyPath, int]]:
    """The data, and the line of each value. Raises InvalidMapping."""
    lines: dict[KeyPath, int] = {}
    loader: Any = yaml.SafeLoader(text)  # its stubs are incomplete
    try:
        node = loader.get_single_node()
        if node is None:
            return None, lines
        problems = list(_walk(node, (), lines))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidMapping(file, [f"line {line}: it is not YAML: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidMapping(file, [f"line 1: it is not YAML: {error}"]) from None
    finally:
        loader.dispose()
    if problems:
        raise InvalidMapping(file, problems[:MAX_PROBLEMS])
    return data, lines


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Iterator[str]:
    """Note the line of each value; yield a problem for each key that is written twice."""
    lines[path] = node.start_mark.line + 1
    if len(path) > MAX_DEPTH:
        yield f"line {lines[path]}: it is nested deeper than {MAX_DEPTH} levels"
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), lines)
    elif isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield f"line {key.start_mark.line + 1}, {_dotted((*path, name))}: the key is written twice; keep one"
            seen.add(name)
            yield from _walk(value, (*path, name), lines)
            lines[(*path, name)] = key.start_mark.line + 1


def _described(problems: list[tuple[KeyPath, str]], lines: dict[KeyPath, int]) -> list[str]:
    described = [f"line {_line(path, lines)}, {_dotted(path)}: {problem}" for path, problem in problems]
    more = len(described) - MAX_PROBLEMS
    return [*described[:MAX_PROBLEMS], f"and {more} more problems"] if more > 0 else described


def _line(path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """The line of a value, or of the nearest value around it that the file has."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _repeated(mapping: Mapping) -> Iterator[tuple[KeyPath, str]]:
    names = [rule.name for rule in mapping.rules]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("rules", index, "name"), f"there are two rules named {name!r}; give each its own name"


def _rule_problems(mapping: Mapping) -> Iterator[tuple[KeyPath, str]]:
    for index, rule in enumerate(mapping.rules):
        at: KeyPath = ("rules", index)
        wrong_paths = list(_wrong_placeholders(rule))
        yield from (((*at, "payload"), problem) for problem in wrong_paths)
        if rule.task not in registry:
            yield (*at, "task"), _unknown_task(rule.task)
        elif not wrong_paths:
            yield from (((*at, "payload", *path), problem) for path, problem in _payload_problems(rule))


def _wrong_placeholders(rule: Rule) -> Iterator[str]:
    for placeholder in dict.fromkeys(placeholders(rule.payload)):
        if problem := path_problem(placeholder.removesuffix("?")):
            yield f"${{{placeholder}}}: {problem}"


def _unknown_task(name: str) -> str:
    near = get_close_matches(name, list(registry), n=3) or sorted(registry)
    return f"no task is registered as {name!r}; write for example {', '.join(near)}"


def _payload_problems(rule: Rule) -> Iterator[tuple[KeyPath, str]]:
    """Fields that the task's payload does not have, lacks, or refuses."""
    spec, template = registry[rule.task], rule.payload
    if isinstance(template, str):
        if not is_placeholder(template):
            yield (), "write the fields of the task's payload, or one placeholder such as ${interaction}"
        return
    fields = spec.payload.model_fields
    for name in template:
        if name not in fields:
            yield (name,), f"{spec.name} has no field {name!r}; it has {', '.join(fields) or 'none'}"
    for name, field in fields.items():
        if field.is_required() and name not in template:
            yield (), f"the field {name!r} is missing; {spec.name} requires it"
    yield from _refused_literals(spec, template)


def _refused_literals(spec: TaskSpec, template: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Fields without placeholders whose value the task refuses."""
    literals = {name: value for name, value in template.items() if not any(True for _ in placeholders(value))}
    try:
        spec.payload.model_validate(literals)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False, include_context=False):
            if detail["loc"] and detail["loc"][0] in literals and detail["type"] != "extra_forbidden":
                yield tuple(detail["loc"]), detail["msg"]
