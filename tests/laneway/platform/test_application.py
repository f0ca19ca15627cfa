"""The application of a project: what is imported, what the library makes, and how each failure is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import laneway
from laneway.platform import application as module
from laneway.platform import importing
from laneway.platform.application import PROJECT_API, application
from laneway.platform.errors import ConfigError
from laneway.platform.platform import Platform
from laneway.platform.settings.base import ProjectFolder
from tests.fixtures.forked import Ended, run_forked

REPOSITORY = Path(laneway.__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a project without an application."""
    project, loaded = ProjectFolder(), set(sys.modules)
    project.use(tmp_path)
    monkeypatch.setattr(module, "project", project)
    monkeypatch.setattr(importing, "project", project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    application.cache_clear()
    yield tmp_path
    application.cache_clear()
    for name in set(sys.modules) - loaded:
        if name.partition(".")[0].startswith("shop"):
            del sys.modules[name]


def write_section(folder: Path, **values: str) -> None:
    lines = "".join(f'{name} = "{value}"\n' for name, value in values.items())
    (folder / "laneway.toml").write_text(f'tasks = ["shop_tasks"]\n{lines}', "utf-8")


def refusal(folder: Path, text: str) -> str:
    """Why the settings cannot be loaded from a module with this text."""
    write_section(folder, settings="shop_core:load")
    (folder / "shop_core.py").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as refused:
        application().load_settings()
    return str(refused.value).replace(str(folder.resolve()), "PROJECT")


@pytest.mark.parametrize("where", [".", "src"])
def test_modules_of_the_project_are_found_also_in_src(folder: Path, where: str) -> None:
    write_section(folder, settings="shop_core:load")
    (folder / where).mkdir(exist_ok=True)
    (folder / where / "shop_core.py").write_text("def load():\n    return 'settings'\n", "utf-8")

    assert application().load_settings() == "settings"


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("no_such_shop:app", "names 'no_such_shop', but there is no module 'no_such_shop'."),
        (
            "laneway.no_such_module:app",
            "names 'laneway.no_such_module', but there is no module 'laneway.no_such_module'.",
        ),
        (
            "laneway.platform.platform:Platfrom",
            "names 'laneway.platform.platform:Platfrom', but laneway.platform.platform",
        ),
    ],
    ids=["a missing module", "a missing submodule", "a missing attribute"],
)
def test_a_part_that_does_not_exist_is_named(folder: Path, reference: str, problem: str) -> None:
    write_section(folder, settings=reference)

    with pytest.raises(ConfigError) as refused:
        application().load_settings()

    assert str(refused.value).startswith(f"settings of {folder.resolve() / 'laneway.toml'} {problem}")


FAILING = {
    "import no_such_dependency\n": "line 1: ModuleNotFoundError: No module named 'no_such_dependency'\n"
    "    import no_such_dependency",
    "x = 1\nload = undefined\n": "line 2: NameError: name 'undefined' is not defined\n    load = undefined",
    "def load(:\n": "line 1: SyntaxError: invalid syntax\n    def load(:",
    "import json\nload = json.loads('{')\n": "line 2: JSONDecodeError: Expecting property name",
    "import sys\nsys.exit('no licence')\n": "line 2: no licence\n    sys.exit('no licence')",
}


@pytest.mark.parametrize("text", FAILING)
def test_a_module_that_fails_is_told_with_the_line_of_the_mistake(folder: Path, text: str) -> None:
    said = refusal(folder, text)

    assert said.startswith(
        f"settings of PROJECT/laneway.toml names 'shop_core', whose import failed at shop_core.py, {FAILING[text]}"
    )


def test_the_library_makes_what_the_file_does_not_name(folder: Path) -> None:
    write_section(folder)
    found = application()

    assert found.api == PROJECT_API
    assert found.development_environment(None) == {}  # pyright: ignore[reportArgumentType]
    found.add_commands(None)
    assert found._platform_class is Platform  # pyright: ignore[reportPrivateUsage]


def test_the_platform_reads_the_workflows_of_the_folder(folder: Path) -> None:
    write_section(folder, workflows="flows")
    with pytest.raises(ConfigError, match=r"workflows: there is no folder .*flows"):
        _ = application().workflow_folder

    (folder / "flows").mkdir()

    assert application()._platform_class.workflow_folder == folder / "flows"  # pyright: ignore[reportPrivateUsage]


PLAIN_CELERY = """
from celery import Celery
app = Celery("shop", broker="{broker}")
app.conf.beat_schedule = {{"own": {{"task": "shop.plain", "schedule": 60}}}}
@app.task(name="shop.plain")
def plain(): ...
"""
TASKS = """
from laneway import Payload, task
class Sum(Payload):
    x: int
@task(queue="default")
def add(payload: Sum) -> None: ...
"""
SHOW = """
from laneway.platform.application import application
from laneway.platform.queues import queues
app = application().celery_app()
own = [name for name in app.tasks if not name.startswith("celery.")]
print(application().celery, app.main, sorted(own), sorted(app.conf.beat_schedule), list(queues))
"""


