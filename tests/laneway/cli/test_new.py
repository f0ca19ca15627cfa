"""`laneway new`: the files of a new project, and the names that it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

import laneway
from laneway.cli import new as module
from laneway.cli.new import check_name, new, write_project
from laneway.platform.project_file import read_project_file

REPOSITORY = Path(laneway.__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project, written."""
    list(write_project(tmp_path / "pets", "pets"))
    return tmp_path / "pets"


def run(project: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", *argv], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_a_project_is_complete_and_small(project: Path) -> None:
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}

    assert {"pyproject.toml", "pets/tasks.py", "pets/schedules.py", "workflows/welcome.yaml", ".env.example"} <= files
    assert {"tests/test_tasks.py", "Dockerfile", "docker-compose.yml", "README.md", ".gitignore"} <= files
    assert len(files) < 16
    assert not [path for path in project.rglob("*") if path.is_file() and "$name" in path.read_text("utf-8")]


def test_its_section_is_valid_and_its_name_is_the_given_one(project: Path) -> None:
    found = read_project_file(project)

    assert found.name == "pets"
    assert found.section.tasks == ("pets.tasks", "pets.steps")
    assert tomllib.loads((project / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"] == {
        "packages": ["pets"]
    }


def test_its_tests_pass_without_a_server_and_the_linter_is_content(project: Path) -> None:
    tested = run(project, "pytest", "-q", "-p", "no:cacheprovider")
    linted = run(project, "ruff", "check", "--no-cache", ".")
    formatted = run(project, "ruff", "format", "--no-cache", "--check", ".")

    assert "2 passed" in tested.stdout, tested.stdout + tested.stderr
    assert (linted.returncode, formatted.returncode) == (0, 0), linted.stdout + formatted.stdout


def test_its_tasks_schedules_and_workflow_fit_together(project: Path) -> None:
    checked = run(project, "laneway.server.project_check")

    assert checked.returncode == 0, checked.stderr
    assert '"broken": []' in checked.stdout


def test_its_containers_start_every_process(project: Path) -> None:
    compose = yaml.safe_load((project / "docker-compose.yml").read_text())
    groups = {group.name for group in read_project_file(project).section.worker_groups}

    assert set(compose["services"]) == {"broker", "beat", "api"} | groups
    for name in groups:
        assert compose["services"][name]["command"][-1].endswith(f"laneway worker --group {name}")
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["api"]["ports"])


def test_docker_compose_accepts_its_file(project: Path) -> None:
    commands = (["docker-compose"], ["docker", "compose"])
    found = [words for words in commands if shutil.which(words[0]) and _answers([*words, "version"])]
    if not found:
        pytest.skip("there is no docker-compose here")

    environment = os.environ | {"REDIS_PASSWORD": "a long random text"}
    ran = subprocess.run(
        [*found[0], "config", "-q"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr


def _answers(words: list[str]) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "mine").write_text("mine")

    with pytest.raises(typer.BadParameter, match="exists and is not empty"):
        new("pets")

    assert [path.name for path in (tmp_path / "pets").iterdir()] == ["mine"]


def test_an_empty_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()

    new("pets")

    assert (tmp_path / "pets" / "pets" / "tasks.py").exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("my-shop", "cannot be the name of a Python package: take letters, digits and _, no keyword, such as my_shop."),
        ("1a", "cannot be the name of a Python package: take letters, digits and _, no keyword."),
        ("class", "cannot be the name of a Python package"),
        ("../shop", "cannot be the name of a Python package"),
        ("json", "would hide Python's own module json: choose another name."),
        ("yaml", "would hide the installed module yaml: choose another name."),
        ("laneway", "would hide the installed module laneway: choose another name."),
        ("tests", "would hide the installed module tests: choose another name."),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(
    name: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(typer.BadParameter) as refused:
        check_name(name)

    assert problem in refused.value.message
    assert {"tests", "workflows"} == module.TAKEN
