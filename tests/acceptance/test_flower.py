"""Flower on the platform: it requires its login, and shows workers, tasks and queues."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import httpx

from laneway.platform.access.people import People
from laneway.platform.access.roles import Person, Role
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.site import APP, START_SECONDS, Site, running_site
from tests.fixtures.tasks_for_tests import ECHOING, GATED
from tests.fixtures.waiting import wait_until


def test_flower_requires_its_login_and_shows_workers_tasks_and_queues(site: Site) -> None:
    flower = site.start("flower", "celery", "-A", APP, "flower")
    password = site.folder / "data" / "flower-password"
    wait_until(lambda: status(site, "/workers", None) == 401, seconds=START_SECONDS)
    login = ("laneway", password.read_text().strip())
    site.worker("shown", app=APP)
    wait_until(lambda: "shown@" in page(site, "/workers", login), seconds=20)
    done = site.message("flower")
    assert site.until(done).state == TaskState.COMPLETED
    wait_until(lambda: task_state(site, done, login) == "SUCCESS", seconds=20)

    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", f"/task/{done}"):
        assert status(site, path, None) == 401, path
        assert status(site, path, ("laneway", "wrong")) == 401, path
        assert status(site, path, login) == 200, path
    assert status(site, "/metrics", None) == 401
    assert status(site, "/metrics", login) == 200
    assert status(site, f"/api/task/revoke/{done}", None, method="POST") == 401
    assert status(site, f"/api/task/revoke/{done}", login, method="POST") == 403
    assert "process_conversation_message_task" in page(site, f"/task/{done}", login)
    broker = page(site, "/broker", login)
    assert all(name in broker for name in ("conversations", "webhooks", "analytics"))
    assert login[1] not in flower.output()
    assert "Traceback" not in flower.output()
    assert flower.stop() in (0, -15)


def test_flower_shows_a_failed_task_as_failure_and_a_cancelled_task_as_revoked(site: Site) -> None:
    site.start("flower", "celery", "-A", APP, "flower")
    password = site.folder / "data" / "flower-password"
    wait_until(lambda: status(site, "/workers", None) == 401, seconds=START_SECONDS)
    login = ("laneway", password.read_text().strip())
    site.worker("shown")
    wait_until(lambda: "shown@" in page(site, "/workers", login), seconds=20)

    wrong = site.send_past_the_platform(registry["generate_performance_report_task"], {"hours": -1})

    stopped = site.submit(GATED, {"gate": str(site.gate())})
    site.until_event("began", stopped)
    site.services.tasks.cancel(stopped)

    wait_until(lambda: task_state(site, wrong, login) == "FAILURE", seconds=20)
    wait_until(lambda: task_state(site, stopped, login) == "REVOKED", seconds=20)
    assert site.row(wrong).state == TaskState.FAILED
    assert site.row(stopped).state == TaskState.CANCELLED


def test_flower_shows_results_errors_and_arguments_without_secrets(site: Site) -> None:
    site.start("flower", "celery", "-A", APP, "flower")
    login = wait_for_flower(site)
    site.worker("shown")
    wait_until(lambda: "shown@" in page(site, "/workers", login), seconds=20)
    text, gate = "login(user='ada', password='planted-4711')", site.gate()

    returned, raised = (site.submit(ECHOING, {"text": text, "fails": fails}) for fails in (False, True))
    by_celery = str(site.app.send_task(ECHOING.name, kwargs={"text": text}, queue="conversations"))
    running = site.submit(ECHOING, {"text": text, "gate": str(gate)})
    wait_until(lambda: task_state(site, raised, login) == "FAILURE", seconds=20)
    wait_until(lambda: task_state(site, by_celery, login) == "SUCCESS", seconds=20)
    wait_until(lambda: task_state(site, running, login) == "STARTED", seconds=20)
    paths = [f"/{kind}/{id}" for kind in ("task", "api/task/info", "api/task/result") for id in (returned, raised)]
    paths += ["/api/tasks", f"/task/{by_celery}", f"/task/{running}"]
    (worker,) = wait_until(lambda: ask(site, "/api/workers?refresh=1", login).json(), seconds=20)
    paths += ["/api/workers?refresh=1", f"/worker/{worker}"]

    shown = {path: page(site, path, login) for path in paths}
    gate.open()
    site.until_all_over([running, by_celery])

    for path, content in shown.items():
        assert "planted-4711" not in content, path
    for path in (f"/api/task/result/{returned}", f"/api/task/result/{raised}", f"/api/task/info/{raised}"):
        assert "password=[redacted]" in shown[path], path


def test_the_queue_page_shows_waiting_and_running_messages_of_the_engine(site: Site) -> None:
    site.start("flower", "celery", "-A", APP, "flower")
    login = wait_for_flower(site)
    for conversation in ("one", "two", "two", "two"):
        site.message(conversation)
    site.message("three", delay=3600)

    queues = queue_lengths(site, login)

    assert queues["conversations"] == {
        "name": "conversations",
        "messages": 5,
        "messages_ready": 2,
        "messages_scheduled": 1,
        "messages_held": 2,
        "messages_limited": 0,
        "messages_unacknowledged": 0,
        "messages_dead": 0,
        "consumers": 0,
        "paused": False,
    }
    assert shown(site, login, "conversations") == ["conversations", "5", "0", "2", "0", "—"]
    assert shown(site, login, "crm") == ["crm", "0", "0", "0", "0", "—"]

    gate = site.gate()
    running = site.submit(GATED, {"gate": str(gate)}, priority=Priority.CRITICAL)
    site.worker("busy", concurrency=1)
    site.until_event("began", running)
    wait_until(lambda: shown(site, login, "conversations")[4] == "1", seconds=20)
    taken = queue_lengths(site, login)["conversations"]
    assert taken["messages"] + taken["messages_unacknowledged"] == 6
    assert taken["messages_unacknowledged"] >= 1
    gate.open()
    wait_until(lambda: queue_lengths(site, login)["conversations"]["messages"] == 1, seconds=20)


def test_the_queue_page_reports_that_the_broker_is_down_and_recovers(site: Site) -> None:
    site.start("flower", "celery", "-A", APP, "flower")
    login = wait_for_flower(site)

    site.valkey.stop()
    assert status(site, "/api/queues/length", login) == 503
    assert "No queue data is available" in page(site, "/broker", login)

    site.valkey.start()
    wait_until(lambda: status(site, "/api/queues/length", login) == 200, seconds=20)


def test_with_a_stock_transport_flower_counts_the_queues_itself(tmp_path: Path) -> None:
    with running_site(tmp_path, BROKER_TRANSPORT="celery") as site:
        site.start("flower", "celery", "-A", APP, "flower")
        login = wait_for_flower(site)
        for number in range(3):
            site.message(f"stock-{number}")

        assert queue_lengths(site, login)["conversations"] == {"name": "conversations", "messages": 3}
        assert shown(site, login, "conversations")[:2] == ["conversations", "3"]


PEOPLE = {
    "OIDC_ISSUER": "https://login.example",
    "OIDC_CLIENT_ID": "flower-tests",
    "OIDC_CLIENT_SECRET": "not-used-by-flower",
    "ROLE_VIEWERS": "staff",
    "ROLE_ADMINS": "root@example.com",
    "FLOWER_ALLOW_WRITES": "true",
}


def test_people_see_flower_with_the_session_of_the_api(tmp_path: Path) -> None:
    with running_site(tmp_path, **PEOPLE) as site:
        site.start("flower", "celery", "-A", APP, "flower")
        wait_until(lambda: status(site, "/healthcheck", None) == 200, seconds=START_SECONDS)
        people = site.services.people
        admin, viewer = (
            {"Cookie": cookie_header(people, name, role)}
            for name, role in (("root@example.com", Role.ADMIN), ("bob", Role.VIEWER))
        )
        own_page = {"Sec-Fetch-Site": "same-origin"}
        revoke = "/api/task/revoke/unknown"

        stranger = visit(site, "/tasks?state=SUCCESS", Accept="text/html")
        assert stranger.status_code == 303
        assert stranger.headers["location"].startswith(f"{people.public_url}/login?next=")
        assert stranger.headers["location"].endswith("%2Ftasks%3Fstate%3DSUCCESS")
        assert visit(site, "/logout").headers["location"] == f"{people.public_url}/logout"
        for path in ("/workers", "/tasks", "/broker", "/api/tasks", "/metrics", "/nothing"):
            assert visit(site, path).status_code == 401, path
            assert visit(site, path, Cookie=f"{people.sessions.cookie}=x").status_code == 401, path
            assert visit(site, path, **viewer).status_code == (404 if path == "/nothing" else 200), path
        assert not (site.folder / "data" / "flower-password").exists()
        assert visit(site, "/tasks", Authorization="Basic bGFuZXdheTpub25l").status_code == 401

        assert visit(site, revoke, method="POST", **viewer, **own_page).status_code == 403
        for foreign in ({}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}):
            assert visit(site, revoke, method="POST", **admin, **foreign).status_code == 403, foreign
        assert visit(site, revoke, method="POST", **admin, **own_page).status_code == 200
        (entry,) = site.services.audit_log.page(AuditLogFilter(action="flower")).entries
        assert (entry.action, entry.caller, entry.object_id) == ("flower.write", "root@example.com", revoke)

        people.logins.end_all("bob")
        wait_until(lambda: visit(site, "/tasks", **viewer).status_code == 401, seconds=10)
        assert visit(site, "/tasks", **admin).status_code == 200
        ended = visit(site, "/tasks", Accept="text/html", **viewer).headers["location"]
        assert ended.startswith(f"{people.public_url}/login/start?next=")


def cookie_header(people: People, name: str, role: Role) -> str:
    """The cookie of a new session."""
    return f"{people.sessions.cookie}={people.sessions.cookie_for(people.logins.begin(Person(name), role))}"


def visit(site: Site, path: str, *, method: str = "GET", **headers: str) -> httpx.Response:
    """Ask for one of Flower's pages as a browser does; redirects are not followed."""
    return httpx.request(
        method, f"http://127.0.0.1:{site.flower_port}{path}", headers=headers, trust_env=False, timeout=20
    )


