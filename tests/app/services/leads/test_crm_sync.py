"""The CRM synchronisation step by step: order, repeats, lost records and races."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import select

from app.db.models import Lead
from app.schemas.lead import CrmNotify, CrmUpdate, LeadChange, LeadRequest, LeadView
from app.services.container import Services
from app.services.integrations.mail import RecipientsRefused
from laneway.platform import clock
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import Conflict, NotFound, PermanentError, TaskCancelled, UpstreamError
from laneway.platform.execution.outcomes import Attempt, Raised
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import TaskState
from tests.fixtures.crm_server import CrmServer
from tests.fixtures.http_peer import HttpReply, HttpRequest
from tests.fixtures.mail_server import MailServer
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls, RunningValkey


@pytest.fixture
def server() -> Iterator[CrmServer]:
    with CrmServer() as running:
        yield running


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
def app(
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
    server: CrmServer,
    mail: MailServer,
) -> Iterator[Celery]:
    told = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mail.port),
        "MAIL_FROM": "crm@example.com",
        "CRM_NOTIFY_TO": "one@example.com, two@example.com",
    }
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, **server.environment, **told)
    with celery_on(settings) as made:
        made.own_settings = settings
        yield made


@pytest.fixture
def own(app: Celery, platform_database: Database) -> Services:
    everything = Services(app.own_settings, app)
    everything.database = platform_database
    return everything


@pytest.fixture
def driver(app: Celery, platform_database: Database, valkey: RunningValkey) -> Platform:
    return make_platform(app.own_settings, app, platform_database, valkey=valkey)


def mine() -> None:
    """Accept that the task is this worker's."""


def stored(own: Services, **content: Any) -> LeadView:
    accepted, created = own.leads.create(LeadRequest.model_validate({"lead_id": "lead-1", "name": "Ada", **content}))
    assert created
    return own.leads.view(accepted.lead_id)


def changed(own: Services, **content: Any) -> int:
    return own.leads.put("lead-1", LeadChange.model_validate({"name": "Ada", **content}))[0].version


def update_crm(own: Services, version: int | None = None) -> dict[str, Any]:
    return own.crm.update(CrmUpdate(lead_id="lead-1", version=version), check_ownership=mine)


def test_a_stored_lead_and_each_change_are_sent_to_the_crm(own: Services, server: CrmServer) -> None:
    assert (stored(own).crm.state, stored(own, lead_id="lead-2").crm.version) == ("pending", 0)
    first = update_crm(own, 1)
    changed(own, status="won", fields={"campaign": "spring"})
    second = update_crm(own, 2)

    view = own.leads.view("lead-1")
    assert (first["version"], second["version"], server.versions("lead-1")) == (1, 2, [1, 2])
    assert (view.crm.state, view.crm.version, view.crm.error) == ("synced", 2, None)
    assert view.crm.id in server.records and view.crm.synced_at is not None
    (record,) = server.of("lead-1")
    assert (record["name"], record["status"], record["fields"]) == ("Ada", "won", {"campaign": "spring"})


def test_one_task_sends_the_newest_version_and_the_others_find_it_there(own: Services, server: CrmServer) -> None:
    stored(own)
    for number in range(5):
        changed(own, status=f"s{number}")

    results = [update_crm(own, version) for version in (1, 2, 6, 3, None)]

    assert server.versions("lead-1") == [6]
    assert ["skipped" in result for result in results] == [False, True, True, True, True]


def test_retrying_a_task_of_an_old_version_sends_nothing_old(own: Services, server: CrmServer) -> None:
    stored(own)
    update_crm(own, 1)
    changed(own, status="won")
    update_crm(own, 2)

    assert update_crm(own, 1)["skipped"]
    assert server.versions("lead-1") == [1, 2]


def test_a_creation_whose_response_was_lost_is_repeated_unchanged_and_makes_one_record(
    own: Services, server: CrmServer
) -> None:
    def takes_it_and_dies(asked: HttpRequest) -> HttpReply:
        server._respond(asked)  # pyright: ignore[reportPrivateUsage]
        return HttpReply(hang_up=True)

    stored(own)
    server.peer.reply_with(takes_it_and_dies)
    with pytest.raises(UpstreamError):
        update_crm(own, 1)
    assert "The CRM failed" in (own.leads.view("lead-1").crm.error or "")
    changed(own, name="Grace")
    update_crm(own, 2)

    assert server.versions("lead-1") == [1, 2]
    assert [record["name"] for record in server.of("lead-1")] == ["Grace"]


def test_a_lead_that_the_crm_has_lost_is_created_again(own: Services, server: CrmServer) -> None:
    stored(own)
    update_crm(own, 1)
    server.records.clear()
    changed(own, status="won")
    update_crm(own, 2)
    server.records.clear()
    changed(own, status="lost")
    update_crm(own, 3)

    assert [record["version"] for record in server.of("lead-1")] == [3]
    assert own.leads.view("lead-1").crm.state == "synced"


