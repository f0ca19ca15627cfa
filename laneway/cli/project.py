"""The project of the current folder, read without importing anything of it: for the help and for completion."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from laneway.cli.target import UsageError

FILES: Final = ("laneway.toml", "pyproject.toml")


def project_folder() -> Path:
    """The folder from which the settings are read: the nearest one with such a file, else the current one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if any((folder / name).exists() for name in FILES)), here)


def find_project() -> Path | None:
    """The nearest folder, from the current one upwards, whose files have settings of Laneway."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if section(folder) is not None), None)


def section(folder: Path) -> dict[str, Any] | None:
    """`laneway.toml`, or the section `[tool.laneway]` of pyproject.toml; None if there is neither, or not readable."""
    for name in FILES:
        try:
            data = tomllib.loads((folder / name).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        found = data if name == "laneway.toml" else data.get("tool", {}).get("laneway")
        if isinstance(found, dict):
            return cast("dict[str, Any]", found)
    return None


def project_name(folder: Path) -> str:
    """The name of a project: its own setting, that of its package, or that of its folder."""
    found = (section(folder) or {}).get("name")
    if not isinstance(found, str):
        try:
            found = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project", {}).get("name")
        except (OSError, ValueError):
            found = None
    return found if isinstance(found, str) else folder.name


def commands_of(folder: Path) -> Callable[[Any], None] | None:
    """The function of a project that adds its own commands; None if it has none. Raises UsageError."""
    name = (section(folder) or {}).get("commands")
    if not isinstance(name, str):
        return None
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"[tool.laneway] names the commands {name!r}, which cannot be imported: {error}.") from error
