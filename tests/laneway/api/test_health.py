"""Readiness says whether work can be accepted, and names what does not work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import event

from app.core.queues import QUEUES
from app.db.models import Report
from app.services.container import Services
from laneway.platform import clock
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.database_errors import DatabaseFull
from laneway.platform.db.queries import workers
from laneway.platform.db.session import Database
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api
from tests.fixtures.held_database import held_by_another_program
from tests.fixtures.valkey import RedisUrls
from tests.fixtures.waiting import wait_until


def ready(api: Api) -> tuple[int, dict[str, Any]]:
    answer = api.http.get("/health/ready")
    return answer.status_code, answer.json()


def parts(body: dict[str, Any]) -> list[str]:
    return [each["part"] for each in body["degraded"]]


def start_worker(api: Api, name: str, *queues: str, id: str = "", seconds_ago: float = 5) -> None:
    """Store the report of a worker."""
    with api.database.transaction() as session:
        now = clock.now()
        started_at = now - timedelta(seconds=seconds_ago)
        workers.report(session, name, id=id or name, queues=queues, started_at=started_at, now=now)


def test_everything_works(api: Api) -> None:
    start_worker(api, "w@here", *QUEUES)
    status, body = ready(api)

    assert (status, body["status"], body["degraded"], body["live_workers"]) == (200, "ready", [], 1)
    assert body["installation"] == api.services.installation.id


def test_without_a_broker_work_is_accepted_so_the_process_is_ready(api: Api, redis_urls: RedisUrls) -> None:
    start_worker(api, "w@here", *QUEUES)
    redis_urls.valkey.stop()
    try:
        status, body = ready(api)
        accepted = api.http.post("/tasks", json={"name": REPORT, "payload": {}})
    finally:
        redis_urls.valkey.start()

    assert (status, body["status"], body["broker"]) == (200, "ready", "Broker unavailable")
    assert parts(body) == ["broker"] and "wait in the database" in body["degraded"][0]["problem"]
    assert accepted.status_code == 202


def test_a_frozen_broker_does_not_keep_the_process_from_accepting_and_is_named_soon(
    api: Api, redis_urls: RedisUrls
) -> None:
    start_worker(api, "w@here", *QUEUES)
    pid = redis_urls.valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        began = monotonic()
        status, body = ready(api)
        seconds = monotonic() - began
        accepted = api.http.post("/tasks", json={"name": REPORT, "payload": {}})
    finally:
        os.kill(pid, signal.SIGCONT)

    assert (status, body["status"], parts(body)) == (200, "ready", ["broker"])
    assert seconds < 4
    assert accepted.status_code == 202


@pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
def test_a_database_that_another_program_holds_accepts_nothing_and_is_named_soon(api: Api) -> None:
    _ = api.services.installation.id
    with held_by_another_program(api.database):
        began = monotonic()
        status, body = ready(api)
        seconds = monotonic() - began

    assert (status, parts(body)[0]) == (503, "database")
    assert seconds < 3.3, "a request may wait for 3.5 s, a probe for 2 s"


@pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
def test_with_a_full_disk_nothing_is_accepted_so_the_process_is_not_ready(
    make_api: MakeApi, sqlite_database: Database
) -> None:
    with closing(Database(str(sqlite_database.url))) as full:
        event.listen(full.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=1"))
        fill(full)
        api = make_api(database=full)
        status, body = ready(api)
        refused = api.say(text="x" * 7000)

    assert (status, body["status"], body["database"]) == (503, "not ready", "Storage full")
    assert parts(body) == ["database"] and "Somebody must free space" in body["degraded"][0]["problem"]
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:laneway:problem:database-full"
    assert "free space" in refused.json()["detail"] and "laneway.db" not in refused.text


def fill(database: Database) -> None:
    """Store rows until the file has no free page left."""
    with pytest.raises(DatabaseFull):
        for number in range(10_000):
            with database.transaction() as session:
                session.add(Report(id=str(number), kind="test", data={"text": "x" * 4000}, created_at=clock.now()))


def test_everybody_learns_whether_the_process_is_ready_and_no_more(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    made = [
        api.services.tokens.create(name, TokenRights(scopes=frozenset({scope})), expires=None)
        for name, scope in (("reader", "tasks:read"), ("other", "leads"))
    ]
    reader, other = ({"Authorization": f"Bearer {each.token}"} for each in made)
    asked = {"nobody": {}, "other": other}

    for who, headers in asked.items():
        answer = api.http.get("/health/ready", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"}), who
    assert api.http.get("/health/ready", headers={"Authorization": "Bearer x"}).status_code == 401
    assert parts(api.http.get("/health/ready", headers=reader).json()) == ["workers"]


def test_a_broker_that_refuses_tasks_because_it_is_full_is_named(api: Api, redis_urls: RedisUrls) -> None:
    start_worker(api, "w@here", *QUEUES)
    client = Redis.from_url(redis_urls.valkey.url(0))
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", round(used * 1.2))
    try:
        status, body = ready(api)
        refused = api.http.post("/tasks", json={"name": REPORT, "payload": {}})
    finally:
        client.config_set("maxmemory", 0)

    assert refused.status_code == 503
    assert (status, body["status"], parts(body)) == (200, "ready", ["broker memory"])
    assert "further tasks are refused" in body["degraded"][0]["problem"]
    assert ready(api)[1]["degraded"] == []
    client.close()


def test_queues_without_a_worker_are_named(api: Api) -> None:
    start_worker(api, "w@here", *(queue for queue in QUEUES if queue not in ("crm", "qa")))
    status, body = ready(api)

    assert (status, parts(body)) == (200, ["workers"])
    assert body["degraded"][0]["problem"] == "No live worker serves crm, qa: accepted tasks wait there."


def test_two_workers_of_one_name_are_both_counted_and_named(api: Api) -> None:
    start_worker(api, "w@here", *list(QUEUES)[:5], id="1")
    start_worker(api, "w@here", *list(QUEUES)[5:], id="2", seconds_ago=1)
    status, body = ready(api)

    assert (status, body["live_workers"], parts(body)) == (200, 2, ["workers"])
    assert "2 live workers have the name w@here" in body["degraded"][0]["problem"]
    queues = api.http.get("/conversations/tasks/queues/status").json()["queues"]
    assert {queue: figures["workers"] for queue, figures in queues.items()} == dict.fromkeys(QUEUES, 1)
    api.services.alerts.sweep()
    assert "worker_name" in {alert.kind for alert in api.services.alerts.listing()}


def test_a_worker_that_was_killed_and_started_again_shares_no_name(api: Api) -> None:
    start_worker(api, "w@here", *QUEUES, id="killed")
    start_worker(api, "w@here", *QUEUES, id="new", seconds_ago=0)

    assert ready(api)[1]["degraded"] == []


def test_a_broken_workflow_is_named_and_refused_and_the_others_go_on(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_worker(api, "w@here", *QUEUES)
    folder = Services.workflow_folder
    assert folder is not None
    for path in folder.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (tmp_path / "customer_followup.yaml").write_text("name: customer_followup\nsteps: [\n")
    monkeypatch.setattr(Services, "workflow_folder", tmp_path)
    figures = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}

    status, body = ready(api)
    broken = api.http.post("/api/workflows", json={"workflow_type": "customer_followup", "input": {}})
    other = api.http.post("/api/workflows", json={"workflow_type": "savings_assessment", "input": figures})

    assert (status, parts(body)) == (200, ["workflows"])
    assert "customer_followup.yaml is not valid: line 3: it is not YAML" in body["degraded"][0]["problem"]
    assert broken.status_code == 503
    assert "customer_followup.yaml is not valid: line 3" in broken.json()["detail"]
    assert "Correct the file" in broken.json()["detail"]
    assert other.status_code == 202


@contextmanager
def small_disk(folder: Path) -> Generator[Path]:
    """A disk of 4 MB. Mounting needs root; without it the test is skipped."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("platform_database", ["sqlite"], indirect=True)
def test_a_disk_without_room_is_named_and_with_room_again_the_process_is_ready(
    make_api: MakeApi, sqlite_template: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        shutil.copyfile(sqlite_template, disk / "laneway.db")
        with closing(Database(f"sqlite:///{disk / 'laneway.db'}")) as database:
            api = make_api(database=database)
            before = ready(api)[0]
            with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb") as filler:
                while True:
                    filler.write(b"x" * 4096)
                    filler.flush()
            wait_until(lambda: ready(api)[0] == 503, seconds=3)
            status, body = ready(api)
            refused = api.say(text="x" * 7000)
            (disk / "filler").unlink()
            after = wait_until(lambda: ready(api)[0] == 200, seconds=3)

    assert (before, status, body["database"], after) == (200, 503, "Storage full", True)
    assert parts(body)[0] == "database" and "Somebody must free space" in body["degraded"][0]["problem"]
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:laneway:problem:database-full")
