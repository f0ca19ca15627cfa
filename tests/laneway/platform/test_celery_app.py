"""A project whose tasks cannot work does not start: worker, Beat, command line and API say why in one sentence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import laneway
from tests.fixtures.forked import run_forked

REPOSITORY = Path(laneway.__file__).parent.parent
HEAVY = ("fastapi", "starlette", "typer", "uvicorn", "s3fs", "openai", "snowballstemmer", "pypdf")
"""Packages that a process that only needs the Celery app must not load."""

CELERY_APP = """
from celery.schedules import crontab

from laneway.platform.celery_app import make_celery
from laneway.platform.queues import Lane, declare_queues
from laneway.platform.registry import registry
from laneway.platform.schedules.entry import Schedule
from laneway.platform.settings import Settings, load_settings as load

declare_queues({"orders": Lane.HIGH})


def load_settings():
    return load(Settings)


SCHEDULES = [Schedule("nightly", task="@SCHEDULED@", when=crontab(hour=3), queue="orders", expires=60)]
celery_app = make_celery("shop", load_settings(), tasks=["@MODULE@"], schedules=SCHEDULES)
registry.bind(celery_app.register_task)
"""
API = """
from shop.celery_app import celery_app
from laneway.platform.celery_app import load_tasks_or_exit

load_tasks_or_exit(celery_app)
"""
TASKS = """
from laneway import task
from laneway.schemas.payload import EndedTask, Payload


class Order(Payload):
    customer: str


@task(queue="orders")
def ship_order(payload: Order) -> None: ...


@task(queue="orders")
def report() -> None: ...

"""


@dataclass(frozen=True)
class Project:
    """A project of one task module in a folder of its own."""

    folder: Path

    def run(self, *command: str) -> tuple[int, str]:
        """The exit code of a program in the folder, and everything that was printed."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{self.folder}:{REPOSITORY}",
            "DATA_DIR": str(self.folder / "data"),
            "REDIS_PORT": "1",
        }
        ended = run_forked(command, folder=self.folder, environment=environment)
        return ended.returncode, ended.output


def make_project(folder: Path, tasks: str, *, scheduled: str = "report", module: str = "shop.tasks") -> Project:
    package = folder / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    celery_app = CELERY_APP.replace("@SCHEDULED@", scheduled).replace("@MODULE@", module)
    (package / "celery_app.py").write_text(celery_app, "utf-8")
    (package / "tasks.py").write_text(TASKS + tasks, "utf-8")
    (package / "api.py").write_text(API, "utf-8")
    (folder / "pyproject.toml").write_text(
        '[tool.laneway]\ncelery = "shop.celery_app:celery_app"\n'
        'platform = "laneway.platform.platform:Platform"\n'
        'settings = "shop.celery_app:load_settings"\napi = "shop.api:app"\n',
        "utf-8",
    )
    return Project(folder)


WORKER = ("celery", "-A", "shop.celery_app:celery_app", "worker", "-P", "solo")
BEAT = ("celery", "-A", "shop.celery_app:celery_app", "beat", "-S", "celery.beat:Scheduler")
COMMAND = ("laneway", "stats")
SERVER = ("uvicorn", "shop.api:app")


@pytest.mark.parametrize("command", [WORKER, BEAT, COMMAND, SERVER], ids=["worker", "beat", "laneway", "uvicorn"])
def test_every_program_of_a_bad_project_ends_with_the_sentence(tmp_path: Path, command: tuple[str, ...]) -> None:
    project = make_project(tmp_path, '@task(queue="nowhere")\ndef lost(payload: Order) -> None: ...\n')

    code, output = project.run(*command)

    assert code != 0
    sentence = "The task 'lost' cannot be registered: its queue 'nowhere' is not declared; declared queues: orders."
    assert sentence in " ".join(output.split())
    assert "Traceback" not in output


BAD = {
    "two tasks of one name": (
        '@task(queue="orders", name="ship_order")\ndef ship(payload: Order) -> None: ...\n',
        "The task 'ship_order' cannot be registered: shop.tasks.ship_order and shop.tasks.ship have the same name.",
    ),
    "a parameter without a type": (
        '@task(queue="orders")\ndef lost(order) -> None: ...\n',
        "The task 'lost' cannot be registered: its parameter 'order' has no type; annotate it.",
    ),
    "an ordering key that is no field": (
        '@task(queue="orders", key="client")\ndef lost(payload: Order) -> None: ...\n',
        "The task 'lost' cannot be registered: its ordering key 'client' is not a field of Order.",
    ),
    "an on_failure that is not registered": (
        '@task(queue="orders", on_failure="refund")\ndef lost(payload: Order) -> None: ...\n',
        "The task 'lost' cannot be registered: its on_failure task 'refund' is not registered.",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_worker_names_the_mistake_in_a_declaration(tmp_path: Path, mistake: str) -> None:
    tasks, sentence = BAD[mistake]

    code, output = make_project(tmp_path, tasks).run(*WORKER)

    assert code != 0
    assert sentence in " ".join(output.split())
    assert "Traceback" not in output


def test_a_worker_names_a_schedule_for_a_task_that_is_not_registered(tmp_path: Path) -> None:
    code, output = make_project(tmp_path, "", scheduled="reprot").run(*WORKER)

    assert code != 0
    assert "The schedule 'nightly' cannot work: no task is registered as 'reprot'." in output
    assert "Traceback" not in output


def test_a_worker_names_a_task_module_that_does_not_exist(tmp_path: Path) -> None:
    code, output = make_project(tmp_path, "", module="shop.tsaks").run(*WORKER)

    assert code != 0
    assert "The list of task modules names 'shop.tsaks', but there is no module 'shop.tsaks'." in output
    assert "Traceback" not in output


def test_the_celery_app_of_the_application_is_light_to_import() -> None:
    script = f"import sys, app.core.celery_app; print([name for name in {HEAVY} if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )

    assert loaded.stdout.strip() == "[]"
