"""`laneway up`, as README.md describes it: real processes, in their own data folder and on their own ports."""

from __future__ import annotations

import base64
import os
import pty
import re
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from app.core.settings import ROOT
from tests.fixtures.shell import Ran, run_program
from tests.fixtures.valkey import free_port

pytestmark = pytest.mark.timeout(240)

BIN = Path(sys.executable).parent
TIMEOUT = 90
UNSET = (
    "REDIS_URL",
    "REDIS_HOST",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "DATABASE_URL",
    "API_HOST",
    "FLOWER_HOST",
    "FLOWER_USER",
    "FLOWER_PASSWORD",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "ENVIRONMENT",
)

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the controlling terminal of a new session, so that Ctrl-C is a signal."""


class Installation:
    """A data folder with its own ports, for a platform that is started in the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api, self.flower, self.redis = free_port(), free_port(), free_port()
        self.environment = (
            os.environ
            | dict.fromkeys(UNSET, "")
            | {
                "DATA_DIR": str(folder / "data"),
                "API_PORT": str(self.api),
                "FLOWER_PORT": str(self.flower),
                "REDIS_PORT": str(self.redis),
                "WORKER_CONCURRENCY": "2",
            }
        )

    @property
    def broker_password(self) -> str:
        """The generated password of its Valkey."""
        return (self.folder / "data" / "broker-password").read_text().strip()

    def run(self, *words: str, **environment: str) -> Ran:
        """Run `laneway` until it ends."""
        return run_program(*words, environment=self.environment | environment)

    def refused(self, **environment: str) -> tuple[int, str]:
        """Start a platform that must be refused; returns its exit code and its standard error."""
        ended = self.run("up", **environment)
        assert "Traceback" not in ended.out + ended.err
        assert "all processes are ready" not in ended.out
        return ended.code, ended.err


