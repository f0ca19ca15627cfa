"""No parameter of a request is of any length, and none holds the API for long, whatever it contains."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI

from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE

LONG = 20_000
"""Characters: percent-encoded, as many as the head of a request can have."""
SECONDS = 1.0
HOSTILE = (
    "1" * LONG,
    "1" * LONG + "x",
    " " * LONG + "x",
    "+-" * (LONG // 2) + "e",
    "a." * (LONG // 2) + "\n",
    "é" * 9000,
)
BOUNDS = ("maxLength", "enum", "const", "format")
"""What bounds a text. The formats are those of times, whose length is checked before they are read."""


def parameters(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, parameter) of every parameter of every route."""
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            for parameter in operation.get("parameters", ()):
                yield method, path, parameter


def is_bounded(schema: dict[str, Any], components: dict[str, Any]) -> bool:
    """Whether no value of this schema is a text of any length."""
    if "$ref" in schema:
        return is_bounded(components[schema["$ref"].rpartition("/")[2]], components)
    if parts := schema.get("anyOf") or schema.get("allOf"):
        return all(is_bounded(part, components) for part in parts)
    if schema.get("type") == "array":
        return is_bounded(schema["items"], components)
    return schema.get("type") != "string" or any(bound in schema for bound in BOUNDS) or is_finite(schema)


def is_finite(schema: dict[str, Any]) -> bool:
    """Whether the pattern covers the whole text, and repeats nothing without end."""
    pattern = schema.get("pattern", "")
    without_classes = re.sub(r"\[[^\]]*\]", "", pattern)
    return bool(re.fullmatch(r"\^[^*+]*\$", without_classes)) and not re.search(r"\{\d*,\}", without_classes)


@ONE_DATABASE
def test_every_parameter_has_a_bound(api: Api) -> None:
    app: Any = api.http.app
    components = app.openapi()["components"]["schemas"]
    found = list(parameters(app))
    unbounded = {f"{path} {each['name']}" for _, path, each in found if not is_bounded(each["schema"], components)}

    assert unbounded == set()
    assert len(found) > 50


@ONE_DATABASE
def test_no_parameter_holds_the_api(api: Api) -> None:
    app: Any = api.http.app
    slow: list[tuple[str, str, float]] = []
    for method, path, parameter in parameters(app):
        if method != "get":
            continue
        for value in HOSTILE:
            began = time.monotonic()
            send(api, path, parameter, value)
            if (seconds := time.monotonic() - began) > SECONDS:
                slow.append((path, parameter["name"], seconds))

    assert slow == []


def send(api: Api, path: str, parameter: dict[str, Any], value: str) -> None:
    """Send a request with this value of one parameter; the others are short."""
    name, place = parameter["name"], parameter["in"]
    filled = path.replace(f"{{{name}}}", quote(value, safe="")) if place == "path" else path
    while "{" in filled:
        start, end = filled.index("{"), filled.index("}")
        filled = f"{filled[:start]}x{filled[end + 1 :]}"
    query = {name: value} if place == "query" else {}
    if path == "/events":
        query.setdefault("follow", "false")  # a feed that is followed has no end
    headers = {name: value.strip().encode("utf-8", "replace").replace(b"\n", b"")} if place == "header" else {}
    answer = api.http.get(filled, params=query, headers=headers)  # pyright: ignore[reportArgumentType]
    assert answer.status_code < 500, (filled[:100], answer.text[:200])
