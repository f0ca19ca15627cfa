"""The command line itself: its help, its laziness, and the folders and installations it runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import ROOT
from laneway.cli.command_line import COMMANDS, load_command
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.shell import run_program

HEAVY = ("alembic", "app.services", "celery", "fastapi", "kombu", "laneway.platform", "redis", "sqlalchemy")
SCHEMAS = ("laneway.schemas.task", "laneway.schemas.history", "laneway.schemas.workflow_run")
HIDE = "import sys; sys.modules[{package!r}] = None; "


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


def without_help(command: Any, path: str) -> Iterator[str]:
    """The commands and parameters that have no help text."""
    if not command.help:
        yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from without_help(inner, f"{path} {name}")
    for parameter in command.params:
        if not getattr(parameter, "help", None):
            yield f"{path} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_parameter_has_help(name: str) -> None:
    command = load_command(name)

    assert list(without_help(command, name)) == []
    assert command.help.splitlines()[0] == COMMANDS[name][1], "the list shows the first line of the command's help"


@pytest.mark.parametrize("words", [("--help",), ("worker", "--help"), ("dead", "requeue", "--help")])
def test_help_works_outside_a_project(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = run_program(*words, environment=os.environ, folder=tmp_path)

    assert (ran.code, ran.err) == (0, "")
    assert "Usage: laneway" in ran.out


@pytest.mark.parametrize("words", [("stats",), ("up",), ("worker",), ("worker", "--group", "worker")])
def test_a_command_outside_a_project_is_refused_in_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = run_program(*words, environment=os.environ, folder=tmp_path)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("No Laneway project here: ")
    assert "Traceback" not in ran.err


PROGRAM_THAT_NAMES_IMPORTS = """
import sys
from laneway.cli.main import main
try:
    main()
except SystemExit:
    pass
print("imported", *(name for name in sys.modules if name.startswith({packages!r})), file=sys.stderr)
"""


def imported(*words: str, cwd: Path, packages: tuple[str, ...]) -> list[str]:
    """The modules of these packages that a command imports."""
    code = PROGRAM_THAT_NAMES_IMPORTS.format(packages=packages)
    first, *names = run(sys.executable, "-c", code, *words, cwd=cwd).stderr.splitlines()[-1].split()
    assert first == "imported"
    return names


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_and_version_import_no_library_that_takes_long(words: tuple[str, ...]) -> None:
    assert imported(*words, cwd=ROOT, packages=(*HEAVY, "pydantic", "httpx2")) == []


def test_the_definitions_of_all_commands_import_neither_the_platform_nor_its_schemas(tmp_path: Path) -> None:
    """Help and completion of a command need its definition."""
    code = (
        "import sys; from laneway.cli.command_line import COMMANDS, load_command\n"
        "for name in COMMANDS: load_command(name)\n"
        f"sys.exit(str([name for name in sys.modules if name.startswith({HEAVY + SCHEMAS!r})]))"
    )

    assert run(sys.executable, "-c", code, cwd=tmp_path).stderr == "[]\n"


@pytest.mark.parametrize("words", [("tasks", "list"), ("stats",)])
def test_a_command_over_http_imports_neither_celery_nor_the_database(
    tmp_path: Path, http_peer: HttpPeer, words: tuple[str, ...]
) -> None:
    http_peer.always = HttpReply(404)

    assert imported("--url", http_peer.url, *words, cwd=tmp_path, packages=HEAVY) == []
    assert http_peer.requests


@pytest.mark.parametrize(
    ("words", "meant"), [(("statz",), "'stats'"), (("tasks", "lst"), "'list'"), (("worker", "--que", "x"), "--queue")]
)
def test_a_misspelt_command_or_option_is_answered_with_the_right_one(words: tuple[str, ...], meant: str) -> None:
    ran = run_program(*words, environment=os.environ)

    assert (ran.code, ran.out) == (2, "")
    assert meant in ran.err


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_the_command_without_its_extra_names_the_extra(tmp_path: Path, package: str) -> None:
    code = HIDE.format(package=package) + "from laneway.cli.main import main; main()"

    ran = run(sys.executable, "-c", code, cwd=tmp_path)

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "The command `laneway` needs the extra: pip install 'laneway[platform]'\n"


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("laneway.schemas.payload", "pydantic"),
        ("laneway.platform.db.session", "sqlalchemy"),
        ("laneway.platform.logging", "structlog"),
        ("laneway.api.errors", "fastapi"),
        ("laneway.server.up", "rich"),
    ],
)
def test_a_package_of_the_library_without_its_extra_names_the_extra(tmp_path: Path, module: str, package: str) -> None:
    ran = run(sys.executable, "-c", HIDE.format(package=package) + f"import {module}", cwd=tmp_path)

    name = ".".join(module.split(".")[:2])
    assert ran.returncode == 1
    assert ran.stderr.endswith(f"ImportError: The package `{name}` needs the extra: pip install 'laneway[platform]'\n")
