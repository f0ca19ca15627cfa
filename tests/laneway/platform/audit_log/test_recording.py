"""Entries of the audit log: what they hold, that they only grow, and that two processes may append at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.audit_log.recording import parts_of_one_action, record, recorded_as
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.db.session import Database
from tests.fixtures.forking import run_in_children

ANN = Caller(kind="person", name="ann@example.com", tenant="north", request_id="r-1")
EVERYTHING = AuditLogFilter()


@pytest.fixture
def log(platform_database: Database) -> AuditLog:
    return AuditLog(platform_database)


def test_an_entry_says_who_did_what_to_which_object(log: AuditLog) -> None:
    with acting_as(ANN):
        seq = log.record("queue.pause", ("queue", "emails"), before={"paused": False}, after={"paused": True})

    (entry,) = log.page(EVERYTHING).entries
    assert (entry.seq, entry.caller_kind, entry.caller, entry.tenant, entry.request_id) == (
        *(seq, "person", "ann@example.com"),
        *("north", "r-1"),
    )
    assert (entry.action, entry.object_kind, entry.object_id) == ("queue.pause", "queue", "emails")
    assert (entry.before, entry.after, entry.erased) == ({"paused": False}, {"paused": True}, False)


def test_an_entry_holds_no_secret_and_no_endless_details(log: AuditLog) -> None:
    log.record("token.create", ("token", "ci"), after={"token": "lw_1234", "url": "https://me:pw@host/", "at": {1}})
    log.record("task.cancel", ("task", "x" * 1_000), after={"text": "y" * 10_000})

    long, short = log.page(EVERYTHING).entries
    assert short.after == {"token": "[redacted]", "url": "https://host/", "at": "{1}"}
    assert long.object_id == "x" * 200
    assert long.after == {"cut": "10012 characters"}
    assert log.verify().holds


def test_an_entry_of_a_change_that_was_rolled_back_is_not_there(log: AuditLog, platform_database: Database) -> None:
    with pytest.raises(ZeroDivisionError), platform_database.transaction() as session:
        record(session, "queue.pause", ("queue", "emails"))
        raise ZeroDivisionError
    log.record("queue.resume", ("queue", "emails"))

    assert [(entry.seq, entry.action) for entry in log.page(EVERYTHING).entries] == [(1, "queue.resume")]
    assert log.verify().holds


def test_a_part_of_an_action_has_the_name_of_the_action_or_no_entry(log: AuditLog) -> None:
    with recorded_as("dead_letter.requeue"), recorded_as("other"):
        log.record("task.retry", ("task", "t-1"))
    with parts_of_one_action(), recorded_as("other"):
        assert log.record("task.cancel", ("task", "t-2")) is None
    log.record("task.cancel", ("task", "t-3"))

    assert [entry.action for entry in log.page(EVERYTHING).entries] == ["task.cancel", "dead_letter.requeue"]


def test_entries_are_selected_and_paged(log: AuditLog) -> None:
    with acting_as(ANN):
        for action in ("queue.pause", "queue.resume", "queue_x.pause", "task.cancel"):
            log.record(action, ("queue", action[:5]))
    log.record("queue.pause", ("queue", "other"))

    def numbers(**which: str) -> list[int]:
        return [entry.seq for entry in log.page(AuditLogFilter(**which)).entries]

    assert numbers(action="queue") == [5, 2, 1]
    assert numbers(action="queue.pause") == [5, 1]
    assert numbers(caller="ann@example.com", object_id="queue") == [3, 2, 1]
    assert numbers(request_id="r-1") == [4, 3, 2, 1]
    first = log.page(EVERYTHING, limit=3)
    assert ([entry.seq for entry in first.entries], first.next) == ([5, 4, 3], 3)
    assert [entry.seq for entry in log.page(EVERYTHING, before=3, limit=3).entries] == [2, 1]


def test_the_database_refuses_to_change_and_to_delete_entries(log: AuditLog, platform_database: Database) -> None:
    log.record("queue.pause", ("queue", "emails"), after={"paused": True})
    refused = (
        "DELETE FROM audit_log",
        "UPDATE audit_log SET caller_name = 'nobody'",
        "UPDATE audit_log SET object_id = 'other'",
        'UPDATE audit_log SET object_id = NULL, salt = NULL, "before" = NULL, "after" = NULL, action = \'x\'',
        *([] if platform_database.is_sqlite else ["TRUNCATE audit_log"]),
    )
    for statement in refused:
        with pytest.raises(DBAPIError, match="append-only"), platform_database.transaction() as session:
            session.execute(text(statement))

    assert [entry.object_id for entry in log.page(EVERYTHING).entries] == ["emails"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_append_at_once_make_one_chain(kind: str, request: pytest.FixtureRequest) -> None:
    database: Database = request.getfixturevalue(f"{kind}_database")
    url = database.url.render_as_string(hide_password=False)

    def appends(name: str) -> Callable[[], None]:
        def append() -> None:
            own = AuditLog(Database(url))
            for number in range(60):
                own.record("queue.pause", ("queue", f"{name}-{number}"))

        return append

    run_in_children(appends("one"), appends("two"), seconds=60)

    log = AuditLog(database)
    found = log.verify()
    assert (found.holds, found.entries) == (True, 120)
    written = [entry.object_id for entry in log.page(EVERYTHING, limit=200).entries][::-1]
    assert [id for id in written if id and id.startswith("one")] == [f"one-{number}" for number in range(60)]
