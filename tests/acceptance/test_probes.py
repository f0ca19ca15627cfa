"""Workers and Beat answer probes by HTTP: they live while their main loops turn, and are ready while they can work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from laneway.platform import clock
from laneway.platform.library_schedules import canary_key, canary_schedules
from laneway.platform.probes.canaries import read
from laneway.platform.schedules.keeping import keep
from laneway.schemas.task import TaskState
from tests.fixtures.site import START_SECONDS, Node, Site
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

HANGING_APP = "tests.fixtures.hanging_app:celery_app"
SOON = 15
"""Seconds on a busy machine."""
Answer = tuple[int, dict[str, Any]]


class Probed:
    """A process that answers probes."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **headers: str) -> Answer:
        """The status and the body of an answer; 0 while nobody answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, trust_env=False, timeout=10)
        except httpx.HTTPError:
            return 0, {}
        return answer.status_code, answer.json()

    def until(self, path: str, status: int, *, seconds: float = SOON) -> dict[str, Any]:
        """Wait until a path is answered with a status; returns the body."""
        wait_until(lambda: self.ask(path)[0] == status, seconds=seconds)
        return self.ask(path)[1]


@pytest.fixture
def hang(tmp_path: Path) -> Path:
    """The file that lets main loops hang."""
    return tmp_path / "hang"


def start_worker(site: Site, name: str, port: int, hang: Path) -> Node:
    environment = {"PROBE_PORT": str(port), "LANEWAY_TEST_HANG": str(hang)}
    return site.begin_worker(name, app=HANGING_APP, **environment)


def start_beat(site: Site, name: str, port: int, hang: Path) -> Probed:
    environment = {"PROBE_PORT": str(port), "LANEWAY_TEST_HANG": str(hang)}
    site.start(name, "celery", "-A", HANGING_APP, "beat", "-l", "INFO", **environment)
    return Probed(port)


def listening(process: psutil.Process, port: int) -> bool:
    """Whether a process has the socket of this port."""
    return any(each.laddr and each.laddr.port == port for each in process.net_connections("tcp"))


def test_a_worker_of_any_name_is_ready_while_it_can_work_and_lives_while_its_loop_turns(site: Site, hang: Path) -> None:
    worker = Probed(free_port())
    node = start_worker(site, "any-name", worker.port, hang)

    assert worker.until("/health/ready", 200, seconds=START_SECONDS) == {"status": "ready", "problems": []}
    assert worker.ask("/livez", Host="evil.example") == (200, {"status": "live", "problems": []})
    assert worker.ask("/secrets") == (404, {"detail": "Ask for /health/live or /health/ready."})
    assert not any(listening(child, worker.port) for child in node.children())

    with site.valkey.frozen():
        frozen = worker.until("/health/ready", 503)
        assert worker.ask("/health/live")[0] == 200
    assert frozen["status"] == "not ready"
    assert frozen["problems"][0] in ("Broker unavailable.", "It has no connection to the broker, and connects again.")
    worker.until("/health/ready", 200)

    hang.touch()
    site.app.control.broadcast("hang_in_loop")
    dead = worker.until("/health/live", 503)
    assert dead["problems"][0].startswith("Its main loop has not turned for ")
    assert worker.ask("/health/ready")[0] == 503
    hang.unlink()
    worker.until("/health/live", 200)
    assert node.stop() == 0


def test_a_worker_without_its_broker_starts_and_lives_and_is_not_ready(site: Site, hang: Path) -> None:
    site.valkey.kill()
    worker = Probed(free_port())
    start_worker(site, "early", worker.port, hang)

    assert worker.until("/health/live", 200, seconds=START_SECONDS)["status"] == "live"
    assert worker.ask("/health/ready") == (503, {"status": "not ready", "problems": ["It starts."]})

    site.valkey.start()
    worker.until("/health/ready", 200, seconds=START_SECONDS)
    site.valkey.kill()
    assert worker.until("/health/ready", 503)["problems"] != []
    assert worker.ask("/health/live")[0] == 200


def test_a_port_that_is_in_use_ends_a_worker_with_a_sentence(site: Site, hang: Path) -> None:
    first = Probed(free_port())
    beat = start_beat(site, "first", first.port, hang)
    beat.until("/health/live", 200, seconds=START_SECONDS)
    second = start_worker(site, "second", first.port, hang)

    wait_until(lambda: second.ended, seconds=START_SECONDS)
    assert f"PROBE_PORT={first.port}: Address already in use. Each process needs a free port" in second.output()
    assert "Traceback" not in second.output()


def test_beat_is_ready_with_the_lock_and_while_it_waits_for_it_and_lives_while_it_ticks(site: Site, hang: Path) -> None:
    hang.touch()
    first = start_beat(site, "beat-1", free_port(), hang)
    hangs_at_once = first.until("/health/live", 503, seconds=START_SECONDS)
    assert hangs_at_once["problems"][0].startswith("Its main loop has not turned for ")
    hang.unlink()
    assert first.until("/health/ready", 200, seconds=START_SECONDS) == {"status": "ready", "problems": []}
    second = start_beat(site, "beat-2", free_port(), hang)
    second.until("/readyz", 200, seconds=START_SECONDS)

    with site.valkey.frozen():
        for beat in (first, second):
            assert beat.until("/health/ready", 503)["problems"] == ["The broker cannot be used."]
            assert beat.ask("/health/live")[0] == 200
    first.until("/health/ready", 200)

    hang.touch()
    dead = first.until("/health/live", 503)
    assert dead["problems"][0].startswith("Its main loop has not turned for ")
    hang.unlink()
    first.until("/health/live", 200)


def test_a_canary_passes_through_the_queue_of_a_worker_and_says_how_long_it_took(site: Site) -> None:
    keep(site.services.database, {entry.key: entry.as_celery() for entry in canary_schedules(60)})
    site.worker("canaries", queues="analytics")

    id = site.services.schedules.run(canary_key("analytics"))

    assert site.until(id).state == TaskState.COMPLETED
    with site.services.database.reading() as session:
        found = next(each for each in read(session, now=clock.now()) if each.queue == "analytics")
    assert found.start is not None
    assert found.end is not None
    assert (0 <= found.start <= found.end < SOON, found.overdue) == (True, 0.0)
