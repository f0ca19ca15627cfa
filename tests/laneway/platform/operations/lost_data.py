"""Fixtures and helpers for tests of what was lost or replaced: to import by name."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from celery import states

from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.operations.audit import Audit, AuditReport
from laneway.platform.operations.maintenance import Maintenance
from laneway.testing.valkey_server import start_valkey
from tests.fixtures.platform import Platform
from tests.fixtures.valkey import RunningValkey

QUEUE = "conversations"
LATER = 11.0
"""Seconds after which a task that was sent is missed."""


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningValkey]:
    """A server of these tests alone: they replace its data."""
    server = start_valkey(tmp_path_factory.mktemp("restored"))
    yield server
    server.stop()


@pytest.fixture
def maintenance(platform: Platform) -> Maintenance:
    return platform.maintenance()


def audit(platform: Platform, *, repair: bool = False) -> AuditReport:
    results = CeleryResults(platform.app)
    return Audit(platform.database, platform.broker, platform.recorder, platform.tasks, results).run(repair=repair)


def run(platform: Platform, *, keep_result: bool = True) -> str:
    """Run the next task as a worker does, with its result; returns its id."""
    id = platform.work(QUEUE)
    assert id is not None
    if keep_result:
        platform.app.backend.store_result(id, {"done": True}, states.SUCCESS)
    platform.recorder.catch_up()
    return id