def test_a_refused_lead_can_be_corrected_and_is_then_created(own: Services, server: CrmServer) -> None:
    stored(own, email="ada@nowhere")
    server.peer.reply_with(HttpReply(422, body={"error": "email"}))
    with pytest.raises(PermanentError, match="422"):
        update_crm(own, 1)
    changed(own, email="ada@example.com")
    update_crm(own, 2)

    assert [record["email"] for record in server.of("lead-1")] == ["ada@example.com"]
    assert server.versions("lead-1") == [2]


def test_an_existing_record_of_the_crm_is_adopted(own: Services, server: CrmServer) -> None:
    server.records["old"] = {"name": "A. L."}
    stored(own)
    server.peer.reply_with(HttpReply(409, body={"id": "old"}))
    update_crm(own, 1)

    assert (own.leads.view("lead-1").crm.id, server.records["old"]["name"]) == ("old", "Ada")
    assert len(server.records) == 1


def test_a_record_that_the_crm_names_only_in_its_sentence_is_adopted(own: Services, server: CrmServer) -> None:
    server.records["5512"] = {"name": "A. L."}
    stored(own)
    server.peer.reply_with(HttpReply(409, body={"message": "Contact already exists. Existing ID: 5512"}))
    update_crm(own, 1)

    assert (own.leads.view("lead-1").crm.id, server.records["5512"]["name"]) == ("5512", "Ada")
    assert len(server.records) == 1


def test_a_crm_that_loses_every_record_is_not_called_for_ever(own: Services, server: CrmServer) -> None:
    stored(own)
    update_crm(own, 1)
    changed(own, status="won")
    server.peer.always = lambda asked: (
        HttpReply(404) if asked.method == "PATCH" else HttpReply(409, body={"id": "gone"})
    )
    with pytest.raises(UpstreamError, match="does not keep the records that it accepts"):
        update_crm(own, 2)

    assert len(server.peer.requests) == 7


def test_a_worker_overtaken_while_it_sends_sends_the_newest_version_again(own: Services, server: CrmServer) -> None:
    """The worker stalls during its request; another worker gets the task and sends a newer version."""

    def overtaken(asked: HttpRequest) -> HttpReply:
        changed(own, status="newest")
        update_crm(own, 3)
        return server._respond(asked)  # pyright: ignore[reportPrivateUsage]

    stored(own)
    update_crm(own, 1)
    changed(own, status="older")
    server.peer.reply_with(overtaken)
    own.crm.update(CrmUpdate(lead_id="lead-1", version=2), check_ownership=lost_after(1))

    assert server.versions("lead-1")[:3] == [1, 3, 2]
    assert [record["status"] for record in server.of("lead-1")] == ["newest"]
    assert own.leads.view("lead-1").crm.state == "synced"


def test_a_worker_overtaken_without_a_response_sends_the_newest_version_again(own: Services, server: CrmServer) -> None:
    """The CRM accepts the older version after the newer one."""

    def overtaken(asked: HttpRequest) -> HttpReply:
        changed(own, status="newest")
        update_crm(own, 3)
        server._respond(asked)  # pyright: ignore[reportPrivateUsage]
        return HttpReply(504, body={"error": "the gateway gave up"})

    stored(own)
    update_crm(own, 1)
    changed(own, status="older")
    server.peer.reply_with(overtaken)
    own.crm.update(CrmUpdate(lead_id="lead-1", version=2), check_ownership=lost_after(1))

    assert server.versions("lead-1") == [1, 3, 2, 3]
    assert [record["status"] for record in server.of("lead-1")] == ["newest"]
    crm = own.leads.view("lead-1").crm
    assert (crm.state, crm.version, crm.error) == ("synced", 3, None)


def lost_after(times: int) -> Any:
    """Let a task continue this many times."""
    left = [None] * times

    def check() -> None:
        if not left:
            raise TaskCancelled
        left.pop()

    return check


def test_a_worker_that_has_lost_the_task_sends_nothing(own: Services, server: CrmServer) -> None:
    stored(own)
    with pytest.raises(TaskCancelled):
        own.crm.update(CrmUpdate(lead_id="lead-1", version=1), check_ownership=lost_after(0))

    assert server.peer.requests == []


def test_a_deleted_lead_is_not_sent_and_its_successor_is_another_lead(own: Services, server: CrmServer) -> None:
    first, queued = stored(own), own.tasks.search(Filter(queue="crm"))[0]
    own.leads.delete("lead-1")
    with pytest.raises(NotFound):
        own.leads.view("lead-1")
    second = stored(own)

    assert {own.tasks.current(task.task_id).state for task in queued} == {"cancelled"}
    assert first.task_id != second.task_id
    old = CrmUpdate.model_validate(own.tasks.current(first.task_id or "").payload)
    assert own.crm.update(old, check_ownership=mine) == {"skipped": "the lead was deleted"}
    update_crm(own, 1)
    assert len(server.records) == 1


