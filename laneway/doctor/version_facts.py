"""The versions of Python and of the packages in this environment."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Final
from zoneinfo import ZoneInfo

PACKAGES: Final = ("laneway", "celery", "kombu", "billiard", "redis", "hiredis", "celery-redbeat", "gevent", "eventlet")
_SPEC: Final = re.compile(r"(>=|<=|==|!=|<|>|~=)\s*([0-9][0-9a-z.]*)")
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;(.*))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """What is installed. `required`: what the installed Laneway asks for, such as `>=5.7,<5.8`."""

    python: tuple[int, int] = (3, 11)
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    required: Mapping[str, str] = field(default_factory=dict[str, str])
    has_zones: bool = True


def collect_versions() -> VersionFacts:
    """Look at this environment."""
    return VersionFacts(
        python=sys.version_info[:2],
        packages={name: version for name in PACKAGES if (version := _version(name))},
        required=_required(),
        has_zones=_has_zones(),
    )


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare; an rc or a post release counts as its release."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def fulfils(version: str, specification: str) -> bool:
    """Whether a version fulfils a specification such as `>=5.7,<5.8`."""
    return all(_holds(numbers(version), sign, numbers(bound)) for sign, bound in _SPEC.findall(specification))


def _holds(version: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    size = max(len(version), len(bound))
    left, right = (each + (0,) * (size - len(each)) for each in (version, bound))
    match sign:
        case ">=":
            return left >= right
        case "<=":
            return left <= right
        case "<":
            return left < right
        case ">":
            return left > right
        case "!=":
            return left != right
        case "~=":
            return left >= right and left[: len(bound) - 1] == right[: len(bound) - 1]
        case _:
            return left == right


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _required() -> dict[str, str]:
    try:
        lines = metadata.requires("laneway") or []
    except metadata.PackageNotFoundError:
        return {}
    found = [_REQUIREMENT.match(line) for line in lines]
    return {
        each[1].lower(): each[2].strip(" ()") for each in found if each and each[2] and "extra" not in (each[3] or "")
    }


def _has_zones() -> bool:
    """Whether the data of time zones is there: slim images have none, and tzdata has it as a package."""
    try:
        ZoneInfo("Europe/Berlin")
    except (LookupError, OSError):
        return False
    return True
