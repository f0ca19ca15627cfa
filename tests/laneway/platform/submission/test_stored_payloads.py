"""Payloads above a size lie in the storage; the row and the message have a reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.services.container import Services
from laneway.engine import MessageState
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import Conflict, InvalidPayload
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.operations.reencryption import Reencryption
from laneway.platform.payload_store import STORED, is_stored
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from laneway.transport.codec import call_of
from laneway.transport.key_ring import create_ring, read_ring, ring_file
from tests.fixtures.in_process_worker import platform_here, run_messages
from tests.fixtures.platform import Environment, settings_for
from tests.fixtures.platform_driver import Platform
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.laneway.platform.execution.test_encrypted_tasks import QUEUE, SOURCE, declared_tasks

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

LARGE = "large-4711 " * 500
TASK = "plain_count"


class Stored:
    """A platform whose payloads above 2,000 bytes lie in a folder, and tasks in this process."""

    def __init__(self, platform: Platform, services: Services, folder: Path) -> None:
        self.platform, self.services, self.folder = platform, services, folder
        for declared in declared_tasks().values():
            type(declared).platform = services  # pyright: ignore[reportAttributeAccessIssue] - a class of its own
            platform.app.register_task(declared)

    def submit(self, text: str = LARGE, *, task: str = TASK, **options: Any) -> str:
        payload = {"text": text} if task == "sealed_note" else {"before": {"characters": len(text), "text": text}}
        return self.platform.tasks.submit(task, payload, **options).task_id

    def run(self) -> None:
        run_messages(self.platform, QUEUE)
        self.platform.recorder.catch_up()

    def reencryption(self) -> Reencryption:
        platform = self.platform
        return Reencryption(platform.database, platform.broker, CeleryResults(platform.app), platform.settings.tasks)

    def rotate(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """Add a key that is the current one at once; returns the id of the one before it."""
        path = self.platform.settings.keys.ring_path
        assert path is not None
        ring = read_ring(path)
        ring.rotated(overlap=timedelta(0)).write(path)
        monkeypatch.setattr(ring_file(path), "_check_at", 0)
        return ring.keys[0].id

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


MakeStored = Callable[..., AbstractContextManager[Stored]]


@pytest.fixture
def make_stored(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path, valkey: RunningValkey
) -> MakeStored:
    """Makes a platform with a storage and a key ring; it takes further settings."""

    def make(**more: str) -> AbstractContextManager[Stored]:
        folder, ring = tmp_path / "payloads", tmp_path / "keys.json"
        folder.mkdir(exist_ok=True)
        create_ring(ring)
        options = {"PAYLOAD_STORAGE": f"file://{folder}", "PAYLOAD_STORED_ABOVE": "2000", "KEY_RING_FILE": str(ring)}
        settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, **options, **more)
        return running_stored(settings, platform_database, valkey, folder)

    return make


@contextmanager
def running_stored(settings: Any, database: Database, valkey: RunningValkey, folder: Path) -> Generator[Stored]:
    for declared in declared_tasks().values():
        registry.add(declared.spec, declared, source=SOURCE.format(declared.name))
    try:
        with platform_here(settings, database, valkey) as (platform, services):
            yield Stored(platform, services, folder)
    finally:
        for name in declared_tasks():
            registry.remove(name)


@pytest.fixture
def stored(make_stored: MakeStored) -> Iterator[Stored]:
    with make_stored() as stored:
        yield stored


def test_a_large_payload_is_in_the_storage_and_its_task_gets_it(stored: Stored) -> None:
    id, small = stored.submit(), stored.submit("small")
    (message, other) = stored.platform.messages(QUEUE)
    assert call_of(message.stored.message)[1].keys() == {STORED}
    assert len(message.stored.message.body) < 1500
    assert "before" in call_of(other.stored.message)[1]
    assert len(stored.files()) == 1
    assert stored.files()[0].stat().st_mode & 0o077 == 0
    stored.run()
    assert is_stored(stored.platform.row(id).payload)
    assert stored.platform.tasks.status(id).result == {"characters": len(LARGE)}
    assert stored.platform.tasks.status(id).payload["before"]["text"] == LARGE
    assert stored.platform.row(small).state == TaskState.COMPLETED


def test_an_encrypted_payload_is_encrypted_in_the_storage(stored: Stored) -> None:
    id = stored.submit(task="sealed_note")
    assert b"large-4711" not in stored.files()[0].read_bytes()
    stored.run()
    assert stored.platform.tasks.status(id).result == {"answer": LARGE, "characters": len(LARGE)}


def test_a_key_is_in_use_while_a_payload_in_the_storage_is_encrypted_with_it(stored: Stored) -> None:
    key = stored.platform.settings.keys.ring_path
    assert key is not None
    (id,) = (each.id for each in read_ring(key).keys)
    stored.submit(task="sealed_note")
    stored.submit()
    work = stored.reencryption()
    assert (work.uses(id).payloads, work.uses("other").payloads) == (1, 0)


def test_a_storage_that_is_away_refuses_submissions_and_delays_tasks_without_an_attempt(stored: Stored) -> None:
    id = stored.submit()
    away = stored.folder.rename(stored.folder.with_name("away"))
    stored.run()
    row = stored.platform.row(id)
    assert (row.state, row.attempts, row.error_type) == (TaskState.SCHEDULED, 0, "StorageUnavailable")
    assert "cannot be used" in stored.platform.tasks.status(id).payload[STORED]
    stored.folder.write_text("in the way")
    with pytest.raises(StorageUnavailable):
        stored.submit(id="refused")
    assert [row.id for row in stored.platform.rows()] == [id]
    stored.folder.unlink()
    away.rename(stored.folder)
    (info,) = stored.platform.messages(QUEUE, MessageState.SCHEDULED)
    assert info.stored.message.task_id == id


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_a_payload_that_is_lost_or_changed_fails_its_task_with_a_sentence(stored: Stored, damage: str) -> None:
    id = stored.submit()
    (file,) = stored.files()
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes().replace(b"4711", b"4712"))
    stored.run()
    row = stored.platform.row(id)
    assert (row.state, row.error_type) == (TaskState.FAILED, "PayloadLost")
    assert "PAYLOAD_STORAGE" in str(row.error)


def test_an_id_that_is_used_again_is_compared_by_the_payload(stored: Stored) -> None:
    stored.submit(id="one")
    assert stored.submit(id="one") == "one"
    with pytest.raises(Conflict):
        stored.submit(LARGE + "other", id="one")
    with pytest.raises(Conflict):
        stored.submit("small", id="one")


def test_a_submission_cannot_name_an_object(stored: Stored) -> None:
    stolen = stored.platform.row(stored.submit()).payload
    for payload in (stolen, {"before": 1, **stolen}):
        with pytest.raises(InvalidPayload):
            stored.platform.tasks.submit(TASK, payload)


def test_retention_deletes_objects_without_a_row_once_they_are_old(stored: Stored) -> None:
    kept, deleted = stored.submit(), stored.submit(task="sealed_note")
    stored.run()
    stored.platform.tasks.delete(deleted)
    (stored.folder / ("0" * 40)).mkdir()
    (stored.folder / ("0" * 40) / "orphan").write_bytes(b"{}")
    assert stored.services.retention.sweep(now=clock.now())["stored_payloads"] == 0
    for file in stored.files():
        os.utime(file, (1, 1))
    assert stored.services.retention.sweep(now=clock.now())["stored_payloads"] == 2
    assert len(stored.files()) == 1
    assert stored.platform.tasks.status(kept).payload["before"]["text"] == LARGE


def test_an_erasure_finds_a_person_in_a_stored_payload_and_removes_the_object(stored: Stored) -> None:
    person = f"ada@example.com {LARGE}"
    plain, sealed, other = stored.submit(person), stored.submit(person, task="sealed_note"), stored.submit()
    stored.run()
    report = stored.services.erasure.run("ada@example.com")
    assert report.counts["tasks"] == 2
    assert set(report.examples["tasks"]) == {plain, sealed}
    assert len(stored.files()) == 1
    assert stored.platform.row(other).state == TaskState.COMPLETED
