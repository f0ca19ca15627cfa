"""The client needs neither Celery nor what the platform needs."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"{{name}} is not installed")

sys.meta_path.insert(0, Absent())
import laneway.client
print(sorted(set(map(lambda name: name.partition(".")[0], sys.modules)) & {absent}))
"""
ABSENT = {"alembic", "billiard", "celery", "fastapi", "kombu", "redis", "sqlalchemy", "starlette", "structlog", "typer"}


def test_the_client_is_imported_without_celery_and_the_platforms_packages() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(absent=ABSENT)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")
