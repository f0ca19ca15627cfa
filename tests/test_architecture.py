"""The rules of the house that a machine can check."""

# Celery is typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.celery_app import celery_app
from app.core.queues import QUEUES
from app.core.settings import ROOT, load_settings
from app.main import create_app
from beat_schedule import SCHEDULE
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.schedules.entry import Schedule

LONGEST_MODULE, LONGEST_FUNCTION = 400, 40
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS = {
    f"{folder}/migrations/versions/0001_first_schema.py:{function}": "one table after the other, as Alembic writes them"
    for folder in ("app/db", "laneway/platform/db")
    for function in ("upgrade", "downgrade")
}
"""What may be longer, and why."""
SPEAKING = ("laneway/cli/", "laneway/server/", "app/demo/")
"""What talks to a person at a terminal."""
SOURCES = sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "laneway").rglob("*.py"), ROOT / "beat_schedule.py"])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|@ *file|--trusted-host")


def name(path: Path) -> str:
    """A file as it is written in the project."""
    return path.relative_to(ROOT).as_posix()


def spec_name(spec: TaskSpec) -> str:
    """A task as a test is called."""
    return spec.name


def entry_name(entry: Schedule) -> str:
    """A schedule as a test is called."""
    return entry.key


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_is_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())

    assert lines <= LONGEST_MODULE or name(path) in LONG_MODULES, f"{name(path)} has {lines} lines"


def test_modules_of_tests_are_short() -> None:
    lines = {name(path): len(path.read_text("utf-8").splitlines()) for path in TESTS}

    assert {path: number for path, number in lines.items() if number > LONGEST_MODULE} == {}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_function_is_short(path: Path) -> None:
    long = {
        f"{name(path)}:{function.name}": length for function, length in _functions(path) if length > LONGEST_FUNCTION
    }

    assert set(long) <= set(LONG_FUNCTIONS), long


def test_every_exception_for_length_is_still_needed() -> None:
    long = {
        f"{name(path)}:{function.name}"
        for path in SOURCES
        for function, length in _functions(path)
        if length > LONGEST_FUNCTION
    }

    assert set(LONG_FUNCTIONS) == long


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_what_talks_to_a_person_prints(path: Path) -> None:
    if name(path).startswith(SPEAKING):
        return
    calls = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]

    assert [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.read_text("utf-8").strip()], ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(_tree(path))


def test_the_layers_are_kept() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    ran = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_task_of_the_catalog_is_registered_under_its_name_and_no_other_is() -> None:
    own = {task for task in celery_app.tasks if not task.startswith("celery.")}

    # Other tests may have added tasks of their own to catalog and app alike.
    assert own == set(registry)
    assert all(spec.name == task for task, spec in registry.items())


@pytest.mark.parametrize("spec", list(registry.values()), ids=spec_name)
def test_a_task_goes_to_a_queue_that_exists_with_a_key_that_it_has(spec: TaskSpec) -> None:
    assert spec.queue in QUEUES
    assert spec.key is None or spec.key in spec.payload.model_fields


@pytest.mark.parametrize("entry", SCHEDULE, ids=entry_name)
def test_a_schedule_names_a_task_its_queue_and_a_payload_that_fits(entry: Schedule) -> None:
    spec = registry[entry.task]

    assert entry.queue == spec.queue
    assert entry.expires > 0
    spec.payload.model_validate(entry.kwargs or {})


def test_schedules_have_names_of_their_own() -> None:
    assert len({entry.key for entry in SCHEDULE}) == len(SCHEDULE)


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=name)
def test_requirements_hold_no_addresses_and_a_hash_for_each_package(path: Path) -> None:
    text = path.read_text("utf-8")
    packages = re.findall(r"^[a-z0-9][^\n]*==", text, re.MULTILINE | re.IGNORECASE)

    assert [line for line in text.splitlines() if ADDRESS.search(line)] == []
    assert packages
    assert len(re.findall(r"^[a-z0-9][^\n]*==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE | re.IGNORECASE)) == len(
        packages
    )


def test_every_route_documents_its_errors_as_problems() -> None:
    for path, operations in create_app(load_settings()).openapi()["paths"].items():
        for method, operation in operations.items():
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert {"413", "500"} <= set(errors), (method, path)
            forms = {
                kind
                for status, answer in errors.items()
                if (path, status) != ("/health/ready", "503")
                for kind in answer["content"]
            }
            assert forms == {"application/problem+json"}, (method, path)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1
