"""`laneway drill` with real processes: it passes on a platform that works, and leaves nothing behind."""

from __future__ import annotations

import signal
from pathlib import Path
from tempfile import gettempdir

import psutil
import pytest

from laneway.server.drill.bench import PREFIX
from tests.fixtures.shell import run_program
from tests.fixtures.site import Site
from tests.fixtures.waiting import wait_until

SHORT = ("--tasks", "24", "--lease", "3s", "--json")


def left_behind(site: Site) -> tuple[list[str], list[str], list[str]]:
    """Queues, folders and processes of drills."""
    engine = site.services.broker.engine
    assert engine is not None
    keys = [key.decode() for key in site.valkey.client.keys("*") if PREFIX.encode() in key]
    folders = [path.name for path in Path(gettempdir()).glob(f"{PREFIX}*")]
    workers = [
        str(each.pid) for each in psutil.process_iter(["cmdline"]) if PREFIX in " ".join(each.info["cmdline"] or ())
    ]
    return keys, folders, workers


@pytest.mark.parametrize("kind", ["kill-worker", "restart-broker", "partition"])
def test_a_drill_passes_and_leaves_nothing_behind(site: Site, kind: str) -> None:
    ran = run_program("drill", kind, *SHORT, environment=site.environment)

    assert ran.code == 0, ran.out + ran.err
    assert '"passed": true' in ran.out
    assert left_behind(site) == ([], [], [])


def test_a_drill_that_is_interrupted_cleans_up(site: Site) -> None:
    drill = site.start("drill", "laneway", "drill", "stop-worker", "--tasks", "400", "--lease", "3s")
    wait_until(lambda: len(drill.children()) >= 2, seconds=30)

    drill.signal(signal.SIGINT)

    assert drill.process.wait(30) == 130
    assert left_behind(site) == ([], [], [])


def test_a_drill_is_refused_where_it_could_touch_real_work(site: Site) -> None:
    other = site.environment | {"ENVIRONMENT": "production", "AUTHENTICATION": "on", "MESSAGE_SIGNING": "off"}

    ran = run_program("drill", "stop-worker", environment=other)

    assert ran.code == 1
    assert "The drill is refused: ENVIRONMENT is production. Repeat it with --yes" in ran.err
