"""The benchmark of growing cost measures every part, and ends with figures and targets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale.__main__ import main
from benchmarks.scale.figures import Figure
from tests.fixtures.valkey import RunningValkey

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.scale"]


@pytest.mark.timeout(300)
def test_a_small_run_measures_every_part(valkey: RunningValkey, tmp_path: Path) -> None:
    """`valkey` is not used; it skips the test where no server can run."""
    file = tmp_path / "figures.json"
    argv = [*COMMAND, "--smoke", "--no-postgresql", "--json", str(file)]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "targets met" in run.stdout

    figures = {figure["name"]: figure for figure in json.loads(file.read_text())["figures"]}
    for name in (
        "idle fetch of 10 queues, server CPU",
        "longest fetch of 5 x 20 messages that fall due, server CPU",
        "longest fetch of 5 x 20 messages whose leases expired, server CPU",
        "script calls for a message that falls due, 4 idle consumers",
        "script calls for a message of a queue with a rate, 4 idle consumers",
        "put, 200 messages, server CPU",
        "fetch and release, 200 messages, server CPU",
        "page of unfinished tasks, 2,000 rows, SQLite",
    ):
        assert figures[name]["value"] > 0, name
    assert figures["pages of unfinished tasks a minute, 4 workers"]["met"], "one worker of a fleet compares"
    assert figures["page of unfinished tasks, 2,000 rows, SQLite"]["note"] == "ix_task_runs_unfinished"


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--parts", "idle,none"])
    assert "takes names of" in capsys.readouterr().err


def test_a_target_is_met_by_a_figure_that_is_not_greater() -> None:
    values = [Figure("", value, "ms", 2.0).is_met for value in (1.0, 2.0, 2.1, None)]
    assert values == [True, True, False, False]
    assert Figure("", 1.0, "ms").is_met is None
