"""The table of parts, and the files that must say the same."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.core.queues import QUEUES, WORKERS
from app.core.settings import ROOT, Settings
from laneway.server.probes import address
from laneway.server.processes import broker, parts, program
from tests.laneway.server.conftest import MakeSettings

PREPARED = "laneway prepare && exec "
ALL_ADDRESSES = ".".join("0000")


def expanded(text: str, environment: dict[str, str]) -> str:
    """`${NAME:-default}` as a shell and docker-compose expand it."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1]) or match[2], text)


def commands(settings: Settings) -> dict[str, list[str]]:
    return {part.name: list(part.argv) for part in parts(settings)}


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(re.split(r":\s+", line, maxsplit=1) for line in lines if not line.startswith("#"))  # pyright: ignore


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def aliases() -> dict[str, Any]:
    groups = [field.annotation for field in Settings.model_fields.values()]
    return {field.alias: field.default for group in groups for field in group.model_fields.values()}  # pyright: ignore


@pytest.mark.parametrize("environment", [{}, {"WORKER_CONCURRENCY": "7", "API_PORT": "8123", "API_HOST": "127.0.0.2"}])
def test_the_procfile_starts_the_same_parts(make_settings: MakeSettings, environment: dict[str, str]) -> None:
    expected = commands(make_settings(**({"API_PORT": "8000", "FLOWER_PORT": "5555"} | environment)))

    lines = procfile()

    assert lines.pop("broker") == "exec laneway broker"
    assert all(line.startswith(PREPARED) for line in lines.values())
    assert {
        name: shlex.split(expanded(line.removeprefix(PREPARED), environment)) for name, line in lines.items()
    } == expected


@pytest.mark.parametrize("environment", [{}, {"WORKER_CONCURRENCY": "7"}])
def test_docker_compose_starts_the_same_parts(make_settings: MakeSettings, environment: dict[str, str]) -> None:
    expected = commands(make_settings(API_HOST=ALL_ADDRESSES, API_PORT="8000", **environment))

    services = compose()["services"]

    assert services.pop("broker")["command"][0] == "valkey-server"
    for name, service in services.items():
        shell, option, line = service["command"]
        assert (shell, option) == ("sh", "-c")
        assert shlex.split(expanded(line.removeprefix(PREPARED), environment)) == expected.pop(name)
        assert line.startswith(PREPARED)
        assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "laneway.server.health", name]
    assert not expected


def test_the_image_starts_the_api_by_itself(make_settings: MakeSettings) -> None:
    command = (ROOT / "Dockerfile").read_text().rpartition("CMD ")[2]

    api = commands(make_settings(API_HOST=ALL_ADDRESSES, API_PORT="8000"))["api"]
    assert json.loads(command) == ["sh", "-c", PREPARED + shlex.join(api)]


def test_containers_are_published_on_loopback_only() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]

    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_containers_broker_keeps_what_ours_keeps() -> None:
    words = compose()["services"]["broker"]["command"][1:]

    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--databases": "16",
        "--maxmemory-policy": "noeviction",
        "--protected-mode": "no",
    }


def test_containers_know_every_setting_that_makes_sense_in_them() -> None:
    environment = compose()["x-part"]["environment"]

    elsewhere = {"REDIS_HOST", "REDIS_PORT", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
    assert set(environment) == set(aliases()) - elsewhere


def test_the_example_of_settings_has_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(line.removeprefix("#").split("=", 1) for line in lines if re.match(r"#\w+=", line))

    assert all(line.startswith("#") for line in lines if line)  # copied as it is, it changes nothing
    plain = {None: "", True: "true", False: "false"}
    assert shown == {
        name: plain[default] if default is None or isinstance(default, bool) else str(default)
        for name, default in aliases().items()
    }


def test_every_queue_has_a_worker_and_only_one(make_settings: MakeSettings) -> None:
    served = [queue for group in WORKERS for queue in group.queues]

    assert sorted(served) == sorted(QUEUES)
    assert [part.name for part in parts(make_settings())] == ["worker", "bulk", "beat", "api", "flower"]


def test_parts_stop_from_the_api_down_to_the_broker(make_settings: MakeSettings) -> None:
    settings = make_settings()
    ours = broker(settings)
    assert ours is not None

    ranked = sorted([ours, *parts(settings)], key=lambda part: part.stopping.rank)

    assert [part.name for part in ranked] == ["api", "beat", "flower", "worker", "bulk", "broker"]


def test_no_broker_of_our_own_beside_a_named_server(make_settings: MakeSettings) -> None:
    assert broker(make_settings(REDIS_URL="redis://127.0.0.1:1")) is None


def test_programs_are_those_installed_with_us() -> None:
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
def test_an_address_can_be_opened_from_this_machine(host: str, shown: str) -> None:
    assert address(host, 80) == shown
