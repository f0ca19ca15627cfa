"""Two versions of an application at once, and a migration while workers run: nothing is lost, and nothing fails.

On the delivery engine with SQLite, and on kombu's Redis transport with PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import NotRegistered

import tests.fixtures.rolling_tasks  # noqa: F401 - registers the tasks of the newer version here
from app.db.history import APPLICATION_HISTORY
from laneway.platform.db.migrate import upgrade
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import UnknownTask
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.newer_schema import newer_history
from tests.fixtures.rolling_tasks import ADDED, NEW_NAME, NOTE, OLD_NAME
from tests.fixtures.site import Node, Site, running_site
from tests.fixtures.waiting import wait_until

APP = "tests.fixtures.rolling_app:celery_app"


@pytest.fixture(params=["engine", "redis"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An installation on the engine and SQLite, or on kombu's Redis transport and PostgreSQL."""
    more: dict[str, Any] = {}
    if request.param == "redis":
        more = {"database_url": request.getfixturevalue("postgresql_url"), "BROKER_TRANSPORT": "celery"}
    with running_site(tmp_path, **more) as site:
        yield site


def worker(site: Site, version: str) -> Node:
    seconds = {"old": "3600", "new": "2"}[version]
    given = {"ROLLING_VERSION": version, "TASK_HAND_ON_SECONDS": seconds}
    return site.worker(version, queues="analytics", app=APP, concurrency=1, **given)


def submit(site: Site, name: str, **payload: Any) -> str:
    return site.submit(registry[name], payload)


def until_known(site: Site, id: str) -> TaskRun:
    """Wait until a task that was sent without the platform has a row and is finished."""

    def row() -> TaskRun | None:
        with suppress(UnknownTask):
            return site.row(id)
        return None

    wait_until(row, seconds=30)
    return site.until(id)


def by(site: Site, ids: list[str]) -> list[str]:
    """The version that ran each of these tasks, all of which must have completed in their first attempt."""
    runs = site.until_all_over(ids)
    assert [(run.state, run.error) for run in runs] == [("completed", None)] * len(ids)
    assert [run.attempts + run.attempts_before for run in runs] == [1] * len(ids)
    return [(run.result or {})["version"] for run in runs]


def test_a_newer_version_is_rolled_out(site: Site) -> None:
    on_engine = site.services.broker.engine is not None
    old = worker(site, "old")
    newer = [submit(site, NOTE, text="n", colour="red"), submit(site, ADDED), submit(site, NEW_NAME, width=3)]
    stream = [submit(site, NOTE, text=f"{n}", stream="s", colour="red" if n == 1 else None) for n in range(3)]
    for what in ("the field 'colour' of the task 'rolling_note'", f"the task '{ADDED}'", f"the task '{NEW_NAME}'"):
        wait_until(lambda what=what: f"does not know {what}" in old.output(), seconds=20)

    known = [submit(site, NOTE, text="k"), site.send_past_the_platform(registry[NOTE], {"text": "plain"})]
    known.append(str(site.app.send_task(OLD_NAME, kwargs={"size": 2}, queue="analytics")))
    assert by(site, known) == ["old"] * 3, "what the old worker knows is not held up"

    histories = (newer_history(site.folder), APPLICATION_HISTORY)
    upgrade(site.settings.storage.url, histories)  # while the old worker runs
    assert by(site, [submit(site, NOTE, text="after") for _ in range(5)]) == ["old"] * 5
    assert {site.row(id).state for id in newer} == {TaskState.PENDING}

    new = worker(site, "new")
    assert by(site, newer) == ["new"] * 3
    assert by(site, stream)[1] == "new"
    if on_engine:
        runs = site.rows(stream)
        starts = [run.started_at for run in runs if run.started_at]
        assert starts == sorted(starts), "the later notes of the stream waited"
    assert "the tables are newer than this program, which goes on" in new.output()

    assert old.stop() == 0
    late = [submit(site, OLD_NAME, size=4), site.send_past_the_platform(registry[NOTE], {"text": "plain"})]
    late.append(str(site.app.send_task(OLD_NAME, kwargs={"size": 5}, queue="analytics")))
    assert by(site, late) == ["new"] * 3
    assert [site.row(id).result for id in late[::2]] == [{"width": width, "version": "new"} for width in (4, 5)]

    nobody = site.app.send_task("rolling_nobody", args=(1,), kwargs={"a": 2}, queue="analytics")
    dead = until_known(site, str(nobody))
    assert (dead.state, dead.payload, dead.attempts) == ("dead_letter", {"a": 2, "args": [1]}, 0)
    assert "No worker of the queue 'analytics' knows the task 'rolling_nobody'" in str(dead.error)
    with pytest.raises(NotRegistered):
        nobody.get(timeout=10)
    assert "Traceback" not in old.output()
