"""The page of the metrics lists those that there are; rules and dashboards name no others."""

from __future__ import annotations

import json
import re

from app.core.settings import ROOT
from laneway.api.exposition import DEFINITIONS
from laneway.platform.history.event_counter import BOUNDS
from laneway.platform.metrics.metrics import TOTALS
from laneway.platform.metrics.task_counts import OUTCOMES, STATES

PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
ROW = re.compile(r"^\| `(laneway_\w+)` \| (\w+) \|([^|]*)\| ", re.MULTILINE)
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",), "gauge": ("",)}
LISTED = {"counter": "_total", "info": "_info"}
"""The suffixes that the page writes."""
SAMPLES = {each.name + suffix for each in DEFINITIONS for suffix in SUFFIXES[each.kind]}


def test_the_page_lists_every_metric_with_its_kind_and_labels() -> None:
    written = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(PAGE)]

    assert written == [(each.name + LISTED.get(each.kind, ""), each.kind, each.labels) for each in DEFINITIONS]


def test_the_page_names_every_value_of_bounded_labels() -> None:
    missing = [value for value in (*OUTCOMES, *STATES, *TOTALS) if f"`{value}`" not in PAGE]

    assert missing == []
    assert f"{len(BOUNDS) + 1} buckets" in PAGE


def test_rules_and_dashboards_name_metrics_that_exist() -> None:
    files = [*(ROOT / "deploy" / "prometheus").glob("*.yml"), *(ROOT / "deploy" / "grafana").glob("*.json")]
    named = {name for file in files for name in re.findall(r"\blaneway_\w+", file.read_text("utf-8"))}

    assert len(files) >= 5
    assert named - SAMPLES == set()


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    for file in (ROOT / "deploy" / "grafana").glob("*.json"):
        panels = json.loads(file.read_text("utf-8"))["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        places = [
            (x, y)
            for panel in panels
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(set(places)) == len(places), file.name
