"""The platform for the load: `laneway up` with default settings in a new folder, on free ports."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2

from app.core.settings import ROOT, Settings

READY_SECONDS = 120


@contextmanager
def running(folder: Path, *, database: str | None) -> Generator[dict[str, str]]:
    """Run a platform; yields its environment, and stops it in order at the end."""
    environment = _environment(folder, database)
    log = folder / "platform.log"
    with log.open("wb") as output:
        argv = [Path(sys.executable).parent / "laneway", "up"]
        platform = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _wait_until_ready(environment, platform, log)
            yield environment
        finally:
            platform.terminate()
            platform.wait(120)


def base_url(environment: dict[str, str]) -> str:
    """The URL of its API."""
    return f"http://127.0.0.1:{environment['API_PORT']}"


def _environment(folder: Path, database: str | None) -> dict[str, str]:
    groups: list[Any] = [field.annotation for field in Settings.model_fields.values()]
    known = {str(field.alias).upper() for group in groups for field in group.model_fields.values()}
    plain = {name: value for name, value in os.environ.items() if name.upper() not in known}
    redis, api, flower = _free_ports(3)
    own = {
        "DATA_DIR": str(folder / "data"),
        "REDIS_PORT": str(redis),
        "API_PORT": str(api),
        "FLOWER_PORT": str(flower),
        "FACEBOOK_APP_SECRET": secrets.token_urlsafe(16),
        "LOG_LEVEL": "WARNING",
    }
    return plain | own | ({"DATABASE_URL": database} if database else {})


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _wait_until_ready(environment: dict[str, str], platform: subprocess.Popen[bytes], log: Path) -> None:
    deadline = monotonic() + READY_SECONDS
    while not _is_ready(environment):
        if platform.poll() is not None or monotonic() > deadline:
            raise SystemExit(f"The platform could not be started:\n{log.read_text('utf-8', 'replace')[-3000:]}")
        sleep(0.2)


def _is_ready(environment: dict[str, str]) -> bool:
    """Whether the API answers and every queue has a worker."""
    try:
        response = httpx2.get(f"{base_url(environment)}/conversations/tasks/queues/status", timeout=5)
    except httpx2.HTTPError:
        return False
    return response.status_code == 200 and all(queue["workers"] for queue in response.json()["queues"].values())
