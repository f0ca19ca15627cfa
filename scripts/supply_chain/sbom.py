"""Writes the bill of materials of what the image installs: `python -m scripts.supply_chain.sbom FILE`, CycloneDX 1.6.

The components are the packages of `requirements/run.txt` with their hashes. Licences are those of the installed
packages. The same files give the same bill, byte by byte, but for its time and serial number.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from scripts.supply_chain import audit, locked


def bill(locks: dict[str, locked.Locked]) -> Bom:
    """The bill of materials of locked packages."""
    made = Bom()
    root = _component(audit.OURS, distribution(audit.OURS).version, ComponentType.APPLICATION, ())
    made.metadata.component = root
    parts = {name: _component(name, lock.version, ComponentType.LIBRARY, lock.hashes) for name, lock in locks.items()}
    made.components.update(parts.values())
    for name, part in parts.items():
        made.register_dependency(part, [parts[each] for each in _needs(name) if each in parts])
    made.register_dependency(root, parts.values())
    return made


def as_json(made: Bom) -> str:
    """The bill as CycloneDX 1.6."""
    return JsonV1Dot6(made).output_as_string(indent=2)


def _component(name: str, version: str, kind: ComponentType, hashes: tuple[str, ...]) -> Component:
    purl = PackageURL("pypi", name=name, version=version)
    made = Component(name=name, version=version, type=kind, purl=purl, bom_ref=purl.to_string())
    files = [HashType(alg=HashAlgorithm.SHA_256, content=hash) for hash in hashes]
    if files:  # A package has one hash per file, and a component would have one in all.
        kind_of_place = ExternalReferenceType.DISTRIBUTION
        place = ExternalReference(type=kind_of_place, url=XsUri(purl.to_string()), hashes=files)
        made.external_references.add(place)
    try:
        stated = audit.licence(distribution(name))
    except PackageNotFoundError:  # for another system than this one
        stated = ""
    if stated:
        made.licenses.add(LicenseFactory().make_from_string(stated))
    return made


def _needs(name: str) -> list[str]:
    try:
        required = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    return [canonicalize_name(audit.NAME.match(each).group()) for each in required]  # type: ignore[union-attr]


def main() -> None:
    """Write the bill into the named file."""
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    made = bill(locked.read(audit.ROOT / "requirements/run.txt"))
    target.write_text(as_json(made) + "\n", "utf-8")
    print(f"{target}: {len(made.components)} components")


if __name__ == "__main__":
    main()
