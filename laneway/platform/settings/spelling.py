"""Names settings that are misspelt: in the environment what resembles a setting, in `.env` every unknown line."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, cast

from dotenv.parser import parse_stream
from pydantic import BaseModel

from laneway.platform.errors import ConfigError
from laneway.platform.settings.base import project

CLOSE: Final = 0.86
"""How close a variable of the environment must be to a setting (difflib's ratio): one wrong letter or two."""
CLOSE_IN_FILE: Final = 0.7
"""In `.env` every name is meant to be a setting, so a hint may be less certain."""
SERVICE_LINK: Final = re.compile(r".*_(SERVICE_(HOST|PORT).*|PORT_\d+_(TCP|UDP).*)")
"""Variables that Docker and Kubernetes set for each service."""

logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # it logs each line that is no NAME=value once per group


@dataclass(frozen=True, slots=True)
class EnvLine:
    """One line of `.env`. `name` is None if the line is no NAME=value."""

    number: int
    name: str | None
    is_set: bool


def env_lines(file: Path | None) -> list[EnvLine]:
    """The lines of `.env` that set something, or try to. Raises ConfigError if the file cannot be read."""
    if file is None:
        return []
    try:
        with file.open(encoding="utf-8") as stream:
            found = list(parse_stream(stream))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{file} cannot be read: {reason}.") from error
    lines: list[EnvLine] = []
    for each in found:
        blank = len(each.original.string) - len(each.original.string.lstrip("\n"))
        number = each.original.line + blank
        if each.error:
            lines.append(EnvLine(number, None, is_set=False))
        elif each.key is not None:
            lines.append(EnvLine(number, each.key.upper(), is_set=bool(each.value)))
    return lines


def settings_warnings(settings: BaseModel, environment: Mapping[str, str] = os.environ) -> list[str]:
    """One sentence for each variable and each line of `.env` that looks like a setting, or should be one, but is none.

    `settings`: of the application, whose groups name the variables. Raises ConfigError if `.env` cannot be read.
    """
    known = known_names(type(settings))
    return [*_in_environment(environment, known), *_in_file(project.env_file, known)]


def known_names(kind: type[BaseModel]) -> set[str]:
    """The environment variables of all groups of settings."""
    groups = [cast("object", field.annotation) for field in kind.model_fields.values()]
    return {
        name
        for group in groups
        if isinstance(group, type) and issubclass(group, BaseModel)
        for name in names_of_group(group)
    }


def names_of_group(group: type[BaseModel]) -> set[str]:
    """The environment variables of one group of settings."""
    return {(field.alias or name).upper() for name, field in group.model_fields.items()}


def origin(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """Where a setting has its value from, for an error: `.env` and the line; empty for the environment."""
    if any(key.upper() == name.upper() and value for key, value in environment.items()):
        return ""
    numbers = [line.number for line in env_lines(project.env_file) if line.name == name.upper()]
    return f" ({project.env_file}, line {numbers[-1]})" if numbers else ""


def _in_environment(environment: Mapping[str, str], known: set[str]) -> Iterator[str]:
    given = {name.upper() for name, value in environment.items() if value}
    for name in sorted(given - known):
        close = get_close_matches(name, known, n=1, cutoff=CLOSE)
        # Who has set the right one, too, means another program's variable.
        if close and close[0] not in given and not SERVICE_LINK.fullmatch(name):
            yield f"The environment variable {name} is no setting; did you mean {close[0]}?"


def _in_file(file: Path | None, known: set[str]) -> Iterator[str]:
    for line in env_lines(file):
        if line.name is None:
            yield f"{file}, line {line.number}: this is no NAME=value."
        elif line.name not in known:
            close = get_close_matches(line.name, known, n=1, cutoff=CLOSE_IN_FILE)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"{file}, line {line.number}: {line.name} is no setting{hint or '.'}"
