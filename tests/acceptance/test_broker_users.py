"""The whole platform under the users of `laneway broker users`, over TLS: each may do what it needs, and no more."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis
from celery import Celery
from celery.utils.nodenames import host_format
from redis.exceptions import NoPermissionError

from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.schemas.task import TaskState
from laneway.server.broker_users import RIGHTS
from laneway.server.valkey import server_argv
from tests.fixtures.certificates import self_signed
from tests.fixtures.shell import run_program
from tests.fixtures.site import APP, START_SECONDS, Node, Site
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until
from tests.laneway.engine.servers import tls_front

FAST_APP = "tests.fixtures.fast_beat:celery_app"
FOREIGN = "notes-of-another-application"
"""A list in the same database, which nobody of the platform may read."""
STRANGE = {"conversation_id": "c-2", "message": "Hello"}
TOKEN = "pl4nted-token-of-a-receiver"
PASSWORD = "pl4nted-admin-password"
"""The password of the server's administrator."""


class Guarded(Site):
    """A site whose processes each have a user of their own on a broker with TLS."""

    def users(self, *options: str) -> None:
        """Run `laneway broker users` with the administrator's login."""
        ran = run_program("broker", "users", *options, environment=self.environment)
        assert ran.code == 0, ran.err
        assert "laneway-beat" in ran.out and "forgets" not in ran.out

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


@dataclass(frozen=True)
class Running:
    """The processes of a platform."""

    site: Guarded
    worker: Node
    beat: Node
    flower: Node

    def flower_page(self, path: str) -> str:
        """A page of Flower; empty while it does not answer."""
        login = ("laneway", (self.site.folder / "data" / "flower-password").read_text().strip())
        try:
            return httpx.get(f"http://127.0.0.1:{self.site.flower_port}{path}", auth=login, timeout=10).text
        except httpx.HTTPError:
            return ""


@pytest.fixture(scope="module")
def running(guarded: Guarded) -> Running:
    guarded.start("api", "uvicorn", "app.main:app", "--port", str(guarded.api_port), **guarded.settings_of("api"))
    queues = "conversations,webhooks,analytics,maintenance"
    worker = guarded.begin_worker("w", queues=queues, app=APP, **guarded.settings_of("worker"))
    beat = guarded.start("beat", "celery", "-A", FAST_APP, "beat", "-l", "INFO", **guarded.settings_of("beat"))
    flower = guarded.start("flower", "celery", "-A", APP, "flower", **guarded.settings_of("flower"))
    guarded.until_reported(worker)
    found = Running(guarded, worker, beat, flower)
    wait_until(guarded.api_answers, seconds=START_SECONDS)
    wait_until(lambda: "w@" in found.flower_page("/workers"), seconds=START_SECONDS)
    return found


def test_the_whole_platform_runs_under_its_users(running: Running) -> None:
    site = running.site
    accepted = site.post("/conversations/message", {"conversation_id": "c-1", "message": "Hello"})
    with redis.Redis.from_url(site.environment["REDIS_URL"]) as admin:
        admin.lpush(FOREIGN, "x")
    with Celery("shop", broker=site.environment["REDIS_URL"], set_as_current=False) as stranger:
        strange = stranger.send_task("process_conversation_message_task", kwargs=STRANGE, queue="conversations").id

    wait_until(lambda: site.states([strange]) == {TaskState.COMPLETED: 1}, seconds=30)  # taken in from kombu's list
    assert site.until(accepted["task_id"]).state == TaskState.COMPLETED
    wait_until(lambda: "Sending due task tick" in running.beat.output(), seconds=START_SECONDS)
    wait_until(lambda: "conversations" in running.flower_page("/broker"), seconds=20)
    assert "conversations" in cli(site, "stats")
    (made,) = site.services.audit_log.page(AuditLogFilter(action="broker")).entries
    assert (made.action, made.caller_kind) == ("broker.users", "command")
    for node in site.nodes:
        assert "NOPERM" not in node.output() and "permission" not in node.output().lower(), node.output()
    with redis.Redis.from_url(site.environment["REDIS_URL"]) as admin:
        denied = {(entry[b"username"], entry[b"object"]) for entry in admin.execute_command("ACL", "LOG")}
    assert denied <= {(b"laneway-worker", FOREIGN.encode()), (b"laneway-cli", FOREIGN.encode())}


def test_no_output_shows_a_password(running: Running) -> None:
    site = running.site
    address = f"http://127.0.0.1:9/hook?token={TOKEN}"
    payload = {"url": address, "event": "lead.created", "data": {"a": 1}}
    sent = site.submit("send_webhook_response_task", payload)
    wait_until(lambda: site.row(sent).attempts > 0, seconds=START_SECONDS)
    hidden = [PASSWORD, TOKEN]
    for role in RIGHTS:
        password = urlsplit(site.settings_of(role)["CELERY_BROKER_URL"]).password
        assert password
        hidden.append(password)
    pages = ("/workers?json=1&refresh=1", "/api/workers?refresh=1", "/api/tasks", "/tasks", "/broker", f"/task/{sent}")
    worker = host_format("w@%h")
    routes = ("/tasks", f"/tasks/{sent}", "/workers", "/stats", "/health/ready", "/dead-letters", "/outbound-webhooks")
    commands = [("stats",), ("status", sent)]
    inspect = site.app.control.inspect(timeout=10)
    outputs = {
        **{path: running.flower_page(path) for path in (*pages, f"/worker/{worker}")},
        **{path: site.http.get(path).text for path in routes},
        **{" ".join(words): cli(site, *words) for words in commands},
        "attempts --json": cli(site, "attempts", sent, "--json"),
        **{f"log of {node.name}": node.output() for node in site.nodes},
        **{f"command line of {node.name}": str(psutil.Process(node.pid).cmdline()) for node in site.nodes},
        "inspect conf": str(inspect.conf(with_defaults=True)),
        "inspect stats": str(inspect.stats()),
        "inspect active": str(inspect.active()),
        "report": str(inspect.report()),
        "celery report": site.app.bugreport(),
    }

    assert "broker_url" in outputs["inspect conf"] and "broker" in outputs["inspect stats"]
    assert worker in outputs[f"/worker/{worker}"] and TOKEN in str(site.row(sent).payload)
    assert {name for name, output in outputs.items() if not output} <= {"log of flower"}
    assert [name for name, output in outputs.items() if any(secret in output for secret in hidden)] == []


def cli(site: Guarded, *words: str) -> str:
    ran = run_program(*words, environment=site.environment | site.settings_of("cli"))
    assert ran.code == 0, ran.err
    return ran.out


def refused(command: Callable[[], object]) -> bool:
    try:
        command()
    except NoPermissionError:
        return True
    except redis.ResponseError:  # the server does not know the script
        return False
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
            assert refused(lambda c=client: c.hset("laneway:{crm}:x", "x", "1")) == (role == "flower"), role
            assert refused(lambda c=client: c.set("laneway:owner-of-nothing", "1")) == (role in ("beat", "flower")), (
                role
            )
            assert refused(lambda c=client: c.evalsha("0" * 40, 1, "laneway:{crm}")) == (role == "flower"), role
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
