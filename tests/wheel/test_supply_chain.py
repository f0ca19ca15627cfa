"""The audit finds what was planted, in a folder of installed packages; the bill of materials lists what is locked."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from scripts.supply_chain import advisories, audit, locked, sbom

LOCK = """\
# a comment
good-package==1.2 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
elsewhere==3 ; sys_platform == 'win32' \\
    --hash=sha256:cc
"""


def install(folder: Path, name: str, version: str, *, licence: str = "MIT") -> Path:
    """Install a package of one file into a folder; returns the file."""
    file = folder / f"{name}.py"
    file.write_text(f"name = {name!r}\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).decode().rstrip("=")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {licence}\n"
    )
    (info / "RECORD").write_text(f"{file.name},sha256={digest},{file.stat().st_size}\n{info.name}/RECORD,,\n")
    return file


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with one package that is locked."""
    (tmp_path / "run.txt").write_text(LOCK)
    install(tmp_path, "good_package", "1.2")
    return tmp_path


def problems(site: Path, known: Path | None = None) -> list[str]:
    """What the audit finds."""
    return list(audit.problems(installed(site), locked.read(site / "run.txt"), known))


def installed(site: Path) -> list[Distribution]:
    """The packages in a folder."""
    return list(distributions(path=[str(site)]))


def test_a_clean_installation_has_no_problems(site: Path) -> None:
    assert problems(site) == []
    assert locked.read(site / "run.txt")["good-package"].hashes == ("aa", "bb")
    assert not locked.read(site / "run.txt")["elsewhere"].needed


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (lambda site: install(site, "stranger", "1"), "stranger 1 is installed, and not locked"),
        (
            lambda site: (site / "run.txt").write_text(LOCK.replace("1.2", "1.3")),
            "and locked as 1.3",
        ),
        (
            lambda site: (site / "run.txt").write_text("good-package==1.2\n"),
            "is locked without a hash",
        ),
        (lambda site: (site / "good_package.py").write_text("import os"), "is not the file that was installed"),
        (lambda site: (site / "good_package.py").unlink(), "good_package.py is missing"),
        (
            lambda site: install(site, "elsewhere", "3", licence="AGPL-3.0-only"),
            "elsewhere has the licence AGPL-3.0-only",
        ),
    ],
)
def test_what_is_wrong_is_found(site: Path, plant: Callable[[Path], object], told: str) -> None:
    plant(site)

    assert [problem for problem in problems(site) if told in problem]


def test_a_lock_without_a_version_is_an_error(site: Path) -> None:
    (site / "run.txt").write_text("good-package>=1\n")

    with pytest.raises(ValueError, match="pins no version: good-package"):
        problems(site)


@pytest.mark.parametrize(
    ("affected", "applies"),
    [
        ({"versions": ["1.2"]}, True),
        ({"versions": ["1.20"]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.10"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.2"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.1"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.3"}]}]}, False),
        (
            {
                "ranges": [
                    {
                        "type": "ECOSYSTEM",
                        "events": [{"fixed": "1.1"}, {"introduced": "0"}, {"introduced": "1.2"}, {"fixed": "1.4"}],
                    }
                ]
            },
            True,
        ),
    ],
)
def test_an_advisory_applies_to_its_versions(site: Path, affected: dict[str, object], *, applies: bool) -> None:
    package = {"ecosystem": "PyPI", "name": "Good_Package"}
    advisory = {"id": "PYSEC-1", "summary": "it leaks", "affected": [{"package": package, **affected}]}
    (site / "osv").mkdir()
    (site / "osv" / "PYSEC-1.json").write_text(json.dumps(advisory))

    found = problems(site, site / "osv")

    assert bool(found) is applies
    assert not found or found[0].startswith("good-package 1.2 is vulnerable: PYSEC-1 it leaks; ")


def test_advisories_that_are_none_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no advisory"):
        advisories.read(tmp_path)


def test_images_without_a_digest_are_named(tmp_path: Path) -> None:
    pinned = f"valkey@sha256:{'a' * 64}"
    for name in audit.IMAGE_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"    image: {pinned}\n  image: $name\n")
    (tmp_path / "Dockerfile").write_text("ARG PYTHON_IMAGE=python:3\nFROM ${PYTHON_IMAGE}\nFROM other:1\n")
    (tmp_path / "docker-compose.yml").write_text(f"image: ${{VALKEY_IMAGE:-{pinned}}}\n  image: laneway\n")
    (tmp_path / audit.IMAGE_FILES[-1]).write_text("    image: valkey/valkey:9\n")

    assert sorted(audit.unpinned_images(tmp_path)) == [
        "Dockerfile uses other:1 without a digest",
        "Dockerfile uses python:3 without a digest",
        f"{audit.IMAGE_FILES[-1]} uses valkey/valkey:9 without a digest",
    ]


def test_the_images_of_this_project_and_of_a_new_one_have_digests() -> None:
    assert list(audit.unpinned_images(audit.ROOT)) == []


def test_the_bill_of_materials_lists_each_locked_package_with_its_hashes(tmp_path: Path) -> None:
    locks = locked.read(audit.ROOT / "requirements" / "run.txt")

    written = json.loads(sbom.as_json(sbom.bill(locks)))

    assert (written["bomFormat"], written["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in written["components"]}
    assert set(parts) == set(locks)
    celery = parts["celery"]
    assert celery["purl"] == f"pkg:pypi/celery@{locks['celery'].version}"
    hashes = {each["content"] for place in celery["externalReferences"] for each in place["hashes"]}
    assert hashes == set(locks["celery"].hashes)
    assert celery["licenses"]
    needs = {each["ref"]: each.get("dependsOn", []) for each in written["dependencies"]}
    assert parts["kombu"]["purl"] in needs[celery["purl"]]
    assert written["metadata"]["component"]["name"] == "laneway"
