"""Platforms at a URL: the same output as in the project, and every error in one sentence.

It runs what docs/cli.md shows.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.settings import ROOT
from laneway.cli import base
from laneway.cli.api_access import ApiAccess
from laneway.cli.api_maintenance import ApiMaintenance
from laneway.cli.api_webhooks import ApiWebhooks
from laneway.cli.local_access import LocalAccess
from laneway.cli.local_maintenance import LocalMaintenance
from laneway.cli.local_source import LocalSource
from laneway.cli.local_webhooks import LocalWebhooks
from laneway.cli.own_source import OwnSource
from laneway.cli.remote_source import RemoteSource
from laneway.cli.source import Source
from laneway.cli.source_parts import Access, Maintenance, Webhooks
from laneway.platform import clock
from laneway.schemas.task import TaskState
from tests.fixtures.certificates import self_signed
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.shell import PROGRAM, Ran, Shell, run_program
from tests.fixtures.site import Site
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

TOKEN = "secret-4721"
REPORT = "generate_performance_report_task"
INPUT = '{"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}'
VOLATILE = re.compile(r"\d+ (s|min|h|d) ago|T\d\d:\d\d:\d\d[.\d]*Z|\"(since|until|measured_since)\": .*")
"""What differs between two calls a moment later."""


@pytest.fixture(scope="module")
def url(installed: Site) -> Iterator[str]:
    """The address of the installation's API."""
    node = installed.api()
    yield f"http://127.0.0.1:{installed.api_port}"
    node.kill()


def remote(url: str, *words: str) -> Ran:
    """Run a command that knows nothing but the URL: the database and the broker are out of reach."""
    closed = str(free_port())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "REDIS_PORT": closed, "HOME": "/nonexistent"}
    ran = run_program("--url", url, *words, environment=environment, folder=Path("/"))
    assert "Traceback" not in ran.err, ran.err
    return ran


def refusal(status: int) -> HttpReply:
    """A problem as the API answers it."""
    problem = {"type": "about:blank", "title": "x", "status": status, "detail": "no", "instance": ""}
    return HttpReply(status, {}, problem)


def same(ran: Ran) -> tuple[int, str]:
    """What has to be the same for both sources."""
    return ran.code, VOLATILE.sub("…", ran.out)


def names_of(kind: type) -> set[str]:
    """What a class offers."""
    return {name for name in dir(kind) if not name.startswith("_")}


def test_all_sources_have_every_method_of_the_protocol() -> None:
    for kind in (LocalSource, OwnSource, RemoteSource):
        assert names_of(Source) - {"description"} <= names_of(kind), kind
    parts = {
        Access: (LocalAccess, ApiAccess),
        Webhooks: (LocalWebhooks, ApiWebhooks),
        Maintenance: (LocalMaintenance, ApiMaintenance),
    }
    for part, kinds in parts.items():
        for kind in kinds:
            assert names_of(part) <= names_of(kind), kind