def wait_for_flower(site: Site) -> tuple[str, str]:
    """Wait for Flower; returns its login."""
    wait_until(lambda: status(site, "/workers", None) == 401, seconds=START_SECONDS)
    return "laneway", (site.folder / "data" / "flower-password").read_text().strip()


def queue_lengths(site: Site, login: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """Queue → its figures in Flower's API."""
    return {queue["name"]: queue for queue in ask(site, "/api/queues/length", login).json()["active_queues"]}


def shown(site: Site, login: tuple[str, str], queue: str) -> list[str]:
    """A queue's row of the page: queue, messages, unacked, ready, consumers, idle since."""
    return row_of(page(site, "/broker", login), queue)


def row_of(html: str, queue: str) -> list[str]:
    """The texts of the cells in a queue's row."""
    found = re.search(rf'<tr id="{queue}">(.*?)</tr>', html, re.DOTALL)
    assert found, html
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found[1], re.DOTALL)
    return [unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in cells]


def status(site: Site, path: str, login: tuple[str, str] | None, *, method: str = "GET") -> int:
    """The HTTP status of one of Flower's pages; 0 while Flower does not answer."""
    try:
        return ask(site, path, login, method=method).status_code
    except httpx.TransportError:
        return 0


def page(site: Site, path: str, login: tuple[str, str]) -> str:
    """One of Flower's pages."""
    return ask(site, path, login).text


def task_state(site: Site, id: str, login: tuple[str, str]) -> str | None:
    """A task's state in Flower."""
    tasks: dict[str, Any] = ask(site, "/api/tasks", login).json()
    return tasks.get(id, {}).get("state")


def ask(site: Site, path: str, login: tuple[str, str] | None, *, method: str = "GET") -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=20, auth=login) as client:
        return client.request(method, f"http://127.0.0.1:{site.flower_port}{path}")
