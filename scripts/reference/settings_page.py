"""The page of settings: every field of every group, with the text that is written under its declaration."""

from __future__ import annotations

import ast
import inspect
import typing
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import NoneType, UnionType
from typing import Any, Final, cast

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.core.settings import Settings
from laneway.platform.settings import Group
from laneway.platform.settings import Settings as LibrarySettings
from scripts.reference.markdown import code, table

INTRODUCTION: Final = """# Settings

A setting is an environment variable, or a line in the file `.env` of the project's folder. The environment wins. A
process checks its settings when it starts; the error names every one that is not valid.
"""
NAMES: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, kept secret",
}


def settings_page() -> str:
    """The Markdown of the page. Raises LookupError for a field without a text."""
    groups = {name: field.annotation for name, field in Settings.model_fields.items()}
    library = LibrarySettings.model_fields
    parts = [INTRODUCTION, "## The platform\n", *(_group(groups[name]) for name in library)]
    parts += ["## The application\n", *(_group(groups[name]) for name in groups if name not in library)]
    return "\n".join(parts)


def _group(group: Any) -> str:
    texts = descriptions(group)
    rows = [
        (code(field.alias), texts[name], value_type(field), code(default(field)))
        for name, field in group.model_fields.items()
    ]
    summary = (group.__doc__ or "").strip().partition("\n")[0]
    title = group.__name__.removesuffix("Settings")
    return f"### {title}\n\n{summary}\n\n{table(('setting', 'meaning', 'value', 'default'), rows)}"


def descriptions(group: type[Group]) -> dict[str, str]:
    """Field → the text under its declaration. Raises LookupError, which names the fields without one."""
    body = cast("ast.ClassDef", ast.parse(dedent(inspect.getsource(group))).body[0]).body
    texts = {
        declared.target.id: inspect.cleandoc(text.value.value)
        for declared, text in pairwise(body)
        if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
    if missing := [f"{group.__name__}.{name}" for name in group.model_fields if name not in texts]:
        raise LookupError(f"no text says what these settings mean: {', '.join(missing)}")
    return {name: " ".join(text.split()) for name, text in texts.items()}


def value_type(field: FieldInfo) -> str:
    """What a value is, and its limits."""
    limits = [_limit(item) for item in field.metadata]
    return ", ".join(filter(None, [_name(field.annotation), *limits]))


def default(field: FieldInfo) -> str:
    """The default as it is written in `.env`; empty if there is none."""
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _name(kind: Any) -> str:
    if typing.get_origin(kind) in (typing.Union, UnionType):
        return " or ".join(_name(part) for part in typing.get_args(kind) if part is not NoneType)
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(code(value) for value in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Annotated:
        return _name(typing.get_args(kind)[0])
    return NAMES.get(kind, "JSON" if typing.get_origin(kind) is dict else getattr(kind, "__name__", str(kind)))


def _limit(item: Any) -> str:
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if hasattr(item, name):
            return f"{sign} {getattr(item, name):,}"
    return ""
