"""The throughput benchmark runs with stock Celery and with the engine, and writes its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.throughput.__main__ import main
from tests.fixtures.valkey import RunningValkey

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_a_small_run_measures_every_contender_in_every_scenario(valkey: RunningValkey, tmp_path: Path) -> None:
    """`valkey` is not used; it skips the test where no server can run."""
    file = tmp_path / "figures.json"
    argv = [sys.executable, "-m", "benchmarks.throughput", "--smoke", "--pools", "threads"]
    argv += ["--contestants", "stock,engine", "--json", str(file)]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "W2 threads 1x8" in run.stdout

    written = json.loads(file.read_text())
    assert written["about"]["celery"].startswith("5.7")
    works = {"W1", "W1b", "W5", "W2 threads 1x8", "W3 threads 1x8"}
    assert written["figures"].keys() == works
    for work, by_name in written["figures"].items():
        assert by_name.keys() == {"stock", "engine"}
        if work != "W5":  # so few messages are lost in what else the server's memory does
            assert all(figure["value"] > 0 for figures in by_name.values() for figure in figures), work


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--contestants", "stock,nobody"])
    assert "takes names of" in capsys.readouterr().err