def test_a_lead_that_is_deleted_while_it_is_sent_stays_deleted(own: Services, server: CrmServer) -> None:
    def deleted(asked: HttpRequest) -> HttpReply:
        own.leads.delete("lead-1")
        return server._respond(asked)  # pyright: ignore[reportPrivateUsage]

    stored(own)
    server.peer.reply_with(deleted)

    assert update_crm(own, 1) == {"skipped": "the lead was deleted"}
    with pytest.raises(NotFound):
        own.leads.view("lead-1")


def test_a_permanent_failure_is_noted_on_the_lead_unless_the_lead_is_newer(own: Services, driver: Platform) -> None:
    view = stored(own)
    id = view.task_id or ""
    driver.work("crm", Raised(PermanentError("The CRM refused: no such pipeline")))
    assert own.tasks.current(id).state == TaskState.FAILED
    (ended,) = [task for task in own.tasks.search(Filter(queue="crm"))[0] if task.name == "crm_update_ended"]
    note = EndedTask.model_validate(own.tasks.current(ended.task_id).payload)

    assert own.leads.record_update_failure(note)["state"] == "failed"
    crm = own.leads.view("lead-1").crm
    assert (crm.state, crm.error) == ("failed", "failed: The CRM refused: no such pipeline")
    changed(own, status="new")
    assert "skipped" in own.leads.record_update_failure(note)
    assert own.leads.view("lead-1").crm.state == "pending"
    update_crm(own)
    assert own.leads.view("lead-1").crm.model_dump(include={"state", "error"}) == {"state": "synced", "error": None}


def test_a_clash_of_two_sources_is_a_conflict_and_loses_no_lead(own: Services) -> None:
    def arrive() -> bool:
        with own.tasks.transaction() as unit:
            return own.leads.add_from_source(unit, source="google", source_id="x" * 300, conversation_id="c", fields={})

    assert (arrive(), arrive()) == (True, False)
    (lead,) = own.leads.page(before=None, limit=9).leads
    own.leads.delete(lead.lead_id)
    stored(own, lead_id=lead.lead_id)
    with pytest.raises(Conflict):
        arrive()


# --- e-mail


def notify(own: Services, version: int = 1, *, number: int = 1) -> dict[str, Any]:
    """Do what the task does in its n-th attempt."""
    with own.database.reading() as session:
        uid = session.scalars(select(Lead.uid)).one()
    event = CrmNotify(lead_id="lead-1", uid=uid, version=version)
    id = f"crm_notify:{uid}:{version}"
    attempt = Attempt(
        task_id=id,
        name="crm_notify",
        queue="crm",
        number=number,
        max_retries=3,
        payload=json.loads(event.model_dump_json()),
        worker="w",
        started_at=clock.now(),
    )

    def step(name: str, work: Any, *values: Any, **named: Any) -> Any:
        return own.steps.run_once(attempt, name, lambda: work(*values, **named))

    return own.lead_notices.send(event, task_id=id, step=step)


def test_every_recipient_gets_one_email_about_a_lead(own: Services, mail: MailServer) -> None:
    stored(own, email="ada@example.com", fields={"campaign": "spring"}, message="A bicycle,\nplease")
    notify(own)
    notify(own, number=2)

    assert sorted(arrived.to for arrived in mail.arrived) == [("one@example.com",), ("two@example.com",)]
    assert mail.arrived[0].message["Subject"] == "New lead: Ada"
    for line in ("name: Ada", "email: ada@example.com", "campaign: spring", "lead: lead-1", "A bicycle,\nplease"):
        assert line in mail.arrived[0].text
    assert len({arrived.message["Message-ID"] for arrived in mail.arrived}) == 2


def test_a_retry_skips_recipients_that_got_their_email(own: Services, mail: MailServer) -> None:
    stored(own)
    mail.answer_next("RCPT", "450 later")
    with pytest.raises(UpstreamError, match="450 later"):
        notify(own)
    assert [arrived.to for arrived in mail.arrived] == [("two@example.com",)]
    notify(own, number=2)

    assert [arrived.to for arrived in mail.arrived] == [("two@example.com",), ("one@example.com",)]


def test_a_refused_recipient_is_named_after_the_others_got_their_email(own: Services, mail: MailServer) -> None:
    stored(own)
    mail.refused["one@example.com"] = "550 unknown"
    with pytest.raises(RecipientsRefused, match=r"one@example\.com: 550 unknown"):
        notify(own)

    assert [arrived.to for arrived in mail.arrived] == [("two@example.com",)]


@pytest.mark.parametrize("said", ["554 too large for this mailbox", "552 mailbox full"])
def test_an_email_refused_for_one_recipient_reaches_the_others(own: Services, mail: MailServer, said: str) -> None:
    stored(own)
    mail.answer_next("DATA", said)
    with pytest.raises(RecipientsRefused, match=rf"one@example\.com: {said}"):
        notify(own)

    assert [arrived.to for arrived in mail.arrived] == [("two@example.com",)]


def test_a_change_is_announced_as_a_change_and_a_deleted_lead_is_not_announced(own: Services, mail: MailServer) -> None:
    stored(own)
    changed(own, company="Engines")
    notify(own, 2)

    assert {arrived.message["Subject"] for arrived in mail.arrived} == {"Lead changed (version 2): Ada"}
