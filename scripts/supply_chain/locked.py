"""The locked packages of `requirements/`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Locked:
    """A package of a lock file: its version, the SHA-256 of its files, and whether this machine needs it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    needed: bool


def read(path: Path) -> dict[str, Locked]:
    """The packages of a lock file, by name. Raises ValueError for a line that pins no version."""
    found: dict[str, Locked] = {}
    for line in path.read_text("utf-8").replace("\\\n", " ").splitlines():
        text = line.partition(" #")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        words, *hashes = re.split(r"\s+--hash=sha256:", text)
        requirement = Requirement(words)
        pins = [pin.version for pin in requirement.specifier if pin.operator == "=="]
        if len(pins) != 1:
            raise ValueError(f"{path.name} pins no version: {words}")
        name = canonicalize_name(requirement.name)
        needed = requirement.marker is None or requirement.marker.evaluate()
        if needed or name not in found:
            found[name] = Locked(name, pins[0], tuple(hash.strip() for hash in hashes), needed)
    return found
