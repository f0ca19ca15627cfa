"""Flower on the platform: closed without its login, and with it shows workers, tasks and queues."""

from __future__ import annotations

from typing import Any

import httpx

from app.core.catalog import PERFORMANCE_REPORT
from app.schemas.task import State
from tests.fixtures.site import APP, START_SECONDS, Site
from tests.fixtures.tasks_for_tests import GATED
from tests.fixtures.waiting import wait_until


def test_flower_wants_its_login_and_shows_workers_tasks_and_queues(site: Site) -> None:
    flower = site.start("flower", "celery", "-A", APP, "flower")
    password = site.folder / "data" / "flower-password"
    wait_until(lambda: status(site, "/workers", None) == 401, seconds=START_SECONDS)
    login = ("laneway", password.read_text().strip())
    site.worker("shown", app=APP)
    wait_until(lambda: "shown@" in page(site, "/workers", login), seconds=20)
    done = site.message("flower")
    assert site.until(done).state == State.COMPLETED
    wait_until(lambda: task_state(site, done, login) == "SUCCESS", seconds=20)

    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", f"/task/{done}"):
        assert status(site, path, None) == 401, path
        assert status(site, path, ("laneway", "wrong")) == 401, path
        assert status(site, path, login) == 200, path
    assert status(site, f"/api/task/revoke/{done}", None, method="POST") == 401
    assert "process_conversation_message_task" in page(site, f"/task/{done}", login)
    broker = page(site, "/broker", login)
    assert all(name in broker for name in ("conversations", "webhooks", "analytics"))
    assert login[1] not in flower.said()
    assert "Traceback" not in flower.said()
    assert flower.stop() in (0, -15)


def test_a_task_that_failed_is_a_failure_in_flower_and_one_that_was_cancelled_is_revoked(site: Site) -> None:
    site.start("flower", "celery", "-A", APP, "flower")
    password = site.folder / "data" / "flower-password"
    wait_until(lambda: status(site, "/workers", None) == 401, seconds=START_SECONDS)
    login = ("laneway", password.read_text().strip())
    site.worker("shown")
    wait_until(lambda: "shown@" in page(site, "/workers", login), seconds=20)

    wrong = site.send_past_the_platform(PERFORMANCE_REPORT, {"hours": -1})

    stopped = site.submit(GATED, {"gate": str(site.gate())})
    site.until_event("began", stopped)
    site.services.tasks.cancel(stopped)

    wait_until(lambda: task_state(site, wrong, login) == "FAILURE", seconds=20)
    wait_until(lambda: task_state(site, stopped, login) == "REVOKED", seconds=20)
    assert site.row(wrong).state == State.FAILED
    assert site.row(stopped).state == State.CANCELLED


def status(site: Site, path: str, login: tuple[str, str] | None, *, method: str = "GET") -> int:
    """The HTTP status of one of Flower's pages; 0 while Flower is not there."""
    try:
        return ask(site, path, login, method=method).status_code
    except httpx.TransportError:
        return 0


def page(site: Site, path: str, login: tuple[str, str]) -> str:
    """One of Flower's pages."""
    return ask(site, path, login).text


def task_state(site: Site, id: str, login: tuple[str, str]) -> str | None:
    """A task's state as Flower knows it."""
    tasks: dict[str, Any] = ask(site, "/api/tasks", login).json()
    return tasks.get(id, {}).get("state")


def ask(site: Site, path: str, login: tuple[str, str] | None, *, method: str = "GET") -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=20, auth=login) as client:
        return client.request(method, f"http://127.0.0.1:{site.flower_port}{path}")
