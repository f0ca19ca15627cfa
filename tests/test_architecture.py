"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import grimp
import pytest

from app.core.celery_app import celery_app
from app.core.queues import QUEUES
from app.core.settings import ROOT, load_settings
from app.db.models import Base
from app.main import create_app
from beat_schedule import SCHEDULE
from laneway.platform.registry import registry
from laneway.platform.schedules.entry import Schedule

LONGEST_MODULE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 400, 40, 6
LONG_FUNCTIONS = {
    "app/db/migrations/versions/0001_first_schema.py:upgrade": "one table after the other, as Alembic writes them",
    "laneway/platform/db/migrations/versions/0001_first_schema.py:upgrade": "the same",
    "laneway/platform/db/migrations/versions/0001_first_schema.py:downgrade": "the same backwards",
}
"""What may be longer, and why."""
SPEAKING = ("laneway/cli/", "laneway/server/", "app/demo/")
"""What talks to a person at a terminal."""
SOURCES = sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "laneway").rglob("*.py"), ROOT / "beat_schedule.py"])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LIBRARY_TASKS = {
    *("run_workflow_step_task", "settle_workflow_step_task", "stop_workflow_task"),
    *("laneway.alerts", "laneway.cleanup", "laneway.canary", "tell_about_alerts", "wake_waiting_tasks"),
}
"""The tasks that the library itself defines, on a queue of the application's choice."""
COMMON_WORDS = {"messages", "webhooks", "workflows", "documents", "leads", "reports", "maintenance"}
"""Names of the application's queues and tables that are also ordinary words of the library (a CLI group, a key)."""
CONTRACT = {
    *("process_conversation_message_task", "process_manipulator_interaction_task", "continue_conversation_async_task"),
    *("batch_conversation_analysis_task", "process_facebook_webhook_task", "process_google_webhook_task"),
    *("process_generic_webhook_task", "send_webhook_response_task", "generate_conversation_analytics_task"),
    *("generate_performance_report_task", "cleanup_old_data_task", "crm_update", "crm_notify"),
    *("cleanup_old_workflows", "generate_weekly_report", "dev", "qa", "fix", "deploy"),
}
"""The names of tasks that other programs rely on."""
ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|@ *file|--trusted-host")


def name(path: Path) -> str:
    """A file as it is written in the project."""
    return path.relative_to(ROOT).as_posix()


def entry_name(entry: Schedule) -> str:
    """A schedule as a test is called."""
    return entry.key


def test_modules_are_short() -> None:
    lines = {name(path): len(path.read_text("utf-8").splitlines()) for path in (*SOURCES, *TESTS)}

    assert {path: number for path, number in lines.items() if number > LONGEST_MODULE} == {}


def test_functions_are_short() -> None:
    """An exception that is not needed any more must go."""
    long = {
        f"{name(path)}:{function.name}"
        for path in SOURCES
        for function, length in _functions(path)
        if length > LONGEST_FUNCTION
    }

    assert long == set(LONG_FUNCTIONS)


def test_only_what_talks_to_a_person_prints() -> None:
    silent = [path for path in SOURCES if not name(path).startswith(SPEAKING)]
    printing = [
        (name(path), node.lineno)
        for path in silent
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert printing == []


def test_modules_say_what_they_are() -> None:
    assert [name(path) for path in SOURCES if _tree(path).body and not ast.get_docstring(_tree(path))] == []


def test_most_functions_are_a_few_lines() -> None:
    lengths = [length for path in SOURCES for _, length in _functions(path)]

    assert median(lengths) <= MEDIAN_FUNCTION


def test_no_file_opts_out_of_the_type_checker_or_the_formatter() -> None:
    lines = [(name(path), line) for path in SOURCES for line in path.read_text("utf-8").splitlines()]

    assert [line for line in lines if line[1].startswith("# pyright:") or "# fmt: " in line[1]] == []


def test_the_layers_are_kept() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    ran = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions and those for type checkers count, too."""
    graph = grimp.build_graph("laneway", "app")
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while leaves := [module for module, others in imported.items() if not others]:
        for leaf in leaves:
            del imported[leaf]
        for others in imported.values():
            others.difference_update(leaves)
    upstream = {module for module in imported if any(module in others for others in imported.values())}

    assert upstream == set()


def test_the_library_names_no_task_queue_or_table_of_the_application() -> None:
    tasks = {spec.name for spec in registry.values() if spec.name not in LIBRARY_TASKS}
    names = tasks | {queue for queue in QUEUES if queue not in COMMON_WORDS} | set(Base.metadata.tables) - COMMON_WORDS
    strings = {
        (name(path), node.value)
        for path in SOURCES
        if name(path).startswith("laneway/")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert tasks
    assert {(path, value) for path, value in strings if value in names} == set()


def test_the_registry_and_celery_have_the_same_tasks() -> None:
    own = {task for task in celery_app.tasks if not task.startswith("celery.")}
    of_tests = {name for name, each in celery_app.tasks.items() if each.__module__.startswith("tests.")}

    assert own - of_tests == {name for task in registry for name in registry.names_of(task)} - of_tests
    assert own >= CONTRACT


def test_a_task_goes_to_a_queue_that_exists_with_a_key_that_it_has() -> None:
    specs = list(registry.values())

    assert [spec.name for spec in specs if spec.queue not in QUEUES] == []
    assert [spec.name for spec in specs if spec.key and spec.key not in spec.payload.model_fields] == []


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


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1