def test_every_command_prints_the_same_for_all_sources(
    laneway: Shell, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = laneway.site.message("c-1", "日本 \x1b[2J")
    dead = laneway.end(TaskState.DEAD_LETTER, error="[/x] away", error_type="UpstreamError", error_group="g1")
    laneway.end(TaskState.COMPLETED, started_at=clock.now(), attempts=1)
    assert laneway("workflows", "start", "savings_assessment", "--input", INPUT, "--id", "both").code == 0
    laneway("stats")  # its sweep opens the alerts that the API shows
    for command in (
        "tasks list",
        "tasks list --state pending --queue conversations --since 1h",
        f"tasks show {waiting}",
        f"tasks show {dead}",
        f"status {dead}",
        f"attempts {dead}",
        f"why {waiting}",
        f"why {dead}",
        "active",
        "stats",
        "stats --window 10m --queue conversations",
        "queues list",
        "workers",
        "dead list",
        "dead groups",
        f"dead show {dead}",
        "dead retry --group g1 --dry-run",
        "workflows list",
        "workflows definitions",
        "workflows show both",
        "tokens list",
        "sessions list",
        "audit-log list --action workflow --limit 3",
        "callbacks list --state completed",
        "callbacks endpoints",
        "callbacks destinations",
        "callbacks show nobody",
        "audit",
        "status nobody",
        "dead show nobody",
        "workflows show nobody",
        f"submit {REPORT}x",
        f"retry {waiting}",
        "queues pause nowhere",
    ):
        for words in (command.split(), [*command.split(), "--json"]):
            here, there = laneway("--direct", *words), laneway("--url", url, *words)
            with monkeypatch.context() as only_the_api:
                only_the_api.setattr(base, "read_settings", lambda: pytest.fail("it uses the platform itself"))
                near = laneway(*words)
            assert same(there) == same(here) == same(near), words
            assert there.err == here.err or here.code != 0, words
            assert near.err == here.err or words[0] == "submit", words  # this process may have tasks of other tests


def test_tasks_are_changed_over_http(laneway: Shell, url: str) -> None:
    id = laneway.site.message("c-1")
    dead = [laneway.end(TaskState.DEAD_LETTER) for _ in range(3)]

    assert remote(url, "cancel", id).out == "Cancelled: the task will not run.\n"
    assert laneway.state(id) == "cancelled"
    assert laneway("--url", url, "tasks", "retry", id).out == f"Queued again: {id}\n"
    assert laneway("--url", url, "dead", "retry", dead[0]).out == "1 of 1 dead letter queued again.\n"
    assert laneway("--url", url, "dead", "discard", "--all").out == "2 of 2 dead letters discarded.\n"
    assert [laneway.state(each) for each in dead] == ["pending", "dead_letter", "dead_letter"]
    assert "at most 3" in laneway("--url", url, "queues", "limit", "crm", "--max-in-flight", "3").out
    assert "paused" in laneway("--url", url, "queues", "pause", "crm").out
    assert "at most 3" in laneway("queues", "resume", "crm").out, "a pause keeps the limits"
    laneway("queues", "limit", "crm")
    started = laneway("--url", url, "workflows", "start", "savings_assessment", "--input", INPUT, "--id", "far")
    assert started.out == "Accepted: far (task far:validate:1, pending)\n"


def test_a_task_is_submitted_and_followed_over_http(laneway: Shell, url: str) -> None:
    worker = laneway.site.worker(queues="analytics", app="app.core.celery_app:celery_app", pool="solo", concurrency=1)
    try:
        waited = remote(url, "submit", REPORT, "--id", "far-1", "--wait")
        followed = remote(url, "tasks", "follow", "far-1", "--json")
        (listed,) = remote(url, "workers", "--json").json()
    finally:
        worker.kill()
        laneway.site.nodes.remove(worker)

    assert (waited.code, waited.out.splitlines()[0]) == (0, "Accepted: far-1"), waited.err
    assert re.search(r"status +completed", waited.out)
    events = [json.loads(line)["kind"] for line in followed.out.splitlines()]
    assert (followed.code, events[0], events[-1]) == (0, "accepted", "end")
    assert (listed["alive"], listed["queues"], listed["version"]) == (True, ["analytics"], "0.1.0")
    assert listed["host"] and listed["name"] == f"w@{listed['host']}"


@pytest.mark.parametrize("words", [("up",), ("worker",), ("prepare",), ("keys", "reencrypt"), ("doctor",)])
def test_a_command_that_needs_the_project_says_so(laneway: Shell, words: tuple[str, ...]) -> None:
    ran = laneway("--url", "http://127.0.0.1:1", *words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"`laneway {words[0]}` needs the project, its database and its broker")


@pytest.mark.parametrize(
    ("reply", "code", "sentence"),
    [
        (
            HttpReply(401, {}, {"type": "about:blank", "title": "x", "status": 401, "detail": "", "instance": ""}),
            4,
            "401",
        ),
        (
            HttpReply(403, {}, {"type": "about:blank", "title": "x", "status": 403, "detail": "no", "instance": ""}),
            4,
            "The token does not allow this",
        ),
        (HttpReply(200, {}, "<html>Welcome</html>"), 3, "something that is no Laneway"),
        (HttpReply(200, {}, {"hello": 1}), 3, "something that is no Laneway"),
        (HttpReply(404, {}, "nothing"), 3, "something that is no Laneway"),
        (HttpReply(302, {"Location": "http://elsewhere.invalid/"}), 3, "something that is no Laneway"),
        (HttpReply(hang_up=True), 3, "No platform answers"),
    ],
)
def test_what_else_may_answer_is_explained(
    laneway: Shell, http_peer: HttpPeer, reply: HttpReply, code: int, sentence: str
) -> None:
    http_peer.always = reply
    ran = laneway("--url", http_peer.url, "--token", TOKEN, "stats")

    assert (ran.code, ran.out, len(ran.err.splitlines())) == (code, "", 1), ran.err
    assert sentence in ran.err and http_peer.url in ran.err
    assert TOKEN not in ran.err
    assert [request.headers["authorization"] for request in http_peer.requests] == [f"Bearer {TOKEN}"]


def test_an_address_where_nothing_listens_is_explained(laneway: Shell) -> None:
    ran = laneway("--url", f"http://127.0.0.1:{free_port()}", "stats")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("No platform answers at http://127.0.0.1:") and "--url" in ran.err


def test_a_certificate_that_nobody_trusts_is_explained(laneway: Shell, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, name="x", alternative="IP:127.0.0.1")
    with HttpPeer(certificate=certificate) as peer:
        ran = laneway("--url", peer.url, "--token", TOKEN, "stats")

    assert (ran.code, peer.requests) == (3, []), "nothing was sent"
    assert "is not secure" in ran.err and "SSL_CERT_FILE" in ran.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--url", "laneway.example.com", "stats"), "http(s)://host"),
        (("--url", "http://ada:pw-4721@127.0.0.1:1", "stats"), "has no login in it"),
        (("--url", "http://127.0.0.1:1", "--token", "pw-4721\nx", "stats"), "characters that no HTTP header may have"),
        (("--token", "pw-4721", "stats"), "--token is for a platform at a URL"),
    ],
)
def test_an_address_or_a_token_that_cannot_work_is_refused(
    laneway: Shell, words: tuple[str, ...], sentence: str
) -> None:
    ran = laneway(*words)

    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err and "pw-4721" not in ran.err


