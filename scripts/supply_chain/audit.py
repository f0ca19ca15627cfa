"""Audits what is installed: `python -m scripts.supply_chain.audit [--advisories PATH]`. It reads files only.

1. Each installed package is locked, in its installed version, and each locked package has the hashes of its files.
2. The files of each package are those that were installed: their hashes are compared with the package's own record.
3. Licences are compatible with MIT.
4. Known vulnerabilities: only with `--advisories`, a file or folder in the OSV format. Without it the audit says so.
5. Images are pinned by digest, or the audit says which are not.

Problems of 1 to 4 make the exit code 1.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from scripts.supply_chain import advisories, locked

ROOT = Path(__file__).resolve().parents[2]
OURS = "laneway"
INSTALLERS = frozenset({"pip", "setuptools", "wheel"})
"""What a new virtual environment brings itself."""
REFUSED_LICENCES = re.compile(r"\b(A?GPL|GNU (Affero )?General Public|SSPL|BUSL|Commons Clause)", re.IGNORECASE)
ALLOWED_DESPITE = re.compile(r"\bLGPL|Lesser|\bOR\b|exception", re.IGNORECASE)
"""Texts of licences that name a refused one, and are compatible."""
NAME = re.compile(r"[A-Za-z0-9._-]+")
IMAGE = re.compile(r"[A-Z]+_IMAGE(?:=|:-)([^\s}]+)|^FROM\s+([^$\s]\S*)|^ +image: (\S+[:/]\S+)", re.MULTILINE)
TEMPLATE = "laneway/cli/project_template"
IMAGE_FILES = (
    *("Dockerfile", "docker-compose.yml"),
    *(f"{TEMPLATE}/Dockerfile.template", f"{TEMPLATE}/docker-compose.yml.template"),
)
"""The files that name images of a registry: our own, and those of a new project."""


def unlocked(installed: list[Distribution], locks: dict[str, locked.Locked]) -> Iterator[str]:
    """Installed packages that are not locked in their version, and locks without hashes."""
    for package in installed:
        name = canonicalize_name(package.metadata["Name"])
        if name == OURS or (name in INSTALLERS and name not in locks):
            continue
        if name not in locks:
            yield f"{name} {package.version} is installed, and not locked in requirements/"
        elif locks[name].version != package.version:
            yield f"{name} {package.version} is installed, and locked as {locks[name].version}"
    for lock in locks.values():
        if not lock.hashes:
            yield f"{lock.name} {lock.version} is locked without a hash"


def altered(package: Distribution) -> Iterator[str]:
    """Files of a package that are missing or are not those that were installed."""
    for file in package.files or ():
        if file.hash is None:
            continue
        path = Path(str(package.locate_file(file)))
        if not path.is_file():
            yield f"{package.metadata['Name']}: {file} is missing"
            continue
        digest = base64.urlsafe_b64encode(hashlib.new(file.hash.mode, path.read_bytes()).digest())
        if digest.decode().rstrip("=") != file.hash.value:
            yield f"{package.metadata['Name']}: {file} is not the file that was installed"


def licence(package: Distribution) -> str:
    """The licence that a package states; its first line."""
    stated = package.metadata.get("License-Expression") or package.metadata.get("License") or ""
    classifiers = [each for each in package.metadata.get_all("Classifier") or () if each.startswith("License ::")]
    return (stated.strip().splitlines() or [""])[0] or "; ".join(each.rpartition(":: ")[2] for each in classifiers)


def refused_licences(installed: list[Distribution]) -> Iterator[str]:
    """Packages whose licence is not compatible with MIT."""
    for package in installed:
        text = licence(package)
        if REFUSED_LICENCES.search(text) and not ALLOWED_DESPITE.search(text):
            yield f"{package.metadata['Name']} has the licence {text}"


def unpinned_images(root: Path) -> Iterator[str]:
    """Images that are named without a digest. `${NAME:-image}` counts as its default."""
    for name in IMAGE_FILES:
        for image in {"".join(found) for found in IMAGE.findall((root / name).read_text("utf-8"))}:
            if "@sha256:" not in image:
                yield f"{name} uses {image} without a digest"


def problems(installed: list[Distribution], locks: dict[str, locked.Locked], known: Path | None) -> Iterator[str]:
    """All problems of packages."""
    yield from unlocked(installed, locks)
    for package in installed:
        if canonicalize_name(package.metadata["Name"]) != OURS:
            yield from altered(package)
    yield from refused_licences(installed)
    if known is not None:
        versions = {canonicalize_name(package.metadata["Name"]): package.version for package in installed}
        yield from map(str, advisories.applying(advisories.read(known), versions))


def main() -> None:
    """Print the problems, and what could not be audited."""
    parser = argparse.ArgumentParser(description="Audit what is installed.")
    parser.add_argument("--advisories", type=Path, help="known vulnerabilities: a folder or zip file in the OSV format")
    known: Path | None = parser.parse_args().advisories
    locks = {**locked.read(ROOT / "requirements/run.txt"), **locked.read(ROOT / "requirements/dev.txt")}
    installed = list(distributions())
    found = [*problems(installed, locks, known), *unpinned_images(ROOT)]
    for problem in found:
        print(f"audit: {problem}")
    if known is None:
        print("audit, to know: no advisories were given, so known vulnerabilities were not looked for")
    else:
        print(f"audit: the advisories are of {datetime.fromtimestamp(known.stat().st_mtime, UTC):%Y-%m-%d}")
    print(f"audit: {len(installed)} packages, {len(found)} problems")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
