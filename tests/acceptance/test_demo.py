"""`laneway demo`, as a person runs it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.site import Node, Site, running_site

Report = Callable[[str, object], None]

TASKS = 25


def finished(site: Site, figure: Report, name: str) -> str:
    """Run the demo to its end, which must be a good one; what it printed."""
    begun = time.monotonic()
    demo: Node = site.start(name, "laneway", "demo", COLUMNS="120")
    code = demo.process.wait(150)
    figure(name, f"{time.monotonic() - begun:.1f} s")
    assert code == 0, demo.said()
    return demo.said()


def check(said: str) -> None:
    """Replies with their sources, webhooks in both directions, a report, and all tasks completed."""
    done = re.search(r"(\d+) of (\d+) tasks completed", said)
    assert done is not None, said
    assert done[1] == done[2]
    assert int(done[1]) >= TASKS
    assert said.count(", passage ") >= 3
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
        assert words in said
    attempts = re.findall(r"(\d{3}) +verified +(\S+) +(\S+)", said)
    assert [attempt[:2] for attempt in attempts] == [
        ("500", "document.processed"),
        ("204", "document.processed"),
        ("410", "demo.finished"),
        ("204", "demo.finished"),
    ]
    assert len({id for _, _, id in attempts}) == 2, "what is sent again has the same webhook-id"
    for words in ("failed: it answered 500", "it answered 410 Gone", "/hook is enabled."):
        assert words in said
    assert "Traceback" not in said


def test_the_demo_starts_a_platform_if_none_runs_and_works_again_on_one_that_does(
    tmp_path: Path, figure: Report
) -> None:
    with running_site(tmp_path) as site:
        site.valkey.stop()  # `laneway up` starts its own

        said = finished(site, figure, "demo without a platform")
        check(said)
        assert "No platform runs here" in said
        assert "Stopping the platform" in said
        assert not site.api_answers()

        platform = site.start("up", "laneway", "up")
        platform.until_said("all processes are ready", seconds=90)
        said = finished(site, figure, "demo on a running platform")
        check(said)
        assert "No platform runs here" not in said
        assert "(known already)" in said
        assert site.api_answers()
        own = [line for line in platform.said().splitlines() if "source=command" not in line]  # qa finds something
        assert "Traceback" not in "\n".join(own)
        assert platform.stop(seconds=60) == 0
