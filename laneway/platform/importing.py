"""Imports modules of an application. What fails in them is one sentence with the file and the line of the mistake."""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from laneway.platform.errors import ConfigError
from laneway.platform.settings.base import project

LIBRARY: Final = Path(__file__).parents[1]
INSTALLED: Final = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}


def import_module(name: str, *, named_by: str) -> ModuleType:
    """Import a module. `named_by` says what names it, such as a key of the project's file.

    Raises ConfigError when the module does not exist, or when its code fails.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"{named_by} names {name!r}, but there is no module {error.name!r}.") from error
        raise ConfigError(_failure(name, named_by, error)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_failure(name, named_by, error)) from error


def import_object(reference: str, *, named_by: str) -> Any:
    """Import what `module:name` names. Raises ConfigError as `import_module`, and when the module has no such name."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module, named_by=named_by), attribute)
    except AttributeError as error:
        raise ConfigError(f"{named_by} names {reference!r}, but {module} has no {attribute!r}.") from error


def _failure(name: str, named_by: str, error: BaseException) -> str:
    """Why the import failed: where the mistake is, the line itself, and what Python says about it."""
    place, line = _place(error)
    said = str(error) if isinstance(error, ConfigError | SystemExit) else _said(error)
    at = f" at {place}" if place else ""
    return f"{named_by} names {name!r}, whose import failed{at}: {said}" + (f"\n    {line}" if line else "")


def _said(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return f"{type(error).__name__}: {error}"


def _place(error: BaseException) -> tuple[str, str]:
    """The file and line of the application where the error arose, and the text of that line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}, line {error.lineno}", (error.text or "").strip()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_foreign(frame.filename)]
    if not own:
        return "", ""
    return f"{_shown(own[-1].filename)}, line {own[-1].lineno}", (own[-1].line or "").strip()


def _is_foreign(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to this library."""
    path = Path(file)
    return file.startswith("<") or any(path.is_relative_to(folder) for folder in (LIBRARY, *INSTALLED))


def _shown(file: str) -> str:
    """A file as a person of the project writes it."""
    path = Path(file)
    return str(path.relative_to(project.path)) if path.is_relative_to(project.path) else file
