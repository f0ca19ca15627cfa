"""The table of processes, and the files that must start the same processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from app.core.queues import QUEUES, WORKERS
from app.core.settings import ROOT, Settings
from laneway.server.probes import web_address
from laneway.server.processes import broker, processes, program, worker_command, worker_groups
from laneway.server.valkey import find_binary, server_pid
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until
from tests.laneway.server.conftest import MakeSettings

PREPARED = "laneway prepare && exec "
WITH_KEYS = "laneway keys create --if-missing && " + PREPARED
"""In containers, which run in production: their messages are signed."""
ALL_ADDRESSES = ".".join("0000")


def expand(text: str, environment: dict[str, str]) -> str:
    """`${NAME:-default}` as a shell and docker-compose expand it."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1]) or match[2], text)


def argv(settings: Settings) -> dict[str, list[str]]:
    """The commands that `laneway up` executes, by the name of the process."""
    return {process.name: list(process.argv) for process in processes(settings)}


def commands(settings: Settings) -> dict[str, list[str]]:
    """The commands that Procfile and containers must use: workers by the name of their group."""
    workers = {group.name: ["laneway", "worker", "--group", group.name] for group in WORKERS}
    return argv(settings) | workers


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(re.split(r":\s+", line, maxsplit=1) for line in lines if not line.startswith("#"))  # pyright: ignore


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def aliases() -> dict[str, Any]:
    groups = [field.annotation for field in Settings.model_fields.values()]
    return {field.alias: field.default for group in groups for field in group.model_fields.values()}  # pyright: ignore


def test_the_image_has_every_package_that_a_process_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    modules = [name for name in project["tool"]["laneway"].values() if ":" in name]
    parts = {re.split(r"[.:]", name)[0] for name in modules} | {
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "requirements"}

    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert parts >= {"app", "laneway"}
    assert let_through >= parts | files | {"beat_schedule.py", "flowerconfig.py"}


@pytest.mark.parametrize("environment", [{}, {"WORKER_CONCURRENCY": "7", "API_PORT": "8123", "API_HOST": "127.0.0.2"}])
def test_the_procfile_starts_the_same_processes(make_settings: MakeSettings, environment: dict[str, str]) -> None:
    expected = commands(make_settings(**({"API_PORT": "8000", "FLOWER_PORT": "5555"} | environment)))

    lines = procfile()

    assert lines.pop("broker") == "exec laneway broker"
    assert all(line.startswith(PREPARED) for line in lines.values())
    assert {
        name: shlex.split(expand(line.removeprefix(PREPARED), environment)) for name, line in lines.items()
    } == expected


@pytest.mark.parametrize("environment", [{}, {"WORKER_CONCURRENCY": "7"}])
def test_docker_compose_starts_the_same_processes(make_settings: MakeSettings, environment: dict[str, str]) -> None:
    expected = commands(make_settings(AUTHENTICATION="on", API_HOST=ALL_ADDRESSES, API_PORT="8000", **environment))

    services = compose()["services"]

    assert "exec docker-entrypoint.sh valkey-server " in services.pop("broker")["command"][-1]
    for name, service in services.items():
        shell, option, line = service["command"]
        assert (shell, option) == ("sh", "-c")
        assert shlex.split(expand(line.removeprefix(WITH_KEYS), environment)) == expected.pop(name)
        assert line.startswith(WITH_KEYS)
        assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "laneway.server.health", name]
    assert not expected


def test_the_image_starts_the_api_by_default(make_settings: MakeSettings) -> None:
    command = (ROOT / "Dockerfile").read_text().rpartition("CMD ")[2]

    api = commands(make_settings(AUTHENTICATION="on", API_HOST=ALL_ADDRESSES, API_PORT="8000"))["api"]
    assert json.loads(command) == ["sh", "-c", PREPARED + shlex.join(api)]


def test_containers_publish_their_ports_on_loopback_only() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]

    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_broker_container_persists_what_the_embedded_broker_persists() -> None:
    command = compose()["services"]["broker"]["command"][-1]
    words = shlex.split(command.partition("exec ")[2])[3:]

    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--databases": "16",
        "--maxmemory-policy": "noeviction",
        "--protected-mode": "yes",
    }


