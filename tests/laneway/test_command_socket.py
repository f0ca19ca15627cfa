"""Which code a command and an API have: it differs after an upgrade, an edit or a new task."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import laneway._command_socket
from laneway._command_socket import code_identity


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package, a package below `src`, a module, tests, and a folder that is no package."""
    for name in (
        "shop/__init__.py",
        "shop/tasks/a.py",
        "src/desk/__init__.py",
        "jobs.py",
        "tests/__init__.py",
        "x/y.py",
    ):
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path / "project"


@pytest.mark.parametrize("name", ["shop/tasks/a.py", "shop/new.py", "src/desk/new.py", "jobs.py", "new.py"])
def test_an_edit_and_a_new_file_of_the_project_are_other_code(project: Path, name: str) -> None:
    before = code_identity(project)
    assert code_identity(project) == before
    project.joinpath(name).write_text("1\n")

    assert code_identity(project) != before


@pytest.mark.parametrize("name", ["tests/test_new.py", "x/y.py", "shop/notes.txt", "shop/__pycache__/a.pyc"])
def test_other_files_are_no_code(project: Path, name: str) -> None:
    before = code_identity(project)
    project.joinpath(name).parent.mkdir(exist_ok=True)
    project.joinpath(name).write_text("1\n")

    assert code_identity(project) == before


def test_an_older_file_in_the_place_of_another_is_other_code(project: Path) -> None:
    before, file = code_identity(project), project / "shop" / "tasks" / "a.py"
    os.utime(file, (1_000_000_000, 1_000_000_000))

    assert code_identity(project) != before


def test_a_module_of_the_library_that_changes_is_other_code(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "laneway"
    shutil.copytree(Path(laneway.__file__).parent / "client", library / "client")
    shutil.copy(laneway.__file__, library)
    monkeypatch.setattr(laneway._command_socket, "__file__", str(library / "_command_socket.py"))
    before = code_identity(project)
    (library / "client" / "calls.py").touch()

    assert code_identity(project) != before
