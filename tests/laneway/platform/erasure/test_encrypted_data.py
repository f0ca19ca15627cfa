"""The erasure finds a person in what is encrypted: payloads, results, steps, messages and their chains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain

from app.services.container import Services
from laneway.platform.db.session import Database
from laneway.schemas.task import TaskState
from laneway.transport.key_ring import create_ring
from tests.fixtures.in_process_worker import platform_here, run_messages
from tests.fixtures.planted import keys_with, tables_with
from tests.fixtures.platform import Environment, Platform, settings_for
from tests.fixtures.tasks_for_tests import echoing_task
from tests.fixtures.valkey import RedisUrls, RunningValkey

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

ADA, BOB = "lovelace@example.com", "hopper@example.com"
QUEUE = "conversations"


@pytest.fixture
def encrypted(
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
    valkey: RunningValkey,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Platform, Services]]:
    """A platform that encrypts everything, and its services."""
    ring = tmp_path / "keys.json"
    create_ring(ring)
    more = {"KEY_RING_FILE": str(ring), "TASK_ENCRYPTION": "all"}
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, **more)
    monkeypatch.setenv("LANEWAY_TEST_JOURNAL", str(tmp_path / "journal"))
    with platform_here(settings, platform_database, valkey) as (platform, services):
        monkeypatch.setattr(type(echoing_task), "platform", services, raising=False)
        yield platform, services


def test_a_person_is_found_and_removed_where_everything_is_encrypted(encrypted: tuple[Platform, Services]) -> None:
    platform, services = encrypted
    echo: Any = platform.app.register_task(echoing_task)
    done = {mail: platform.tasks.submit(echo, {"text": f"Write to {mail}."}).task_id for mail in (ADA, BOB)}
    run_messages(platform, QUEUE)
    platform.recorder.catch_up()
    assert {platform.state(id) for id in done.values()} == {TaskState.COMPLETED}
    waiting = platform.tasks.submit(echo, {"text": f"Then write to {ADA}."}).task_id
    chain(echo.s(text="first"), echo.si(text=f"At last write to {ADA}."))()
    assert not keys_with(ADA, platform.valkey)
    assert not tables_with(ADA, platform.database)

    found = services.erasure.run(ADA, dry_run=True)
    assert {kind: number for kind, number in found.counts.items() if number} == {
        "tasks": 2,
        "broker_messages": 2,
        "results": 1,
    }
    assert found.examples["tasks"] == sorted([done[ADA], waiting])

    services.erasure.run(ADA)
    assert done[ADA] not in {row.id for row in platform.rows()}
    assert platform.tasks.status(done[BOB]).result == {"echo": f"Write to {BOB}."}
    assert not any(services.erasure.run(ADA, dry_run=True).counts.values())
