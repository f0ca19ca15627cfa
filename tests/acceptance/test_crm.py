"""API, worker, a REST CRM and a mail server as real processes: the CRM receives every lead's newest state, in order."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import select

from app.schemas.lead import LeadRequest
from laneway.platform.db.models import TaskAttempt
from laneway.platform.db.queries.search import Filter
from laneway.schemas.task import TaskStatus
from tests.fixtures.crm_server import CrmServer
from tests.fixtures.http_peer import HttpReply, HttpRequest
from tests.fixtures.mail_server import MailServer
from tests.fixtures.site import Node, Site, running_site
from tests.fixtures.waiting import wait_until

LEADS, CHANGES = 5, 30


@pytest.fixture
def crm() -> Iterator[CrmServer]:
    with CrmServer() as server:
        yield server


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def own_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, crm: CrmServer, mail: MailServer
) -> Iterator[Site]:
    more: dict[str, str] = getattr(request, "param", {})
    told = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mail.port),
        "MAIL_FROM": "crm@example.com",
        "CRM_NOTIFY_TO": "sales@example.com",
    }
    with running_site(tmp_path_factory.mktemp("crm"), TASK_MAX_RETRIES="8", **crm.environment, **told, **more) as site:
        yield site


def start_worker(site: Site, *options: str, queue: str = "crm", name: str = "worker-1") -> Node:
    """Start a worker with `laneway worker` and wait until it is ready."""
    node = site.start(name, "laneway", "worker", "--queue", queue, "--name", name, *options)
    site.until_reported(node)
    return node


def create(site: Site) -> None:
    for number in range(LEADS):
        site.post("/api/leads", {"lead_id": f"lead-{number}", "name": f"lead-{number}", "status": "v1"})


def change(site: Site) -> None:
    """Change five leads thirty times in quick succession."""
    for number in range(CHANGES):
        lead, status = f"lead-{number % LEADS}", f"v{number // LEADS + 2}"
        site.http.put(f"/api/leads/{lead}", json={"name": lead, "status": status}).raise_for_status()


def wait_until_synced(site: Site, crm: CrmServer) -> None:
    newest = CHANGES // LEADS + 1

    def is_synced() -> bool:  # checked in this process, which costs the busy machine little
        return [record.get("version") for record in list(crm.records.values())] == [newest] * LEADS

    wait_until(is_synced, seconds=60)
    assert {record["status"] for record in crm.records.values()} == {f"v{newest}"}
    site.until_all_over([task.task_id for task in queued(site)])
    assert {lead["crm"]["state"] for lead in site.get("/api/leads")["leads"]} == {"synced"}


def queued(site: Site) -> list[TaskStatus]:
    """All tasks of the queue, finished ones included."""
    return site.services.tasks.search(Filter(queue="crm"), limit=500)[0]


def check_that_no_old_state_follows_a_newer_one(crm: CrmServer) -> None:
    for number in range(LEADS):
        versions = crm.versions(f"lead-{number}")
        assert versions == sorted(versions), versions


@pytest.mark.timeout(180)
def test_thirty_changes_of_five_leads_end_with_the_newest_state_in_the_crm_and_the_worker_prints_its_figures(
    own_site: Site, crm: CrmServer, mail: MailServer
) -> None:
    own_site.api()
    crm.peer.reply_with(*[HttpReply(503, {"Retry-After": "1"})] * 4)
    worker = start_worker(own_site, "-c", "2")
    create(own_site)
    change(own_site)
    wait_until_synced(own_site, crm)

    check_that_no_old_state_follows_a_newer_one(crm)
    assert len(mail.arrived) == LEADS + CHANGES
    assert len({arrived.message["Message-ID"] for arrived in mail.arrived}) == LEADS + CHANGES
    assert worker.stop() == 0
    summary = worker.output()
    assert re.search(r"^worker-1@\S+ ran for [0-9.]+ s$", summary, re.MULTILINE), summary
    assert "processed 74: completed 70, failed 0, retried 4" in summary, summary
    assert re.search(r"^seconds per task: mean [0-9.]+, p95 [0-9.]+$", summary, re.MULTILINE)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("own_site", [{"CRM_NOTIFY_UPDATES": "false"}], ids=["few e-mails"], indirect=True)
def test_after_a_kill_of_the_worker_the_crm_still_ends_with_the_newest_state(own_site: Site, crm: CrmServer) -> None:
    own_site.api()
    worker = start_worker(own_site, "-c", "2")
    create(own_site)
    wait_until(lambda: len(crm.records) == LEADS, seconds=30)

    def kills(asked: HttpRequest) -> HttpReply:
        worker.kill()  # its request has arrived, but it never receives the response
        return crm._answer(asked)  # pyright: ignore[reportPrivateUsage]

    crm.peer.reply_with(kills)
    change(own_site)
    wait_until(lambda: worker.ended, seconds=30)
    second = start_worker(own_site, "-c", "2", name="worker-2")
    wait_until_synced(own_site, crm)

    check_that_no_old_state_follows_a_newer_one(crm)
    assert len(crm.records) == LEADS
    second.signal(signal.SIGINT)
    assert second.process.wait(30) == 0
    assert "processed" in second.output()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_the_figures_of_a_worker_are_right_with_every_pool(own_site: Site, crm: CrmServer, pool: str) -> None:
    crm.peer.reply_with(HttpReply(503), HttpReply(422))
    worker = start_worker(own_site, "-P", pool, "-c", "2", "--json")
    for number in range(4):
        own_site.services.leads.create(LeadRequest(lead_id=f"lead-{number}", name="Ada"))
    own_site.until_all_over([task.task_id for task in queued(own_site)])
    own_site.until_all_over(
        [task.task_id for task in queued(own_site)]
    )  # including the on_failure task of the refused one
    worker.stop()

    figures = json.loads(next(line for line in worker.output().splitlines() if line.startswith("{")))
    outcomes = Counter(attempt.outcome for attempt in attempts(own_site))
    assert figures["worker"] == f"worker-1@{socket.gethostname()}"
    assert (figures["retried"], figures["failed"], figures["completed"]) == (
        1,
        1,
        8,
    )  # 3 updates, 4 e-mails, 1 on_failure task
    assert figures["processed"] == outcomes.total() == 10
    assert 0 < figures["mean_seconds"] <= figures["p95_seconds"] < figures["seconds"]


def attempts(site: Site) -> Sequence[TaskAttempt]:
    with site.services.database.reading() as session:
        return session.scalars(select(TaskAttempt)).all()
