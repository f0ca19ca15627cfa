"""`laneway up` as a person runs it: real processes, in a data folder and on ports of their own."""

from __future__ import annotations

import base64
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from app.core.settings import ROOT
from tests.fixtures.valkey import free_port

pytestmark = pytest.mark.timeout(240)

BIN = Path(sys.executable).parent
PATIENCE = 90
IN_ORDER = ["api", "beat", "flower", "worker", "bulk", "broker"]
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


class Place:
    """A data folder with ports of its own, in which the platform is started."""

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

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `laneway` to its end."""
        return subprocess.run(
            [BIN / "laneway", *words],
            env=self.environment | environment,
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def refused(self, **environment: str) -> tuple[int, str]:
        """Start the platform, which must not work; its exit code and what it said on standard error."""
        ended = self.run("up", **environment)
        assert "Traceback" not in ended.stdout + ended.stderr
        assert "all processes are ready" not in ended.stdout
        return ended.returncode, ended.stderr


class Platform:
    """A running `laneway up`, its output in a file."""

    def __init__(self, place: Place) -> None:
        self.place, self._met = place, set[psutil.Process]()
        self.output = place.folder / f"out-{time.monotonic_ns()}"
        with self.output.open("wb") as out:
            self.process = psutil.Popen(
                [BIN / "laneway", "up"],
                env=place.environment,
                cwd=place.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"{what}: not in time\n{self.said()}"
            assert self.process.poll() is None or true(), f"{what}: it ended\n{self.said()}"
            time.sleep(0.05)

    def until_ready(self) -> Platform:
        self.until(lambda: "all processes are ready" in self.said(), "ready")
        return self

    def family(self) -> list[psutil.Process]:
        """Every process that it started, and those that they started."""
        found = self.process.children(recursive=True)
        self._met |= set(found)
        return found

    def part(self, name: str) -> psutil.Process:
        """The process of a part, found by its place in the command line."""
        return next(child for child in self.process.children() if name in _command(child))

    def stopped(self) -> list[str]:
        return re.findall(r"^laneway \| (\w+) stopped$", self.said(), re.MULTILINE)

    def end(self) -> None:
        """Leave nothing, also after a failed test."""
        if self.process.poll() is None:
            self.family()
        for process in [self.process, *self._met]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(PATIENCE)


@contextmanager
def running(place: Place) -> Generator[Platform]:
    platform = Platform(place)
    try:
        yield platform.until_ready()
    finally:
        platform.end()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """One platform for the tests that leave it running."""
    with running(Place(tmp_path_factory.mktemp("up"))) as platform:
        yield platform


def web(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_everything_starts_and_answers_where_it_says(shared: Platform) -> None:
    place, said = shared.place, shared.said()

    assert f"api is ready: {web(place.api)}" in said
    assert f"flower is ready: {web(place.flower)}" in said
    assert f"broker is ready: redis://127.0.0.1:{place.redis}" in said
    for name in ("worker", "bulk", "beat"):
        assert f"laneway | {name} is ready" in said
    assert httpx.get(f"{web(place.api)}/health/ready").status_code == 200
    with redis.Redis(port=place.redis) as client:
        assert client.ping()  # pyright: ignore[reportUnknownMemberType]
    assert "Traceback" not in said


def test_flower_wants_its_login(shared: Platform) -> None:
    place = shared.place
    password = (place.folder / "data" / "flower-password").read_text().strip()
    login = base64.b64encode(f"laneway:{password}".encode()).decode()

    assert httpx.get(f"{web(place.flower)}/workers").status_code == 401
    assert httpx.get(f"{web(place.flower)}/api/workers").status_code == 401
    page = httpx.get(f"{web(place.flower)}/workers", headers={"Authorization": f"Basic {login}"})
    assert page.status_code == 200
    assert password not in shared.said()


def test_nothing_listens_but_on_loopback(shared: Platform) -> None:
    listening = [
        connection.laddr.ip
        for process in shared.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}


def test_a_second_one_on_the_same_folder_is_refused(shared: Platform) -> None:
    code, said = shared.place.refused()

    assert code == 1
    assert said.count("\n") == 1
    assert f"already runs on {shared.place.folder / 'data'} (process {shared.process.pid})" in said


@pytest.mark.parametrize(("part", "sign"), [("worker", "worker@"), ("broker", "valkey-server"), ("api", "uvicorn")])
def test_a_part_that_is_killed_comes_back(shared: Platform, part: str, sign: str) -> None:
    before = shared.said().count(f"laneway | {part} is ready")
    family = shared.part(sign).children(recursive=True)

    shared.part(sign).kill()

    shared.until(lambda: shared.said().count(f"laneway | {part} is ready") > before, f"{part} again")
    assert f"{part} was killed by SIGKILL; it starts again in " in shared.said()
    assert all_gone(family)
    shared.until(lambda: httpx.get(f"{web(shared.place.api)}/health/ready").status_code == 200, "all well again")


@pytest.mark.parametrize(("name", "setting"), [("api", "API_PORT"), ("flower", "FLOWER_PORT"), ("redis", "REDIS_PORT")])
def test_a_taken_port_is_said(place: Place, name: str, setting: str) -> None:
    port = getattr(place, name)
    with socket.create_server(("127.0.0.1", port)):
        code, said = place.refused()

    assert code == 1
    assert said.startswith(f"Port {port} on 127.0.0.1 is taken by another program")
    assert f"set {setting} to a free port" in said
    assert ("REDIS_URL" in said) == (setting == "REDIS_PORT")


def test_a_redis_out_of_reach_is_said_without_its_password(place: Place) -> None:
    begun = time.monotonic()
    code, said = place.refused(REDIS_URL=f"redis://user:pa55-word@127.0.0.1:{free_port()}")

    assert code == 1
    assert said.startswith("REDIS_URL names redis://127.0.0.1:")
    assert "pa55-word" not in said
    assert time.monotonic() - begun < 30


def test_a_database_out_of_reach_is_said_without_its_password(place: Place) -> None:
    code, said = place.refused(DATABASE_URL=f"postgresql://user:pa55-word@127.0.0.1:{free_port()}/laneway")

    assert code == 1
    assert said.startswith("DATABASE_URL names postgresql://127.0.0.1:")
    assert "pa55-word" not in said


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"API_PORT": "many"}, "API_PORT"),
        ({"REDIS_DB_BROKER": "1"}, "REDIS_DB_BROKER and REDIS_DB_BACKEND must differ"),
        ({"REDIS_HOST": "cache.internal"}, "set REDIS_URL"),
        ({"REDIS_URL": "redis://:pa/55@127.0.0.1"}, "percent-encoded"),
    ],
)
def test_wrong_settings_are_said_and_end_with_2(place: Place, environment: dict[str, str], words: str) -> None:
    code, said = place.refused(**environment)

    assert code == 2
    assert words in said


def test_down_says_when_nothing_runs(place: Place) -> None:
    ended = place.run("down")

    assert ended.returncode == 0
    assert "nothing runs on" in ended.stdout


def test_killed_with_9_it_leaves_nothing_behind_and_the_next_one_starts_and_is_stopped_by_down(place: Place) -> None:
    with running(place) as first:
        with redis.Redis(port=place.redis, db=9) as client:
            client.set("accepted", "yes")
        family = first.family()
        assert len(family) >= 6 + 3  # six parts, and the processes of both workers' pools

        first.process.kill()

        assert all_gone(family)
    with running(place) as second:
        with redis.Redis(port=place.redis, db=9) as client:
            assert client.get("accepted") == b"yes"
        family = second.family()
        ended = place.run("down")

        assert ended.returncode == 0, ended.stderr
        assert second.process.wait(PATIENCE) == 0
        assert all_gone(family)
        assert sorted(second.stopped()) == sorted(IN_ORDER)


def test_ctrl_c_in_a_terminal_stops_make_up_in_order_and_quietly(place: Place) -> None:
    with at_a_terminal(place, "make", "-o", "install", f"VENV={sys.prefix}", "up") as (process, terminal):
        said = read_until(terminal, "all processes are ready")
        family = process.children(recursive=True)

        os.write(terminal, b"\x03")
        said += read_until(terminal, None)

        process.wait(PATIENCE)
    stopped = re.findall(r"^laneway \| (\w+) stopped\r?$", said, re.MULTILINE)
    assert [name for name in stopped if name not in ("worker", "bulk")] == ["api", "beat", "flower", "broker"]
    assert sorted(stopped[3:5]) == ["bulk", "worker"]
    assert not re.search(r"Traceback|KeyboardInterrupt|make:", said)
    assert all_gone(family)


def test_sigterm_ends_with_0_in_order(place: Place) -> None:
    with running(place) as platform:
        family = platform.family()

        platform.process.send_signal(signal.SIGTERM)

        assert platform.process.wait(PATIENCE) == 0
        assert platform.stopped()[:3] == IN_ORDER[:3]
        assert platform.stopped()[-1] == "broker"
        assert all_gone(family)
        assert "Traceback" not in platform.said()


@contextmanager
def at_a_terminal(place: Place, *argv: str) -> Generator[tuple[psutil.Popen, int]]:
    """A command at a terminal of its own, in the project's folder; and our end of that terminal."""
    ours, theirs = pty.openpty()
    process = psutil.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *argv],
        env=place.environment | {"TERM": "dumb"},
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
        for one in [process, *process.children(recursive=True)] if process.poll() is None else []:
            one.kill()
        process.wait(PATIENCE)
        os.close(ours)


def read_until(terminal: int, text: str | None) -> str:
    """What a terminal shows, until a text comes or, with None, until it is closed."""
    seen, deadline = b"", time.monotonic() + PATIENCE
    while text is None or text.encode() not in seen:
        assert time.monotonic() < deadline, seen.decode("utf-8", "replace")
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # Linux says so when the last program at the terminal is gone
            chunk = b""
        if not chunk:
            break
        seen += chunk
    return seen.decode("utf-8", "replace")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it ended between being listed and being asked
        return ""
