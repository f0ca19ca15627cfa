"""`laneway drill` with real processes: it passes on a platform that works, and leaves nothing behind."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis

from laneway.server.drill.app import PLAN
from laneway.server.drill.bench import PREFIX
from tests.fixtures.shell import run_program
from tests.fixtures.site import Site
from tests.fixtures.waiting import wait_until

SHORT = ("--tasks", "24", "--lease", "3s", "--json")


@pytest.fixture
def environment(site: Site, tmp_path: Path) -> dict[str, str]:
    """The environment of a drill, with a folder of its own for temporary files."""
    return site.environment | {"TMPDIR": str(tmp_path)}


def left_behind(site: Site, folder: Path) -> list[str]:
    """Keys of the broker, temporary folders and processes of drills."""
    with redis.Redis(port=site.valkey.port) as client:
        keys: list[bytes] = client.keys("*")  # pyright: ignore[reportAssignmentType, reportUnknownMemberType]
        found = [key.decode() for key in keys if PREFIX.encode() in key and client.ttl(key) < 0]  # the others expire
    found += [path.name for path in folder.glob(f"{PREFIX}*")]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found += [str(process)] if str(folder) in process.environ().get(PLAN, "") else []
    return found


@pytest.mark.parametrize("kind", ["kill-worker", "restart-broker", "partition"])
def test_a_drill_passes_and_leaves_nothing_behind(
    site: Site, environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    ran = run_program("drill", kind, *SHORT, environment=environment)

    assert ran.code == 0, ran.out + ran.err
    assert '"passed": true' in ran.out
    assert left_behind(site, tmp_path) == []


def test_a_drill_that_is_interrupted_cleans_up(site: Site, environment: dict[str, str], tmp_path: Path) -> None:
    words = ("laneway", "drill", "stop-worker", "--tasks", "400", "--lease", "3s")
    drill = site.start("drill", *words, TMPDIR=environment["TMPDIR"])
    wait_until(lambda: len(drill.children()) >= 2, seconds=30)
    assert left_behind(site, tmp_path)

    drill.signal(signal.SIGINT)

    assert drill.process.wait(30) == 130
    assert left_behind(site, tmp_path) == []


def test_a_drill_is_refused_where_it_could_touch_real_work(environment: dict[str, str]) -> None:
    other = environment | {"ENVIRONMENT": "production", "AUTHENTICATION": "on", "MESSAGE_SIGNING": "off"}

    ran = run_program("drill", "stop-worker", environment=other)

    assert ran.code == 1
    assert "The drill is refused: ENVIRONMENT is production. Repeat it with --yes" in ran.err