def test_a_token_in_clear_text_is_warned_of(laneway: Shell) -> None:
    far = laneway("--url", "http://laneway.invalid", "--token", TOKEN, "stats")
    near = laneway("--url", "http://127.0.0.1:1", "--token", TOKEN, "stats")

    assert far.err.startswith("Warning: the token goes to laneway.invalid over http")
    assert "Warning" not in near.err
    assert TOKEN not in far.err + near.err


def test_url_and_token_may_come_from_the_environment(
    laneway: Shell, http_peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANEWAY_URL", http_peer.url)
    monkeypatch.setenv("LANEWAY_TOKEN", TOKEN)
    http_peer.always = HttpReply(200, {}, {"tasks": [], "next": None})

    assert laneway("tasks", "list").out == "None.\n"
    assert http_peer.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


WITHOUT_THE_PLATFORM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"alembic", "fastapi", "kombu", "sqlalchemy", "starlette", "structlog", "yaml"}:
            raise ModuleNotFoundError(f"{name} is not installed")

sys.meta_path.insert(0, Absent())
from laneway.cli.main import main
main()
"""


def test_the_commands_at_a_url_need_nothing_of_the_platform(http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(200, {}, {"tasks": [], "next": None})
    program = [sys.executable, "-c", WITHOUT_THE_PLATFORM]
    far, here = (
        subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        for words in ([*program, "--url", http_peer.url, "tasks", "list"], [*program, "tasks", "list"])
    )

    assert (far.returncode, far.stdout, far.stderr) == (0, "None.\n", "")
    assert (here.returncode, here.stdout) == (1, "")
    assert here.stderr.startswith("The package `laneway.platform` needs the extra: pip install 'laneway[platform]'.")


@pytest.mark.parametrize("words", [("tasks", "list"), ("tasks", "list", "--json")])
def test_people_at_a_terminal_see_whose_platform_it_is(
    laneway: Shell, http_peer: HttpPeer, words: tuple[str, ...]
) -> None:
    http_peer.always = HttpReply(200, {}, {"tasks": [], "next": None})
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "--url", http_peer.url, *words], stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT
    )
    os.close(theirs)
    wait_until(lambda: process.poll() is not None, seconds=30)
    try:
        said = os.read(ours, 1000).decode()
    except OSError:  # nothing was written
        said = ""
    os.close(ours)

    assert (http_peer.url in said) == ("--json" not in words)
