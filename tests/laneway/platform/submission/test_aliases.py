"""Tasks that were renamed: their earlier names go on to work, and name the same task."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import AliasChoices, Field
from sqlalchemy import update

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries.search import Filter
from laneway.platform.errors import Conflict
from laneway.platform.execution.versions import check_version
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.submission.routes import TaskRoutes, registered_routes
from laneway.schemas.payload import Payload
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec

OLD, NEW = "make_preview", "make_thumbnail"


class Thumbnail(Payload):
    url: str
    width: int = Field(64, validation_alias=AliasChoices("width", "size"))


SPEC = TaskSpec(name=NEW, own_queue="documents", payload=Thumbnail, key="url", aliases=(OLD,))


@pytest.fixture(autouse=True)
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is registered under its new name."""
    register_spec(monkeypatch, SPEC)
    monkeypatch.setattr(registry, "_aliases", {OLD: NEW})


def rename_row(platform: Platform, id: str, name: str) -> None:
    """Make a row look as if it had been accepted before the task was renamed."""
    old = replace(SPEC, name=name, aliases=())
    other = platform.tasks.submit(old, {"url": "x"}, id=f"{id}-old").task_id
    fingerprint = platform.row(other).fingerprint
    with platform.database.transaction() as session:
        values = {"name": name, "fingerprint": fingerprint}
        session.execute(update(TaskRun).where(TaskRun.id == id).values(**values))


def test_a_submission_under_the_old_name_is_one_of_the_new_task(platform: Platform) -> None:
    id = platform.tasks.submit(OLD, {"url": "x", "size": 32}).task_id
    row = platform.row(id)
    assert (row.name, row.queue, row.payload, row.key) == (NEW, "documents", {"url": "x", "width": 32}, "url:x")


def test_a_repeat_after_the_renaming_is_the_same_task_and_another_payload_is_a_conflict(platform: Platform) -> None:
    id = platform.tasks.submit(OLD, {"url": "x"}).task_id
    rename_row(platform, id, OLD)

    assert not platform.tasks.submit(NEW, {"url": "x"}, id=id).created
    assert not platform.tasks.submit(OLD, {"url": "x"}, id=id).created
    with pytest.raises(Conflict):
        platform.tasks.submit(NEW, {"url": "y"}, id=id)


@pytest.mark.parametrize("name", [OLD, NEW])
def test_a_search_by_either_name_finds_tasks_of_both(platform: Platform, name: str) -> None:
    before, after = (platform.tasks.submit(NEW, {"url": "x"}).task_id for _ in range(2))
    rename_row(platform, before, OLD)
    found, _ = platform.tasks.search(Filter(name=name))
    assert {before, after} <= {task.task_id for task in found}


def test_plain_celery_calls_of_the_old_name_go_to_the_queue_of_the_task() -> None:
    routes = TaskRoutes(lambda: None, zero_goes_first=False, has_keys=True)
    options = dict[str, object]()
    assert routes(OLD, (), {"url": "x"}, options) == {"queue": "documents", "priority": 3}
    assert options["headers"] == {"laneway-key": "url:x"}
    assert routes("unknown", (), {}, {}) is None


def test_programs_without_the_tasks_get_the_routes_of_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in registry if name != NEW]:
        monkeypatch.delitem(registry._entries, name)  # pyright: ignore[reportPrivateUsage]
    assert registered_routes() == {OLD: {"queue": "documents"}, NEW: {"queue": "documents"}}


@pytest.mark.parametrize("payload", [{"url": "x", "size": 32}, {"url": "x", "width": 32}])
def test_a_worker_takes_the_field_under_both_names(payload: dict[str, object]) -> None:
    check_version(SPEC, payload, {"laneway-checked": True})
