"""The page of the HTTP API: every operation and every schema of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from app.main import app
from scripts.reference.markdown import code, table

INTRODUCTION: Final = """# HTTP API

A running platform has the same as an OpenAPI document at `/openapi.json`, and as a page at `/docs`. Every error is a
[problem](errors.md). Any operation may answer 413, 422, 500 and 503; the tables name what else one may answer.
"""
ALWAYS: Final = {"413", "422", "500", "503"}
"""Statuses that every operation may answer; the introduction names them."""
LIMITS: Final = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "maxLength": "characters ≤",
    "maxItems": "items ≤",
}
Document = dict[str, Any]


def http_page() -> str:
    """The Markdown of the page."""
    document: Document = app.openapi()
    parts = [INTRODUCTION]
    for tag, operations in groupby(_operations(document), key=lambda operation: operation[2]["tags"][0]):
        parts += [f"## {tag.capitalize()}\n", *(_operation(*operation) for operation in operations)]
    parts.append("## Schemas\n")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n".join(parts)


def _operations(document: Document) -> list[tuple[str, str, Document]]:
    """(method, path, operation), those of one tag together, in the order of the document."""
    found = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    tags = list(dict.fromkeys(operation["tags"][0] for _, _, operation in found))
    return sorted(found, key=lambda operation: tags.index(operation[2]["tags"][0]))


def _operation(method: str, path: str, operation: Document) -> str:
    parts = [f"### `{method} {path}`\n", operation.get("description") or operation["summary"], ""]
    if parameters := operation.get("parameters"):
        rows = [
            (code(item["name"]), item["in"], _type(item["schema"]), item.get("description", ""), _default(item))
            for item in parameters
        ]
        parts.append(table(("parameter", "in", "value", "meaning", "default"), rows))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {_contents(body)}\n")
    rows = [
        (status, _contents(answer), answer["description"])
        for status, answer in sorted(operation["responses"].items())
        if status not in ALWAYS
    ]
    parts.append(table(("status", "body", "meaning"), rows))
    return "\n".join(parts)


def _contents(answer: Document) -> str:
    """The schemas of a body."""
    return " or ".join(
        _type(content["schema"]) if content.get("schema") else code(media)
        for media, content in answer.get("content", {}).items()
    )


def _schema(name: str, schema: Document) -> str:
    shown = [f"### {name}\n", schema.get("description", ""), ""]
    if properties := schema.get("properties"):
        required = schema.get("required", [])
        rows = [
            (
                code(field),
                _type(value),
                value.get("description", ""),
                _default_of(value, required=field in required),
            )
            for field, value in properties.items()
        ]
        shown.append(table(("field", "value", "meaning", "default"), rows))
    else:
        shown.append(_type(schema) + "\n")
    return "\n".join(shown)


def _default(parameter: Document) -> str:
    return _default_of(parameter["schema"], required=parameter.get("required", False))


def _default_of(schema: Document, *, required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return "" if value is None else code(str(value).lower() if isinstance(value, bool) else value)


def _type(schema: Document) -> str:
    """What a value may be, with links to the schemas."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return " or ".join(code(value) for value in schema.get("enum", [schema.get("const")]))
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(_unique(_type(choice) for choice in choices))
    limits = [f"{sign} {schema[name]:,}" for name, sign in LIMITS.items() if name in schema]
    return ", ".join([_kind(schema), *limits])


def _kind(schema: Document) -> str:
    kind = schema.get("type", "any JSON")
    if isinstance(kind, list):
        return " or ".join(_kind({**schema, "type": one}) for one in kind)
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return {"integer": "whole number", "string": schema.get("format", "text")}.get(kind, kind)


def _unique(names: Iterable[str]) -> Iterator[str]:
    return iter(dict.fromkeys(names))
