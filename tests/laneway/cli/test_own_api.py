"""Commands ask the API of their own project on this machine, if it is certainly theirs, and else do the work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from app.core.settings import ROOT
from laneway._command_socket import KEY_FILE, LONGEST_PROOF, address_of, new_nonce, proof, read_key
from laneway.cli import base, own_api
from laneway.cli.own_api import find_own_api
from laneway.platform import clock
from laneway.platform.db.queries.audit_log import AuditLogFilter
from tests.fixtures.shell import Shell
from tests.fixtures.site import Node, Site

NOBODY = 65534
NOT_NEEDED = (
    "alembic",
    "app.",
    "celery",
    "fastapi",
    "httpx2",
    "kombu",
    "pydantic_settings",
    "redis",
    "sqlalchemy",
    "ssl",
)
PROGRAM = """
import sys
from laneway.cli.main import main
sys.argv = ["laneway", *sys.argv[1:]]
try:
    main()
finally:
    print(*(name for name in sys.modules if (name + ".").startswith({packages!r})), file=sys.stderr)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def running(installed: Site) -> Iterator[Node]:
    """The API of the installation, which asks for tokens."""
    node = installed.api(AUTHENTICATION="on", SESSION_SECRET="s" * 32)
    yield node
    node.kill()


@pytest.fixture
def only_api(laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Commands that fail if they use the platform themselves."""
    monkeypatch.setattr(base, "read_settings", lambda: pytest.fail("the command uses the platform itself"))
    return laneway


def key_of(site: Site) -> str:
    """The key in the data folder of an installation."""
    key = read_key(site.folder / "data")
    assert key is not None
    return key


def is_asked() -> bool:
    """Whether a command would ask the API now."""
    api = find_own_api()
    if api is not None:
        api.close()
    return api is not None


def test_a_command_that_asks_the_api_imports_nothing_of_the_platform(laneway: Shell, running: Node) -> None:
    id = laneway.site.message("c-1")
    asked = (("tasks", "show", id), ("queues", "list"), ("stats",), ("cancel", id))
    maintained = (
        ("tokens", "list"),
        ("callbacks", "list"),
        ("audit-log", "list"),
        ("flush", "crm", "--yes"),
        ("audit",),
    )
    for words in (*asked, *maintained):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(packages=NOT_NEEDED), *words],
            env=laneway.site.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "\n"), words


def test_the_audit_log_names_the_user_of_the_machine_as_without_an_api(
    laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as only_the_api:
        only_the_api.setattr(base, "read_settings", lambda: pytest.fail("the command uses the platform itself"))
        assert laneway("queues", "pause", "crm").code == 0
    assert laneway("--direct", "queues", "resume", "crm").code == 0
    itself, asked = laneway.site.services.audit_log.page(AuditLogFilter(), limit=2).entries

    assert (asked.action, itself.action) == ("queue.pause", "queue.resume")
    assert asked.caller == itself.caller and asked.caller_kind == itself.caller_kind == "command"


def test_direct_commands_do_not_ask_the_api(laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_api, "find_own_api", lambda: pytest.fail("it asks the API"))

    assert laneway("--direct", "tasks", "list").out == "None.\n"
    refused = laneway("--direct", "--url", "http://127.0.0.1:1", "tasks", "list")
    assert (refused.code, refused.out) == (2, "") and "--direct" in refused.err


def test_a_task_is_submitted_by_the_api_and_followed_by_the_command(laneway: Shell, running: Node) -> None:
    worker = laneway.site.worker(queues="analytics", app="app.core.celery_app:celery_app", pool="solo", concurrency=1)
    payload = '{"from": "2026-01-01", "to": "2026-01-02"}'
    try:
        ran = laneway("submit", "generate_performance_report_task", "--id", "own-1", "--wait", "--json")
    finally:
        worker.kill()
        laneway.site.nodes.remove(worker)

    kinds = [json.loads(line)["kind"] for line in ran.out.splitlines()]
    assert (ran.code, kinds[0], kinds[-1]) == (0, "accepted", "end"), (ran.err, payload)


def test_the_api_sends_only_the_events_after_the_one_that_is_known(laneway: Shell, running: Node) -> None:
    id = laneway.site.message("c-2")
    assert laneway("cancel", id).code == 0
    api = find_own_api()
    assert api is not None
    with closing(api):
        seen = list(api.events(id, after=0, follow=False))
        assert [event.id for event in api.events(id, after=seen[0].id, follow=False)] == [each.id for each in seen[1:]]
    assert len(seen) > 1


def test_the_alerts_of_now_are_asked_for(laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker of the installation runs, which nobody has noticed yet."""
    monkeypatch.setattr(base, "read_settings", lambda: pytest.fail("the command uses the platform itself"))
    laneway.site.message("c-3")
    assert "no_worker" in {alert["kind"] for alert in json.loads(laneway("alerts", "list", "--json").out)}


def test_an_error_has_the_same_reason_as_without_an_api(only_api: Shell, installed: Site) -> None:
    unknown = only_api("status", "nobody")
    assert (unknown.code, unknown.out) == (1, "") and "nobody" in unknown.err

    id = installed.message("c-1")
    installed.valkey.kill()
    try:
        away = only_api("cancel", id)
    finally:
        installed.valkey.start()
    assert (away.code, away.out) == (1, "")
    assert str(installed.valkey.port) in away.err, "the user of this machine reads which server is away"


def test_a_command_says_what_the_api_cannot_know(only_api: Shell, installed: Site) -> None:
    installed.message("c-1")
    installed.valkey.kill()
    try:
        ran = only_api("tasks", "list")
    finally:
        installed.valkey.start()

    assert ran.code == 1
    assert "This is what the database knows; newer events of tasks may be missing." in ran.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sqlite:////tmp/another.db"),
        ("REDIS_PORT", "1"),
        ("TASK_MAX_RETRIES", "9"),
        ("task_max_retries", "9"),
        ("DATA_DIR", "/nonexistent"),
    ],
)
def test_other_settings_mean_another_platform(
    laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert is_asked()
    if name.islower():
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(name, value)

    assert not is_asked()


def test_a_server_that_only_the_api_has_means_another_platform(
    laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL")

    assert not is_asked()


def test_another_project_with_the_same_data_folder_is_another_platform(
    laneway: Shell, running: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert not is_asked()
    monkeypatch.chdir(ROOT / "app")
    assert is_asked(), "a folder below the project is the project"


@pytest.mark.parametrize("harm", ["open", "link", "foreign", "gone", "empty", "folder"])
def test_a_key_that_is_not_ours_alone_is_not_used(tmp_path: Path, harm: str) -> None:
    file = tmp_path / KEY_FILE
    file.touch(mode=0o600)
    file.write_text("k" * 32 + "\n")
    assert read_key(tmp_path) == "k" * 32
    if harm == "open":
        file.chmod(0o640)
    elif harm == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif harm == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(file, NOBODY, NOBODY)
    elif harm == "empty":
        file.write_text("")
    else:
        file.unlink()
        if harm == "folder":
            file.mkdir(mode=0o700)

    assert read_key(tmp_path) is None


def test_without_the_key_the_socket_answers_nothing(laneway: Shell, running: Node) -> None:
    for second in ({"proof": "x" * 64}, {"proof": None}, {}, [], "x", {"method": "GET", "target": "/tasks"}):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(address_of(key_of(laneway.site)))
            connection.sendall(json.dumps({"nonce": new_nonce()}).encode() + b"\n")
            assert connection.recv(LONGEST_PROOF).startswith(b'{"nonce":')
            connection.sendall(json.dumps(second).encode() + b"\n")
            assert connection.recv(100) == b"", second
    assert is_asked(), "it goes on to serve commands"


@needs_root
def test_another_user_is_refused_before_any_proof(laneway: Shell, running: Node) -> None:
    address = address_of(key_of(laneway.site))
    program = f"""
import os, socket
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(10)
    connection.connect({address!r})
    try:
        connection.sendall(b'{{"nonce": "{new_nonce()}"}}\\n')
        print(connection.recv(100))
    except ConnectionError:
        print(b"")
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "b''\n"


@needs_root
def test_a_socket_of_another_user_gets_nothing(laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / KEY_FILE).touch(mode=0o600)
    (tmp_path / KEY_FILE).write_text("another-key-of-32-characters-000")
    program = f"""
import os, socket
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind({address_of("another-key-of-32-characters-000")!r})
    listener.listen()
    print("listening", flush=True)
    connection, _ = listener.accept()
    connection.settimeout(10)
    print(connection.recv(100), flush=True)
"""
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE, text=True) as thief:
        assert thief.stdout is not None and thief.stdout.readline() == "listening\n"
        assert not is_asked()
        assert thief.stdout.readline() == "b''\n", "the key was not sent"


@pytest.mark.parametrize("answer", [b"", b"{}\n", b"[]\n", b"x" * 100_000, "mirror", "proof"])
def test_a_program_of_our_own_user_that_took_the_name_learns_nothing(
    laneway: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | str
) -> None:
    """Such as a confined child that waits until the API starts again."""
    key = "another-key-of-32-characters-000"
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / KEY_FILE).touch(mode=0o600)
    (tmp_path / KEY_FILE).write_text(key)
    heard = b""
    with socket.socket(socket.AF_UNIX) as thief, ThreadPoolExecutor(1) as threads:
        thief.bind(address_of(key))
        thief.listen()
        asked = threads.submit(is_asked)
        connection, _ = thief.accept()
        with connection:
            connection.settimeout(10)
            heard += connection.recv(1000)
            nonce = json.loads(heard)["nonce"]
            mine = proof("x" * 32, "api", command=nonce, api=nonce)
            forged = json.dumps({"nonce": nonce, "proof": mine}).encode() + b"\n"
            with suppress(ConnectionError):
                connection.sendall({"mirror": heard, "proof": forged}.get(str(answer)) or bytes(answer))
                connection.shutdown(socket.SHUT_WR)
                heard += connection.recv(1000)
        assert not asked.result(10)

    assert heard == json.dumps({"nonce": nonce}, separators=(",", ":")).encode() + b"\n", "no key and no proof"


def test_an_api_that_hangs_does_not_hold_commands(laneway: Shell, running: Node) -> None:
    running.signal(signal.SIGSTOP)
    try:
        began = clock.now()
        assert not is_asked()
        assert (clock.now() - began).total_seconds() < 5 * own_api.GREETING_SECONDS
        assert laneway("tasks", "list").out == "None.\n"
    finally:
        running.signal(signal.SIGCONT)


def test_a_request_whose_answer_is_lost_is_not_repeated_and_the_next_command_does_the_work(
    laneway: Shell, running: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = find_own_api()
    assert api is not None
    running.kill()  # the last test of this file
    with monkeypatch.context() as lost:
        lost.setattr(own_api, "find_own_api", lambda: api)
        lost.setattr(base, "read_settings", lambda: pytest.fail("the command is carried out a second time"))
        ran = laneway("queues", "pause", "crm")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("The API of this project (process ") and "--direct" in ran.err
    assert not is_asked(), "the key is still there, and nobody listens"
    assert laneway("tasks", "list").out == "None.\n"
