"""The suite for pytest-celery passes: it runs apart, because the plugin replaces Celery's own fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.settings import ROOT

SUITE = Path(__file__).parent / "pytest_celery_suite"
TESTS = 4


@pytest.mark.timeout(400)
def test_the_nodes_of_pytest_celery_may_be_processes_of_the_platform() -> None:
    argv = [sys.executable, "-m", "pytest", "-o", "addopts=--strict-markers --import-mode=importlib", str(SUITE)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-4000:]
    assert f" {TESTS} passed" in ran.stdout
