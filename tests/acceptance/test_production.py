"""A project as `laneway new` writes it, in production: keys, tokens, passwords. One start for all checks.

It does what docs/security/index.md says.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
import redis

from app.core.settings import ROOT
from laneway.engine import Engine, Message
from tests.fixtures.shell import run_program
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("production")]

SECONDS = 240
"""For the start on a busy machine."""
GREET = ("submit", "greet", "--payload", '{"name": "Ada"}', "--wait")


class Production:
    """A project, and the environment of a stranger who has nothing but HOME and PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.ports = folder / "shop", folder / "up.log", [free_port() for _ in range(3)]
        self.url = f"http://localhost:{self.ports[0]}"
        self._environment = {
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *words: str, folder: Path | None = None, code: int = 0, **more: str) -> str:
        """Run `laneway …`; its output. Fails with the output when the exit code is another one."""
        ran = run_program(*words, environment=self._environment | more, folder=folder or self.folder)
        assert ran.code == code, (ran.out + ran.err)[-4000:]
        return ran.out if code == 0 else ran.err

    def start(self) -> None:
        """Start `laneway up`."""
        with self.log.open("wb") as out:
            argv = [sys.executable, "-m", "laneway.cli.main", "up"]
            self.process = psutil.Popen(argv, cwd=self.folder, env=self._environment, stdout=out, stderr=out)

    def configure(self, *lines: str) -> None:
        """Add lines to `.env`."""
        with (self.folder / ".env").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    @property
    def output(self) -> str:
        """What `laneway up` has written."""
        return self.log.read_text("utf-8", "replace")

    @property
    def broker(self) -> str:
        """The broker's address, with its password."""
        password = (self.folder / "data" / "broker-password").read_text("utf-8").strip()
        return f"redis://:{quote(password, safe='')}@127.0.0.1:{self.ports[2]}/0"

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        """Ask the API."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(self.url + path, headers=headers, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """The running project."""
    folder = tmp_path_factory.mktemp("production")
    made = Production(folder)
    made.run("new", "shop", folder=folder)
    ports = (f"{name}={port}" for name, port in zip(("API_PORT", "FLOWER_PORT", "REDIS_PORT"), made.ports, strict=True))
    made.configure("ENVIRONMENT=production", *ports)
    refused = made.run("up", code=2)
    assert "KEY_RING_FILE" in refused and "laneway keys create" in refused
    assert "broker is ready" not in refused, "nothing was started"
    made.configure("KEY_RING_FILE=data/keys.json")
    made.run("keys", "create")
    made.start()
    try:
        wait_until(lambda: "all processes are ready" in made.output, seconds=SECONDS)
        yield made
    except AssertionError as error:
        raise AssertionError(f"{error}\n{made.output[-6000:]}") from None
    finally:
        if made.process.poll() is None:
            made.run("down")
        made.process.wait(30)


@pytest.fixture(scope="module")
def token(shop: Production) -> str:
    """A token for a program that submits and reads."""
    made = shop.run("tokens", "create", "ci", "--scope", "tasks:submit", "--scope", "tasks:read")
    return made.strip()


def test_nobody_gets_in_without_a_token_and_a_probe_learns_no_more_than_whether_it_is_ready(shop: Production) -> None:
    for path in ("/tasks", "/stats", "/docs", "/openapi.json", "/audit-log", "/nothing"):
        assert shop.get(path).status_code == 401, path
        assert shop.get(path, "laneway_x").status_code == 401, path
    assert shop.get("/health/live").json() == {"status": "ok"}
    assert shop.get("/health/ready").json() == {"status": "ready"}
    assert "wants a token" in shop.run("--url", shop.url, *GREET, code=4)


def test_a_task_is_submitted_from_elsewhere_and_runs_in_a_pool_process(shop: Production, token: str) -> None:
    shown = shop.run("--url", shop.url, *GREET, LANEWAY_TOKEN=token)

    assert '"greeting": "Hello, Ada"' in shown
    id = re.search(r"task_id +(\S+)", shown)
    assert id, shown
    done = shop.get(f"/tasks/{id[1]}", token).json()
    assert (done["status"], done["worker"].split("@")[0]) == ("completed", "worker")
    assert shop.get("/audit-log", token).status_code == 403, "a token has no more than its scopes"


def test_what_the_platform_has_not_signed_never_runs(shop: Production, token: str) -> None:
    engine = Engine.from_url(shop.broker)
    body = b'[[], {"name": "Eve"}, {}]'
    engine.put("default", Message(task_id="forged-1", name="greet", body=body))
    engine.close()

    def forged() -> dict[str, Any]:
        return shop.get("/dead-letters", token).json()

    wait_until(lambda: "forged-1" in json.dumps(forged()), seconds=60)
    assert "signed" in json.dumps(forged())


def test_the_broker_has_a_password(shop: Production) -> None:
    with redis.Redis(port=shop.ports[2]) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(shop.broker) as ours:
        assert ours.ping()


def test_the_audit_log_holds_and_names_who_did_what(shop: Production, token: str) -> None:
    assert "as they were written" in shop.run("audit-log", "verify")
    entries = json.loads(shop.run("audit-log", "list", "--json"))

    found = {(entry["action"], entry["object_id"], entry["caller_kind"]) for entry in entries}
    assert ("token.create", "ci", "command") in found
    assert "anonymous" not in {kind for _, _, kind in found}
    assert token not in json.dumps(entries)


def test_no_file_and_no_output_shows_a_secret(shop: Production, token: str) -> None:
    data = shop.folder / "data"
    secrets = [(data / name).read_text("utf-8").strip() for name in ("broker-password", "flower-password")]
    ring = json.loads((data / "keys.json").read_text("utf-8"))
    secrets += [token, *(str(value) for key in ring["keys"] for name, value in key.items() if "secret" in name)]

    assert len(secrets) >= 4
    assert data.stat().st_mode & 0o007 == 0
    assert [secret for secret in secrets if secret in shop.output] == []


def test_down_stops_every_process_in_order(shop: Production) -> None:
    """The last test of the running project."""
    family, before = shop.process.children(recursive=True), len(shop.output)
    assert len(family) >= 6

    shop.run("down")

    assert shop.process.wait(90) == 0
    assert not [process for process in psutil.wait_procs(family, timeout=20)[1] if process.is_running()]
    written = shop.output[before:]
    stopped = re.findall(r"^laneway \| (\w+) stopped$", written, re.MULTILINE)
    assert [name for name in stopped if name not in ("worker", "bulk")] == ["api", "beat", "flower", "broker"]
    assert set(stopped[3:-1]) <= {"worker", "bulk"}
    assert stopped[3:-1]
    assert "Traceback" not in written