def start(folder: Path, *argv: str) -> Ended:
    """Run a program in the folder of a project."""
    return run_forked(argv, folder=folder, environment=environment(folder))


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{REPOSITORY}", "REDIS_PORT": "1"}


def make_project(folder: Path, section: str = 'tasks = ["shop_tasks"]\n', tasks: str = TASKS) -> None:
    (folder / "laneway.toml").write_text(section, "utf-8")
    (folder / "shop_tasks.py").write_text(tasks, "utf-8")


def test_the_library_makes_the_celery_app(tmp_path: Path) -> None:
    make_project(tmp_path, 'name = "shop"\ntasks = ["shop_tasks"]\n')

    ran = start(tmp_path, "python", "-c", SHOW)

    assert ran.output == (
        "laneway.platform.project:celery_app shop ['add', 'deliver_webhook_task', 'laneway.alerts', 'laneway.canary', "
        "'laneway.cleanup', 'tell_about_alerts', 'wake_waiting_tasks'] "
        "['laneway.alerts', 'laneway.canary.default', 'laneway.cleanup'] ['default']\n"
    )


@pytest.mark.parametrize("broker", ["redis://localhost:1/0", "redis://127.0.0.1:1"])
def test_a_celery_app_of_the_project_is_configured_and_keeps_its_tasks(tmp_path: Path, broker: str) -> None:
    make_project(tmp_path, 'celery = "shop_celery:app"\ntasks = ["shop_tasks"]\n')
    (tmp_path / "shop_celery.py").write_text(PLAIN_CELERY.format(broker=broker), "utf-8")

    ran = start(tmp_path, "python", "-c", SHOW)

    assert ran.output == (
        "laneway.platform.project:celery_app shop "
        "['add', 'deliver_webhook_task', 'laneway.alerts', 'laneway.canary', 'laneway.cleanup', 'shop.plain', "
        "'tell_about_alerts', 'wake_waiting_tasks'] "
        "['laneway.alerts', 'laneway.canary.default', 'laneway.cleanup', 'own'] ['default']\n"
    )


def test_a_celery_app_with_another_broker_is_refused(tmp_path: Path) -> None:
    make_project(tmp_path, 'celery = "shop_celery:app"\ntasks = ["shop_tasks"]\n')
    (tmp_path / "shop_celery.py").write_text(PLAIN_CELERY.format(broker="redis://:secret@db.example:6379/3"), "utf-8")

    ran = start(tmp_path, "celery", "-A", "laneway.platform.project", "worker")

    assert ran.returncode != 0
    assert (
        "The Celery app 'shop' has the broker redis://db.example:6379/3, but the settings name "
        "redis://127.0.0.1:1/0: set REDIS_URL" in ran.output
    )


WORKER = ("celery", "-A", "laneway.platform.project", "worker", "-P", "solo")
BEAT = ("celery", "-A", "laneway.platform.project", "beat", "-S", "celery.beat:Scheduler")
SERVER = ("uvicorn", "laneway.asgi:app")
STARTS = {
    "celery worker": WORKER,
    "celery beat": BEAT,
    "uvicorn": SERVER,
    "laneway up": ("laneway", "up"),
    "laneway worker": ("laneway", "worker"),
    "laneway stats": ("laneway", "stats"),
}


@pytest.mark.parametrize("way", STARTS)
def test_each_way_of_starting_names_the_mistake_in_the_file(tmp_path: Path, way: str) -> None:
    make_project(tmp_path, 'taks = ["shop_tasks"]\n')

    ran = start(tmp_path, *STARTS[way])

    assert ran.returncode != 0
    assert "taks: there is no key 'taks' (did you mean 'tasks'?)" in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.parametrize("way", STARTS)
def test_each_way_of_starting_names_the_mistake_in_a_module(tmp_path: Path, way: str) -> None:
    make_project(tmp_path, tasks=TASKS.replace('"default"', '"defualt"'))

    ran = start(tmp_path, *STARTS[way])

    said = " ".join(ran.output.split())
    assert ran.returncode != 0
    assert "laneway.toml names 'shop_tasks', whose import failed at shop_tasks.py, line 5:" in said
    assert "The task 'add' cannot be registered: its queue 'defualt' is not declared; declared queues: default." in said
    assert "Traceback" not in said


def test_two_tasks_of_one_name_are_named(tmp_path: Path) -> None:
    make_project(tmp_path, tasks=TASKS + '@task(queue="default", name="add")\ndef other(payload: Sum) -> None: ...\n')

    ran = start(tmp_path, *WORKER)

    assert (
        "shop_tasks.py, line 7: The task 'add' cannot be registered: shop_tasks.add and shop_tasks.other" in ran.output
    )
