"""The check of the chain names the first entry that was changed, removed or inserted, whoever did it and how."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from laneway.platform.audit_log import chain
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.audit_log.verification import ERASE_CONTENTS, Damage
from laneway.platform.db.models import AuditLogEntry, AuditLogHead
from laneway.platform.db.queries import audit_log as queries
from laneway.platform.db.session import Database

LENGTH = 8
Attack = Callable[[Session], None]


@pytest.fixture
def log(platform_database: Database) -> AuditLog:
    """A log of eight entries."""
    log = AuditLog(platform_database)
    for number in range(1, LENGTH + 1):
        log.record("queue.pause", ("queue", f"queue-{number}"), before={"paused": False}, after={"paused": True})
    return log


@pytest.fixture
def attack(platform_database: Database) -> Callable[[Attack], None]:
    """Run an attack as somebody who may do everything in the database: the triggers do not stop it."""

    def run(tamper: Attack) -> None:
        with platform_database.transaction() as session:
            if platform_database.is_sqlite:
                triggers = session.execute(
                    text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log'")
                ).all()
                for name, _ in triggers:
                    session.execute(text(f"DROP TRIGGER {name}"))
            else:
                session.execute(text("SET LOCAL session_replication_role = replica"))
            tamper(session)

    return run


def entry(session: Session, seq: int) -> AuditLogEntry:
    return session.scalars(select(AuditLogEntry).where(AuditLogEntry.seq == seq)).one()


def change(values: dict[str, object], *, rehash: bool = False) -> Attack:
    def tamper(session: Session) -> None:
        changed = entry(session, 5)
        for name, value in values.items():
            setattr(changed, name, value)
        if rehash:
            changed.digest = chain.digest_of(changed)
            changed.hash = chain.hash_of(changed)

    return tamper


def remove(seq: int) -> Attack:
    return lambda session: session.execute(delete(AuditLogEntry).where(AuditLogEntry.seq == seq)) and None


def renumber(session: Session, seqs: list[int], *, by: int) -> None:
    for seq in seqs:
        session.execute(update(AuditLogEntry).where(AuditLogEntry.seq == seq).values(seq=seq + by))


def remove_and_close_the_gap(session: Session) -> None:
    remove(5)(session)
    renumber(session, [6, 7, 8], by=-1)


def copy_of(session: Session, of: int, **values: object) -> AuditLogEntry:
    original = entry(session, of)
    columns = {column.key: getattr(original, column.key) for column in AuditLogEntry.__table__.columns}
    return AuditLogEntry(**{**columns, "object_id": "invented", **values})


def insert_with_a_right_hash(session: Session) -> None:
    renumber(session, [8, 7, 6], by=1)
    invented = copy_of(session, 5, seq=6, previous=entry(session, 5).hash)
    invented.digest = chain.digest_of(invented)
    invented.hash = chain.hash_of(invented)
    session.add(invented)


def append_without_the_head(session: Session) -> None:
    invented = copy_of(session, 8, seq=9, previous=entry(session, 8).hash)
    invented.digest = chain.digest_of(invented)
    invented.hash = chain.hash_of(invented)
    session.add(invented)


def replace_the_last(session: Session) -> None:
    last = entry(session, 8)
    last.caller_name = "somebody else"
    last.hash = chain.hash_of(last)


ATTACKS: list[tuple[str, Attack, Damage, int]] = [
    ("the caller", change({"caller_name": "somebody else"}), Damage.CHANGED, 5),
    ("the object", change({"object_id": "another"}), Damage.CHANGED, 5),
    ("the details", change({"after": {"paused": False}}), Damage.CHANGED, 5),
    ("with its hash", change({"object_id": "another"}, rehash=True), Damage.CHANGED, 5),
    ("its place in the chain", change({"previous": "f" * 64}, rehash=True), Damage.CHANGED, 5),
    ("the last one, with its hash", replace_the_last, Damage.CHANGED, 8),
    ("the first one removed", remove(1), Damage.REMOVED, 1),
    ("one removed", remove(5), Damage.REMOVED, 5),
    ("the last one removed", remove(8), Damage.REMOVED, 8),
    ("removed, and the rest renumbered", remove_and_close_the_gap, Damage.REMOVED, 5),
    ("inserted before the first", lambda session: session.add(copy_of(session, 1, seq=0)), Damage.INSERTED, 0),
    ("inserted, and the rest renumbered", insert_with_a_right_hash, Damage.INSERTED, 6),
    ("inserted at the end", append_without_the_head, Damage.INSERTED, 9),
    ("contents erased by hand", lambda session: queries.erase_contents(session, [5]), Damage.ERASED, 5),
]


@pytest.mark.parametrize(("name", "tamper", "damage", "seq"), ATTACKS, ids=[each[0] for each in ATTACKS])
def test_the_first_damaged_entry_is_named(
    name: str, tamper: Attack, damage: Damage, seq: int, log: AuditLog, attack: Callable[[Attack], None]
) -> None:
    assert log.verify().holds
    attack(tamper)

    found = log.verify()
    assert (found.damage, found.seq) == (damage, seq)


def test_erased_contents_are_no_damage_if_an_entry_names_them(log: AuditLog, platform_database: Database) -> None:
    with platform_database.transaction() as session:
        queries.erase_contents(session, [2, 5])
    log.record(ERASE_CONTENTS, ("audit_log", "-"), after={"entries": [2]})
    assert (log.verify().damage, log.verify().seq) == (Damage.ERASED, 5)
    log.record(ERASE_CONTENTS, ("audit_log", "-"), after={"entries": [5]})

    found = log.verify()
    assert (found.holds, found.entries) == (True, LENGTH + 2)


def test_a_lost_end_is_not_hidden_by_the_next_entry(log: AuditLog, attack: Callable[[Attack], None]) -> None:
    attack(remove(8))
    log.record("queue.resume", ("queue", "queue-8"))

    assert (log.verify().damage, log.verify().seq) == (Damage.REMOVED, 8)


def test_an_empty_log_holds(platform_database: Database) -> None:
    log = AuditLog(platform_database)

    assert (log.verify().holds, log.verify().entries) == (True, 0)
    with platform_database.reading() as session:
        assert session.get(AuditLogHead, 1) is None


def test_a_long_log_is_checked_in_pages(
    log: AuditLog, attack: Callable[[Attack], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 3)
    assert (log.verify().holds, log.verify().entries) == (True, LENGTH)
    attack(remove(7))

    assert (log.verify().damage, log.verify().seq) == (Damage.REMOVED, 7)