class RunningPlatform:
    """A running `laneway up`, its output in a file."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self._seen = installation, set[psutil.Process]()
        self.log = installation.folder / f"out-{time.monotonic_ns()}"
        with self.log.open("wb") as out:
            self.process = psutil.Popen(
                [BIN / "laneway", "up"],
                env=installation.environment,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def wait_until(self, condition: Callable[[], bool], description: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"{description}: not in time\n{self.output()}"
            assert self.process.poll() is None or condition(), f"{description}: it ended\n{self.output()}"
            time.sleep(0.05)

    def wait_until_ready(self) -> RunningPlatform:
        self.wait_until(lambda: "all processes are ready" in self.output(), "ready")
        return self

    def family(self) -> list[psutil.Process]:
        """All its descendants."""
        descendants = self.process.children(recursive=True)
        self._seen |= set(descendants)
        return descendants

    def child(self, words: str) -> psutil.Process:
        """The child whose command line contains these words."""
        return next(child for child in self.process.children() if words in _command(child))

    def end(self) -> None:
        """Kill all processes, also after a failed test."""
        if self.process.poll() is None:
            self.family()
        for process in [self.process, *self._seen]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(TIMEOUT)


@contextmanager
def running(installation: Installation) -> Generator[RunningPlatform]:
    platform = RunningPlatform(installation)
    try:
        yield platform.wait_until_ready()
    finally:
        platform.end()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningPlatform]:
    """One platform for all tests that do not stop it."""
    with running(Installation(tmp_path_factory.mktemp("up"))) as platform:
        yield platform


def web(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_every_process_starts_and_answers_at_its_printed_address(shared: RunningPlatform) -> None:
    installation, output = shared.installation, shared.output()

    assert f"api is ready: {web(installation.api)}" in output
    assert f"flower is ready: {web(installation.flower)}" in output
    assert f"broker is ready: redis://127.0.0.1:{installation.redis}" in output
    for name in ("worker", "bulk", "beat"):
        assert f"laneway | {name} is ready" in output
    assert httpx.get(f"{web(installation.api)}/health/ready").status_code == 200
    with redis.Redis(port=installation.redis, password=installation.broker_password) as client:
        assert client.ping()  # pyright: ignore[reportUnknownMemberType]
    assert "Traceback" not in output


def test_flower_requires_its_login(shared: RunningPlatform) -> None:
    installation = shared.installation
    password = (installation.folder / "data" / "flower-password").read_text().strip()
    login = base64.b64encode(f"laneway:{password}".encode()).decode()

    assert httpx.get(f"{web(installation.flower)}/workers").status_code == 401
    assert httpx.get(f"{web(installation.flower)}/api/workers").status_code == 401
    page = httpx.get(f"{web(installation.flower)}/workers", headers={"Authorization": f"Basic {login}"})
    assert page.status_code == 200
    assert password not in shared.output()


def test_all_processes_listen_on_loopback_only(shared: RunningPlatform) -> None:
    listening = [
        connection.laddr.ip
        for process in shared.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}


def test_a_second_platform_on_the_same_folder_is_refused(shared: RunningPlatform) -> None:
    code, output = shared.installation.refused()

    assert code == 1
    assert output.count("\n") == 1
    assert f"already runs on {shared.installation.folder / 'data'} (process {shared.process.pid})" in output


@pytest.mark.parametrize(("name", "words"), [("worker", "worker@"), ("broker", "valkey-server"), ("api", "uvicorn")])
def test_a_killed_process_is_restarted(shared: RunningPlatform, name: str, words: str) -> None:
    before = shared.output().count(f"laneway | {name} is ready")
    family = shared.child(words).children(recursive=True)

    shared.child(words).kill()

    shared.wait_until(lambda: shared.output().count(f"laneway | {name} is ready") > before, f"{name} again")
    assert f"{name} was killed by SIGKILL; it starts again in " in shared.output()
    assert all_gone(family)
    shared.wait_until(
        lambda: httpx.get(f"{web(shared.installation.api)}/health/ready").status_code == 200, "ready again"
    )
    if name == "worker":  # the attempts that it lost say so
        with closing(sqlite3.connect(shared.installation.folder / "data" / "laneway.db")) as connection:
            ends = connection.execute(
                "SELECT ended FROM workers WHERE name LIKE 'worker@%' ORDER BY started_at"
            ).fetchall()
        assert ends == [("was killed by SIGKILL",), (None,)]


def test_a_taken_port_is_reported_with_its_setting(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", installation.redis)):
        code, output = installation.refused()

    assert code == 1
    assert output.startswith(f"Port {installation.redis} on 127.0.0.1 is taken by another program")
    assert "set REDIS_PORT to a free port" in output
    assert "REDIS_URL" in output


def test_an_unreachable_redis_is_reported_without_its_password(installation: Installation) -> None:
    began = time.monotonic()
    code, output = installation.refused(REDIS_URL=f"redis://user:pa55-word@127.0.0.1:{free_port()}")

    assert code == 1
    assert output.startswith("REDIS_URL names redis://127.0.0.1:")
    assert "pa55-word" not in output
    assert time.monotonic() - began < 30


def test_an_unreachable_database_is_reported_without_its_password(installation: Installation) -> None:
    code, output = installation.refused(DATABASE_URL=f"postgresql://user:pa55-word@127.0.0.1:{free_port()}/laneway")

    assert code == 1
    assert output.startswith("DATABASE_URL names postgresql://127.0.0.1:")
    assert "pa55-word" not in output


def test_invalid_settings_are_reported_with_exit_code_2(installation: Installation) -> None:
    code, output = installation.refused(API_PORT="many")

    assert code == 2
    assert "API_PORT" in output


def test_down_reports_that_nothing_runs(installation: Installation) -> None:
    ended = installation.run("down")

    assert ended.code == 0
    assert "nothing runs on" in ended.out


def test_a_killed_platform_leaves_no_process_behind_and_ctrl_c_stops_the_next_one_in_order_without_noise(
    shared: RunningPlatform,
) -> None:
    """The last test of the shared platform. tests/acceptance/test_production.py stops one with `laneway down`."""
    installation = shared.installation
    with redis.Redis(port=installation.redis, db=9, password=installation.broker_password) as client:
        client.set("accepted", "yes")
    family = shared.family()
    assert len(family) >= 6 + 3  # six processes, and the pools of both workers

    shared.process.kill()

    assert all_gone(family)
    with at_a_terminal(installation, "make", "-o", "install", f"VENV={sys.prefix}", "up") as (process, terminal):
        output = read_until(terminal, "all processes are ready")
        with redis.Redis(port=installation.redis, db=9, password=installation.broker_password) as client:
            assert client.get("accepted") == b"yes"
        family = process.children(recursive=True)

        os.write(terminal, b"\x03")
        output += read_until(terminal, None)

        process.wait(TIMEOUT)
    stopped = re.findall(r"^laneway \| (\w+) stopped\r?$", output, re.MULTILINE)
    assert [name for name in stopped if name not in ("worker", "bulk")] == ["api", "beat", "flower", "broker"]
    assert sorted(stopped[3:5]) == ["bulk", "worker"]
    assert not re.search(r"Traceback|KeyboardInterrupt|make:", output)
    assert all_gone(family)


@contextmanager
def at_a_terminal(installation: Installation, *argv: str) -> Generator[tuple[psutil.Popen, int]]:
    """Run a command at its own terminal, in the project's folder; yields the process and our end of the terminal."""
    ours, theirs = pty.openpty()
    process = psutil.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *argv],
        env=installation.environment | {"TERM": "dumb"},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        for member in [process, *process.children(recursive=True)] if process.poll() is None else []:
            member.kill()
        process.wait(TIMEOUT)
        os.close(ours)


def read_until(terminal: int, text: str | None) -> str:
    """The output of a terminal up to a text or, with None, up to its end."""
    seen, deadline = b"", time.monotonic() + TIMEOUT
    while text is None or text.encode() not in seen:
        assert time.monotonic() < deadline, seen.decode("utf-8", "replace")
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # Linux raises it when the last program at the terminal has ended
            chunk = b""
        if not chunk:
            break
        seen += chunk
    return seen.decode("utf-8", "replace")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it ended meanwhile
        return ""
