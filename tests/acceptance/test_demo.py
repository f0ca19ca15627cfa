"""`laneway demo` as people run it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.development import environment as development_environment
from tests.fixtures.site import Node, Site, running_site

Report = Callable[[str, object], None]

TASKS = 25


def run_demo(site: Site, figure: Report, name: str) -> str:
    """Run the demo until it ends with exit code 0; returns its output."""
    began = time.monotonic()
    demo: Node = site.start(name, "laneway", "demo", COLUMNS="120")
    code = demo.process.wait(150)
    figure(name, f"{time.monotonic() - began:.1f} s")
    assert code == 0, demo.output()
    return demo.output()


def check(output: str) -> None:
    """Check that all tasks completed: replies with sources, webhooks in both directions, a report."""
    done = re.search(r"(\d+) of (\d+) tasks completed", output)
    assert done is not None, output
    assert done[1] == done[2]
    assert int(done[1]) >= TASKS
    assert output.count(", passage ") >= 3
    for words in (
        "Facebook page message",
        "Google lead form",
        "turn 4",
        "conversation analytics",
        "battery-care.docx",
        "weekly: 33.33",
        "FAILED (failures=1)",
        "released 2 files",
        "version 2 for the CRM",
    ):
        assert words in output
    attempts = re.findall(r"(\d{3}) +verified +(\S+) +(\S+)", output)
    assert [attempt[:2] for attempt in attempts] == [
        ("500", "document.processed"),
        ("204", "document.processed"),
        ("410", "demo.finished"),
        ("204", "demo.finished"),
    ]
    assert len({id for _, _, id in attempts}) == 2, "a repeated delivery has the same webhook-id"
    for words in ("failed: it answered 500", "it answered 410 Gone", "/hook is enabled."):
        assert words in output
    assert "Traceback" not in output


def start_platform(site: Site) -> list[Node]:
    """Start what the demo needs with the commands of the Procfile, and wait until it answers."""
    site.broker()
    given = development_environment(site.settings)
    worker = site.start("worker", "laneway", "worker", "-c", "2", "--name", "worker", **given)
    api = site.api(**given)
    site.until_reported(worker)
    return [worker, api]


@pytest.mark.timeout(400)
def test_the_demo_starts_a_platform_if_none_runs_and_also_works_on_a_running_one(
    tmp_path: Path, figure: Report
) -> None:
    with running_site(tmp_path, embedded=True) as site:
        output = run_demo(site, figure, "demo without a platform")
        check(output)
        assert "No platform runs here" in output
        assert "Stopping the platform" in output
        assert not site.api_answers()

        platform = start_platform(site)
        output = run_demo(site, figure, "demo on a running platform")
        check(output)
        assert "No platform runs here" not in output
        assert "(known already)" in output
        assert site.api_answers()
        lines = [line for node in platform for line in node.output().splitlines()]
        own = [line for line in lines if "source=command" not in line]  # the qa command reports a failure
        assert "Traceback" not in "\n".join(own)
