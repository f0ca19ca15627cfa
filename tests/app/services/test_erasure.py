"""The erasure of a person: everything about them is gone from library and application, and nothing about others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from app.db.models import Base as ApplicationBase
from app.db.models import Conversation, Document, Lead, Message, Passage, WebhookDelivery, WebhookEvent
from app.services.container import Services
from laneway.engine import Message as EngineMessage
from laneway.engine import RoundRobin
from laneway.platform import clock
from laneway.platform.db.models import Base, OutboundDelivery, TaskEvent, TaskRun
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.erasure.erasure import StillRunning
from laneway.platform.execution.outcomes import Attempt, Stopped
from tests.fixtures.platform import Platform

ADA, BOB = "lovelace@example.com", "hopper@example.com"
QUEUE, TASK = "conversations", "process_conversation_message_task"


def add_person(services: Services, mail: str, name: str) -> None:
    """Store something in each table that may hold data of a person, and in the broker."""
    conversation, now = f"conversation-{name}", clock.now()
    message = {"conversation_id": conversation, "message": f"Hello, {name}", "customer": {"email": mail}}
    for number in (1, 2, 3):
        services.tasks.submit(TASK, message, id=f"{name}-task-{number}", delay=60 if number == 3 else 0)
    services.tasks.cancel(f"{name}-task-1")
    with services.database.transaction() as session:
        stamps: Any = {"created_at": now, "updated_at": now}
        session.add(Conversation(id=conversation, channel="api", customer={"email": mail}, status="open", **stamps))
        session.flush()
        session.add(
            Message(conversation_id=conversation, message_id=f"{name}-1", role="customer", text="Hi", created_at=now)
        )
        session.add(
            Lead(
                lead_id=f"lead-of-{name}", uid=f"uid-{name}-1", source="api", source_id=name, fields={"email": mail},
                conversation_id=conversation, crm_state="synced", crm_id=f"crm-{name}", **stamps,
            )
        )  # fmt: skip
        session.add(
            Document(
                id=f"document-of-{name}", title="Letter", digest="", user_id=mail, object_key=f"{name}.pdf", **stamps
            )
        )
        session.flush()
        session.add(Passage(document_id=f"document-of-{name}", position=0, text=f"A letter by {name}"))
        delivery = f"delivery-of-{name}"
        session.add(
            WebhookDelivery(id=delivery, source="acme", body={"mail": mail}, state="processed", received_at=now)
        )
        session.add(
            WebhookEvent(
                source="acme", event_id=f"event-{name}", name="x", kind="x", delivery_id=delivery, data={"by": mail},
                problems=[], state="handled", created_at=now,
            )
        )  # fmt: skip
        session.add(TaskEvent(task_id=f"{name}-task-1", at=now, kind="log", data={"text": f"mail to {mail}"}))
        session.add(
            OutboundDelivery(
                id=f"outbound-{name}", endpoint_id="e", url="https://receiver/", event="x", state="completed",
                body=json.dumps({"data": {"conversation_id": conversation}}), occurred_at=now, touched_at=now,
                created_at=now,
            )
        )  # fmt: skip
    engine = services.broker.engine
    assert engine is not None
    engine.put("not-declared", EngineMessage(task_id=f"stray-{name}", name="x", body=mail.encode()))
    engine.put("graveyard", EngineMessage(task_id=f"dead-{name}", name="x", body=b"no JSON: " + mail.encode()))
    engine.bury(engine.fetch(RoundRobin({"graveyard": 1}), 1).deliveries, reason="unreadable", error=mail)
    backend: Any = services.results._backend  # pyright: ignore[reportPrivateUsage]
    backend.store_result(f"result-of-{name}", {"mail": mail}, "SUCCESS")


def everything(services: Services) -> str:
    """All that the database and the broker hold, as text."""
    parts: list[str] = []
    with services.database.reading() as session:
        for metadata in (Base.metadata, ApplicationBase.metadata):
            for table in metadata.sorted_tables:
                parts += [f"{table.name}: {tuple(row)}" for row in session.execute(select(table))]
    engine = services.broker.engine
    assert engine is not None
    for key in engine.runner.call("KEYS", "*"):
        parts += [f"{key} {element}" for element in _elements(engine.runner, key)]
    backend: Any = services.results._client  # pyright: ignore[reportPrivateUsage]
    parts += [f"{key} {backend.get(key)}" for key in backend.keys("celery-task-meta-*")]
    return "\n".join(parts)


def _elements(client: Any, key: bytes) -> list[object]:
    """What a key of the broker holds, one by one."""
    kind = client.call("TYPE", key)
    if kind == b"string":
        return [client.call("GET", key)]
    if kind == b"hash":
        flat = client.call("HGETALL", key)
        return list(zip(flat[::2], flat[1::2], strict=True))
    read = {
        b"zset": ("ZRANGE", key, 0, -1), b"list": ("LRANGE", key, 0, -1),
        b"stream": ("XRANGE", key, "-", "+"), b"set": ("SMEMBERS", key),
    }  # fmt: skip
    return list(client.call(*read[kind]))


def about(services: Services, *words: str) -> list[str]:
    return [line for line in everything(services).splitlines() if any(word in line.lower() for word in words)]


@pytest.fixture
def people(services: Services) -> Services:
    """Ada and Bob."""
    add_person(services, ADA, "lovelace")
    add_person(services, BOB, "hopper")
    return services


def test_a_dry_run_counts_and_changes_nothing(people: Services) -> None:
    before = everything(people)

    found = people.erasure.run("Lovelace@Example.COM", dry_run=True)

    assert everything(people) == before
    assert {kind: number for kind, number in found.counts.items() if number} == {
        "conversations": 1,
        "leads": 1,
        "documents": 1,
        "webhook_deliveries": 1,
        "webhook_events": 1,
        "tasks": 3,
        "outbound_webhooks": 1,
        "broker_messages": 4,
        "results": 1,
    }
    assert found.examples["tasks"] == ["lovelace-task-1", "lovelace-task-2", "lovelace-task-3"]
    assert found.elsewhere == [
        "The CRM has the record crm-lovelace of the lead lead-of-lovelace.",
        "The storage of documents has the file lovelace.pdf of the document document-of-lovelace.",
    ]
    assert (found.entry, found.receipt) == (None, None)


def test_nothing_of_the_person_is_left_and_all_of_the_others(people: Services) -> None:
    assert len(about(people, "lovelace")) > 20
    bobs = about(people, "hopper")
    dry = people.erasure.run(ADA, dry_run=True)

    done = people.erasure.run(ADA)

    assert done.counts == dry.counts
    assert about(people, "lovelace") == []
    assert about(people, "hopper") == bobs
    assert people.erasure.run(ADA, dry_run=True).counts == dict.fromkeys(dry.counts, 0)


def test_the_proof_is_in_the_audit_log_without_the_data_and_the_chain_holds(people: Services) -> None:
    done = people.erasure.run(ADA)

    assert done.entry is not None
    assert done.receipt is not None
    entries = people.audit_log.page(AuditLogFilter()).entries
    proof = entries[0]
    assert (proof.seq, proof.action) == (done.entry, "person.erased")
    assert proof.after == {"removed": dict(done.counts)}
    assert [entry.erased for entry in entries if entry.action == "task.cancel"] == [False, True], "Bob's and Ada's"
    assert people.audit_log.verify().holds
    assert people.erasure.is_proof(done.entry, name="LOVELACE@example.com", receipt=done.receipt)
    for entry, name, receipt in (
        (done.entry, BOB, done.receipt),
        (done.entry, ADA, "0" * 32),
        (done.entry - 1, ADA, done.receipt),
        (99, ADA, done.receipt),
    ):
        assert not people.erasure.is_proof(entry, name=name, receipt=receipt)


def test_a_person_is_found_by_an_id_that_only_the_library_has(people: Services) -> None:
    found = people.erasure.run("conversation-lovelace", dry_run=True)

    assert (found.counts["tasks"], found.counts["conversations"], found.counts["leads"]) == (3, 1, 1)


def test_a_message_of_somebody_else_that_mentions_the_person_goes_alone(people: Services) -> None:
    with people.database.transaction() as session:
        words: Any = {"conversation_id": "conversation-hopper", "created_at": clock.now()}
        session.add(Message(message_id="hopper-2", role="assistant", text=f"Ask {ADA}, please", **words))
        session.add(Passage(document_id="document-of-hopper", position=1, text=f"Sent by {ADA}."))

    done = people.erasure.run(ADA)

    assert done.counts["messages"] == 1
    assert "The document document-of-hopper mentions the person; it was not removed." in done.elsewhere
    with people.database.reading() as session:
        assert session.scalars(select(Message.message_id)).all() == ["hopper-1"]


def test_while_a_task_runs_nothing_of_the_application_is_removed(people: Services, platform: Platform) -> None:
    delivery = platform.fetch(QUEUE)
    assert delivery is not None
    attempt = platform.begun(delivery)
    assert isinstance(attempt, Attempt)

    with pytest.raises(StillRunning, match="1 tasks about this person still run, such as 'lovelace-task-2'"):
        people.erasure.run(ADA, wait=0)

    assert people.erasure.run(ADA, dry_run=True).counts["conversations"] == 1
    platform.end(attempt, Stopped())
    people.erasure.run(ADA, wait=0)
    assert about(people, "lovelace") == []


def test_names_that_the_database_stores_escaped_are_found(people: Services) -> None:
    name = "Jürgen Müller"
    for number, written in enumerate((name, name.upper(), "Jürgen Müllerin")):
        payload = {"conversation_id": f"c-{number}", "message": f"Ich bin {written}."}
        people.tasks.submit(TASK, payload, id=f"escaped-{number}")

    found = people.erasure.run(name, dry_run=True)

    assert found.examples["tasks"] == ["escaped-0", "escaped-1"]
    with people.database.reading() as session:
        assert session.scalar(select(TaskRun.id).where(TaskRun.id == "escaped-2"))
