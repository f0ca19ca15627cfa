"""The OpenAPI document: readable operation ids, the form of errors, and the payload of each task by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi import FastAPI
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from laneway.api.access import guarded_routes
from laneway.api.errors import problems
from laneway.platform.registry import TaskSpec, registry
from laneway.schemas.batch import BatchRequest, BatchTasks
from laneway.schemas.history import TaskBatch, TaskRequest
from laneway.schemas.problem import Problem

SCHEMAS: Final = "#/components/schemas/"
REQUEST: Final = TaskRequest.__name__
"""The schema that becomes a choice of one schema for each task."""

WITH_TASKS: Final = (TaskBatch.__name__, BatchRequest.__name__, BatchTasks.__name__)
"""Requests with many submissions."""


def install(app: FastAPI) -> None:
    """Complete the OpenAPI document of an application whose tasks are registered."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            _name_operations(document)
            _add_access(document, app)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            _add_problem(schemas)
            _add_payloads(schemas)
        return original()

    app.openapi = openapi


def _add_access(document: dict[str, Any], app: FastAPI) -> None:
    """Add to each operation the scope that it needs (`x-scope`), and the responses of refused requests."""
    refusals = problems(401, 403, 421)
    document.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for route in guarded_routes(app):
        for method in route.methods:
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is None:
                continue
            scope = route.requirement.scope
            statuses = (403, 421) if scope is None else (401, 403, 421)
            responses = operation["responses"] | {str(status): refusals[status] for status in statuses}
            operation["responses"] = dict(sorted(responses.items()))
            if scope is not None:
                operation["x-scope"] = str(scope)


def _name_operations(document: dict[str, Any]) -> None:
    """Name each operation after its function, such as `submit_task`, unless two functions have the same name."""
    operations = {
        _function(operation["operationId"], path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    if len(operations) == sum(len(methods) for methods in document["paths"].values()):
        for name, operation in operations.items():
            operation["operationId"] = name


def _function(operation_id: str, path: str, method: str) -> str:
    """The function's name in an id that FastAPI has made: name, path and method."""
    return operation_id.removesuffix(re.sub(r"\W", "_", path) + f"_{method}")


def _add_problem(schemas: dict[str, Any]) -> None:
    """Add the schema of problems, the form of every error."""
    schema = Problem.model_json_schema(ref_template=SCHEMAS + "{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas["Problem"] = schema


def _add_payloads(schemas: dict[str, Any]) -> None:
    """Make the schema of a submission a choice: for each task, its name and its payload."""
    general = schemas.get(REQUEST)
    specs = {name: spec for name, spec in registry.items() if not registry.is_internal(name)}
    if general is None or not specs:
        return
    payloads = _payload_schemas(schemas, specs)
    names = {name: _schema_name(name) for name in specs}
    for name, spec in specs.items():
        schemas[names[name]] = _submission(general, spec, payloads[name])
    example = _example(specs)
    references = {name: SCHEMAS + title for name, title in names.items()}
    schemas[REQUEST] = {
        "title": REQUEST,
        "description": "Submit a task: its name, its payload, and options. The name decides the form of the payload.",
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "name", "mapping": references},
        "examples": [example],
    }
    for name in WITH_TASKS:
        if name in schemas:
            schemas[name]["examples"] = [{**each, "tasks": [example]} for each in schemas[name]["examples"]]


def _schema_name(task: str) -> str:
    """`send_invoice` → `SubmitSendInvoice`. Names that become the same are told apart by their characters."""
    words = re.split(r"[^A-Za-z0-9]+", task)
    title = "Submit" + "".join(word[:1].upper() + word[1:] for word in words)
    same = [other for other in registry if other != task and _letters(other) == _letters(task)]
    return title if not same else f"{title}_{task.encode().hex()}"


def _letters(task: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", task.lower())


def _payload_schemas(schemas: dict[str, Any], specs: Mapping[str, TaskSpec]) -> Mapping[str, dict[str, Any]]:
    """Task → the schema of its payload; what these schemas refer to is added to `schemas`."""
    models = {spec.payload: None for spec in specs.values()}
    by_model, document = models_json_schema(
        [(model, "validation") for model in models], ref_template=SCHEMAS + "{model}"
    )
    definitions: dict[str, Any] = document.get("$defs", {})
    definitions = _renamed(definitions, {})
    renamed = {name: f"{name}OfTask" for name, schema in definitions.items() if schemas.get(name, schema) != schema}
    for name, schema in definitions.items():
        new = renamed.get(name, name)
        schemas[new] = {**_renamed(schema, renamed), "title": new}
    return {name: _renamed(by_model[spec.payload, "validation"], renamed) for name, spec in specs.items()}


def _renamed(schema: Any, renamed: Mapping[str, str]) -> Any:
    """The schema with references to the new names, and without nulls, which FastAPI leaves out, too."""
    if isinstance(schema, list):
        return [_renamed(value, renamed) for value in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast("dict[str, Any]", schema)
    changed = {key: _renamed(value, renamed) for key, value in known.items() if value is not None}
    if isinstance(reference := changed.get("$ref"), str):
        name = reference.removeprefix(SCHEMAS)
        changed["$ref"] = SCHEMAS + renamed.get(name, name)
    return changed


def _submission(general: dict[str, Any], spec: TaskSpec, payload: dict[str, Any]) -> dict[str, Any]:
    """The schema of a submission of one task."""
    options = {
        name: schema for name, schema in general["properties"].items() if name not in ("name", "type", "payload")
    }
    may_be_left_out = not any(field.is_required() for field in spec.payload.model_fields.values())
    return {
        "type": "object",
        "title": _schema_name(spec.name),
        "description": f"Submit the task `{spec.name}`. Its queue is `{spec.queue}`.",
        "properties": {"name": {"type": "string", "const": spec.name}, "payload": payload, **options},
        "required": ["name"] if may_be_left_out else ["name", "payload"],
        "additionalProperties": False,
    }


def _example(specs: Mapping[str, TaskSpec]) -> dict[str, Any]:
    """A submission that is valid: with an example of the payload's model, or without fields."""
    for name, spec in specs.items():
        extra = cast("object", spec.payload.model_config.get("json_schema_extra"))
        examples = cast("dict[str, list[Any]]", extra).get("examples", []) if isinstance(extra, dict) else []
        payloads: list[dict[str, Any]] = [*examples, {}]
        for payload in payloads:
            try:
                spec.payload.model_validate(payload)
            except ValidationError:
                continue
            return {"name": name, "payload": payload, "priority": "high", "tags": ["by-hand"]}
    return {"name": next(iter(specs)), "payload": {}}