def test_the_broker_container_asks_for_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    command = compose()["services"]["broker"]["command"][-1].replace("$$", "$").replace("/data/", f"{tmp_path}/")
    (tmp_path / "docker-entrypoint.sh").write_text('#!/bin/sh\nshift; exec "$@"\n')
    (tmp_path / "docker-entrypoint.sh").chmod(0o755)
    port = free_port()
    line = (
        command.replace("valkey-server", "valkey-server " + str(find_binary()), 1) + f" --port {port} --bind 127.0.0.1"
    )
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": "pl4nted-password"}
    server = psutil.Popen(["sh", "-c", line], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: server_pid("127.0.0.1", port, password="pl4nted-password") == server.pid, seconds=10)
        assert server_pid("127.0.0.1", port) is None
        assert "pl4nted-password" not in " ".join(server.cmdline())
        assert (tmp_path / "password.conf").stat().st_mode & 0o077 == 0
    finally:
        server.kill()
        server.wait()


def test_containers_receive_every_setting_that_applies_to_them() -> None:
    environment = compose()["x-process"]["environment"]

    not_in_containers = {"REDIS_HOST", "REDIS_PORT", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "BROKER_MAX_MEMORY"}
    assert set(environment) == set(aliases()) - not_in_containers


def test_env_example_lists_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(line.removeprefix("#").split("=", 1) for line in lines if re.match(r"#\w+=", line))

    assert all(line.startswith("#") for line in lines if line)  # an unchanged copy changes nothing
    plain = {"None": "", "()": "", "PydanticUndefined": "", "True": "true", "False": "false"}  # factories
    assert shown == {name: plain.get(str(default), str(default)) for name, default in aliases().items()}


def test_every_queue_is_served_by_exactly_one_worker_group(make_settings: MakeSettings) -> None:
    served = [queue for group in WORKERS for queue in group.queues]

    assert sorted(served) == sorted(QUEUES)
    assert [process.name for process in processes(make_settings())] == ["worker", "bulk", "beat", "api", "flower"]


def test_up_starts_one_worker_for_each_declared_group(make_settings: MakeSettings) -> None:
    settings = make_settings(WORKER_CONCURRENCY="7")
    started = argv(settings)

    assert worker_groups() == WORKERS
    for group in WORKERS:
        assert started[group.name] == list(worker_command(settings, group))
        assert started[group.name][started[group.name].index("-Q") + 1] == ",".join(group.queues)
        assert started[group.name][started[group.name].index("-c") + 1] == str(group.concurrency or 7)


def test_each_worker_and_beat_get_a_port_of_their_own_for_probes(make_settings: MakeSettings) -> None:
    assert {each.probe_port for each in processes(make_settings())} == {None}

    ports = {each.name: each.probe_port for each in processes(make_settings(PROBE_PORT="9808"))}

    assert ports == {"worker": 9808, "bulk": 9809, "beat": 9810, "api": None, "flower": None}


def test_processes_stop_from_the_api_down_to_the_broker(make_settings: MakeSettings) -> None:
    settings = make_settings()
    embedded = broker(settings)
    assert embedded is not None

    ranked = sorted([embedded, *processes(settings)], key=lambda process: process.stopping.rank)

    assert [process.name for process in ranked] == ["api", "beat", "flower", "worker", "bulk", "broker"]


def test_up_starts_no_broker_when_redis_url_is_set(make_settings: MakeSettings) -> None:
    assert broker(make_settings(REDIS_URL="redis://127.0.0.1:1")) is None


def test_a_program_beside_our_python_is_preferred() -> None:
    assert Path(program("celery")).is_absolute()
    assert program("no-such-program-here") == "no-such-program-here"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        (ALL_ADDRESSES, "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_a_web_address_can_be_opened_from_this_machine(host: str, shown: str) -> None:
    assert web_address(host, 80) == shown
