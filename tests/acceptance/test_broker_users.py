"""The whole platform under the users of `laneway broker users`, over TLS: each may do what it needs, and no more."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from typing import Any

import httpx
import psutil
import pytest
import redis
from redis.exceptions import NoPermissionError

from app.core.settings import ROOT
from laneway.schemas.task import TaskState
from laneway.server.broker_users import RIGHTS
from laneway.server.valkey import server_argv
from tests.fixtures.certificates import self_signed
from tests.fixtures.site import APP, START_SECONDS, Site
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until
from tests.laneway.engine.servers import tls_front

FAST_APP = "tests.fixtures.fast_beat:celery_app"
FOREIGN = "notes-of-another-application"
"""A list in the same database, which nobody of the platform may read."""
PASSWORD = "pl4nted-admin-password"
"""The password of the server's administrator."""


class Guarded(Site):
    """A site whose processes each have a user of their own on a broker with TLS."""

    def users(self, *options: str) -> None:
        """Run `laneway broker users` with the administrator's login."""
        ran = subprocess.run(
            [sys.executable, "-m", "laneway.cli.main", "broker", "users", *options],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        assert "laneway-beat" in ran.stdout and "forgets" not in ran.stdout

    def settings_of(self, role: str) -> dict[str, str]:
        """The settings of one role, as its file has them."""
        file = self.folder / "data" / "broker-users" / f"{role}.env"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        return {"REDIS_URL": ""} | dict(line.split("=", 1) for line in file.read_text().splitlines())

    def client(self, role: str) -> Any:
        return redis.Redis.from_url(self.settings_of(role)["CELERY_BROKER_URL"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    users = folder / "users.acl"
    users.write_text(f"user default on >{PASSWORD} ~* &* +@all\n")
    port = free_port()
    server = psutil.Popen(server_argv(folder, port=port, users=users), stdout=subprocess.DEVNULL)
    certificate, key = self_signed(folder, name="127.0.0.1", alternative="IP:127.0.0.1")
    try:
        with tls_front(port, certificate, key) as secure:
            query = f"?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
            site = Guarded(folder, REDIS_URL=f"rediss://:{PASSWORD}@127.0.0.1:{secure}/0{query}")
            try:
                site.users()
                yield site
            finally:
                site.close()
    finally:
        server.kill()
        server.wait()


def test_the_whole_platform_runs_under_its_users(guarded: Guarded) -> None:
    guarded.start("api", "uvicorn", "app.main:app", "--port", str(guarded.api_port), **guarded.settings_of("api"))
    worker = guarded.begin_worker(
        "w", queues="conversations,analytics,maintenance", app=APP, **guarded.settings_of("worker")
    )
    beat = guarded.start("beat", "celery", "-A", FAST_APP, "beat", "-l", "INFO", **guarded.settings_of("beat"))
    flower = guarded.start("flower", "celery", "-A", APP, "flower", **guarded.settings_of("flower"))
    guarded.until_reported(worker)
    wait_until(guarded.api_answers, seconds=START_SECONDS)

    accepted = guarded.post("/conversations/message", {"conversation_id": "c-1", "message": "Hello"})

    assert guarded.until(accepted["task_id"]).state == TaskState.COMPLETED
    wait_until(lambda: "Sending due task tick" in beat.output(), seconds=START_SECONDS)
    login = ("laneway", (guarded.folder / "data" / "flower-password").read_text().strip())

    def flower_shows(path: str, text: str) -> bool:
        try:
            return text in httpx.get(f"http://127.0.0.1:{guarded.flower_port}{path}", auth=login, timeout=10).text
        except httpx.HTTPError:
            return False

    wait_until(lambda: flower_shows("/workers", "w@"), seconds=START_SECONDS)
    wait_until(lambda: flower_shows("/broker", "conversations"), seconds=20)
    with redis.Redis.from_url(guarded.environment["REDIS_URL"]) as admin:
        admin.lpush(FOREIGN, "x")
    stats = cli(guarded, "stats")
    assert "conversations" in stats
    for node in (worker, beat, flower):
        assert "NOPERM" not in node.output() and "permission" not in node.output().lower(), node.output()
    with redis.Redis.from_url(guarded.environment["REDIS_URL"]) as admin:
        denied = {(entry[b"username"], entry[b"object"]) for entry in admin.execute_command("ACL", "LOG")}
    assert denied <= {(b"laneway-worker", FOREIGN.encode()), (b"laneway-cli", FOREIGN.encode())}


def cli(site: Guarded, *words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "laneway.cli.main", *words],
        env=site.environment | site.settings_of("cli"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def refused(command: Callable[[], object]) -> bool:
    try:
        command()
    except NoPermissionError:
        return True
    return False


def test_no_user_may_do_what_it_does_not_need(guarded: Guarded) -> None:
    for role in RIGHTS:
        with guarded.client(role) as client:
            assert client.ping()
            for command in (
                ("FLUSHALL",),
                ("CONFIG", "GET", "requirepass"),
                ("ACL", "LIST"),
                ("KEYS", "*"),
                ("CLIENT", "LIST"),
                ("SHUTDOWN",),
                ("SCRIPT", "FLUSH"),
                ("SET", "other-application", "1"),
                ("GET", "other-application"),
                ("EVAL", "return redis.call('SET', 'other-application', '1')", "0"),
            ):
                with pytest.raises(redis.ResponseError, match="permission"):
                    client.execute_command(*command)
            assert refused(lambda c=client: c.set("redbeat:forged", "1")) == (role != "beat"), role
            may_write_results = role in ("api", "worker", "cli")
            assert refused(lambda c=client: c.set("celery-task-meta-forged", "1")) == (not may_write_results), role


def test_new_passwords_leave_the_previous_ones_valid_until_they_are_revoked(guarded: Guarded) -> None:
    before = guarded.settings_of("api")["CELERY_BROKER_URL"]

    guarded.users()
    assert guarded.settings_of("api")["CELERY_BROKER_URL"] != before
    for url in (before, guarded.settings_of("api")["CELERY_BROKER_URL"]):
        with redis.Redis.from_url(url) as client:
            assert client.ping()
    guarded.users("--revoke-previous")

    with redis.Redis.from_url(before) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with guarded.client("api") as client:
        assert client.ping()
