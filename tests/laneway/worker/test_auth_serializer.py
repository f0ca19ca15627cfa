"""Celery's signing serializer on the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fixtures.certificates import self_signed

PROGRAM = "tests.laneway.worker.auth_app"


def test_a_task_that_celery_has_signed_runs_and_a_damaged_one_does_not(engine_url: str, tmp_path: Path) -> None:
    self_signed(tmp_path, name="laneway", alternative="DNS:laneway.example", key_type="rsa:2048")
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM],
        env={**os.environ, "BROKER": engine_url, "CERTIFICATES": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["ran", "first"], ["refused", "Unable"]]
