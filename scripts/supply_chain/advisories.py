"""Known vulnerabilities, from files in the OSV format (https://ossf.github.io/osv-schema/). No network is used.

The OSV project publishes all advisories about Python packages as one zip file; whoever has a network downloads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Vulnerability:
    """An advisory that applies to an installed package."""

    package: str
    version: str
    id: str
    summary: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"; fixed in {', '.join(self.fixed)}" if self.fixed else "; no version fixes it"
        return f"{self.package} {self.version} is vulnerable: {self.id} {self.summary}{fixed}"


def read(path: Path) -> list[dict[str, Any]]:
    """The advisories of a zip file, or of the JSON files in a folder, that were not withdrawn. Raises ValueError."""
    found = [advisory for advisory in _all(path) if not advisory.get("withdrawn")]
    if not found:
        raise ValueError(f"{path} holds no advisory in the OSV format: give a folder of JSON files, or OSV's all.zip")
    return found


def applying(advisories: list[dict[str, Any]], installed: Mapping[str, str]) -> Iterator[Vulnerability]:
    """The advisories that apply to installed packages (name → version)."""
    for advisory in advisories:
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") != "PyPI" or name not in installed or not _affects(affected, installed[name]):
                continue
            fixed = tuple(event["fixed"] for event in _events(affected) if "fixed" in event)
            summary = str(advisory.get("summary") or advisory.get("details", ""))[:120].strip()
            yield Vulnerability(name, installed[name], str(advisory["id"]), summary, fixed)


def _all(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        for file in sorted(path.glob("**/*.json")):
            yield json.loads(file.read_bytes())
        return
    with ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def _events(affected: dict[str, Any]) -> Iterator[dict[str, str]]:
    for each in affected.get("ranges", ()):
        if each.get("type") == "ECOSYSTEM":
            yield from each.get("events", ())


def _affects(affected: dict[str, Any], version: str) -> bool:
    """Whether a version is listed, or lies in a range: the last event at or below it decides."""
    if version in affected.get("versions", ()):
        return True
    for each in affected.get("ranges", ()):
        if each.get("type") == "ECOSYSTEM" and _in_range(each.get("events", ()), Version(version)):
            return True
    return False


def _in_range(events: list[dict[str, str]], version: Version) -> bool:
    inside = False
    pairs = [pair for event in events for pair in event.items()]
    for kind, number in sorted(pairs, key=lambda pair: _version(pair[1])):
        bound = _version(number)
        if kind == "introduced" and version >= bound:
            inside = True
        if (kind == "fixed" and version >= bound) or (kind == "last_affected" and version > bound):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
