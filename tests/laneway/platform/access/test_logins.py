"""Sessions are rows: they end by a logout, by an operator, by time, and when the provider takes the role away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select

from laneway.platform import clock
from laneway.platform.access import logins as module
from laneway.platform.access.logins import OVERLAP, Logins, browser_of
from laneway.platform.access.roles import Person, Role
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.db.models import PersonSession
from laneway.platform.db.queries import person_sessions
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.db.session import Database
from laneway.platform.settings.people import PeopleSettings
from laneway.testing.clock import Clock

ADA, BOB = Person("ada@example.com", "ada@example.com"), Person("bob")
MakeLogins = Callable[..., Logins]


@pytest.fixture
def make_logins(platform_database: Database) -> MakeLogins:
    """The logins as another process sees them, with these settings."""
    return lambda **given: Logins(platform_database, PeopleSettings(**given))


def recorded(database: Database) -> list[tuple[str, str | None]]:
    found = AuditLog(database).page(AuditLogFilter(), limit=100).entries[::-1]
    return [(entry.action, entry.object_id) for entry in found]


def test_a_session_that_was_ended_is_over_in_every_process(
    make_logins: MakeLogins, platform_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = make_logins(), make_logins()
    one, other, bobs = here.begin(ADA, Role.VIEWER), here.begin(ADA, Role.VIEWER), here.begin(BOB, Role.VIEWER)
    assert elsewhere.find(one) is not None
    here.end(one)
    here.end(one)

    assert here.find(one) is None
    assert elsewhere.find(one) is not None, "it is in mind for two seconds"
    now = module.monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: now + module.CACHE_SECONDS)
    assert elsewhere.find(one) is None
    assert here.find(other) is not None

    assert (here.end_all("ada@example.com"), here.end_all("ada@example.com")) == (1, 0)
    assert (here.find(other), here.find(bobs) is None) == (None, False)
    assert [login.person for login in here.listing()] == ["bob"]
    assert recorded(platform_database)[3:] == [
        ("person.logout", "ada@example.com"),
        *[("person.end_sessions", "ada@example.com")] * 2,
    ]


def test_the_database_has_no_session_that_could_be_used(make_logins: MakeLogins, platform_database: Database) -> None:
    id = make_logins().begin(ADA, Role.ADMIN)

    with platform_database.reading() as session:
        (row,) = person_sessions.listing(session, since=clock.now() - timedelta(hours=1), limit=10)
    assert id not in str({column.name: getattr(row, column.name) for column in PersonSession.__table__.columns})


def test_a_session_waits_for_the_provider_after_a_while_and_then_goes_on(make_logins: MakeLogins) -> None:
    logins, time = make_logins(session_check_minutes=30, session_hours=2), Clock()
    with time.installed():
        id = logins.begin(ADA, Role.VIEWER)
        time.move(timedelta(minutes=29))
        assert logins.find(id) is not None
        time.move(timedelta(minutes=2))
        assert logins.find(id) is None
        assert [logins.is_confirmed(login) for login in logins.listing()] == [False]

        again = logins.begin(ADA, Role.VIEWER, continues=id)
        assert browser_of(again) == browser_of(id)
        assert logins.find(again) is not None
        time.move(timedelta(minutes=90))
        last = logins.begin(ADA, Role.VIEWER, continues=again)
        assert browser_of(last) != browser_of(id), "a session does not go on for ever"
        assert logins.find(again) is None


def test_a_confirmed_session_gets_another_id_and_the_old_one_counts_for_seconds_only(
    make_logins: MakeLogins, platform_database: Database
) -> None:
    here, elsewhere, time = make_logins(), make_logins(), Clock()
    with time.installed():
        old = here.begin(ADA, Role.VIEWER)
        (first,) = here.listing()
        time.move(timedelta(minutes=20))
        new = here.begin(ADA, Role.VIEWER, continues=old)
        assert new != old
        assert [login.began_at for login in here.listing()] == [first.began_at]

        assert elsewhere.find(old) is not None, "the browser may have sent other requests before"
        time.move(OVERLAP)
        assert elsewhere.find(old) is None
        assert elsewhere.find(new) is not None
        stolen = here.begin(ADA, Role.VIEWER, continues=old)
        assert browser_of(stolen) != browser_of(new), "an old id is continued by nobody"
        assert here.find(new) is not None
        here.end(old)
        assert here.find(new) is not None, "an old id ends nothing"
        assert [login.began_at for login in here.listing()][1:] == [first.began_at]
        assert here.end_all("ada@example.com") == 2
    logins = [("person.login", "ada@example.com")] * 2
    assert recorded(platform_database) == [*logins, ("person.end_sessions", "ada@example.com")]


def test_requests_that_come_back_from_the_provider_at_once_leave_one_session(
    make_logins: MakeLogins, platform_database: Database
) -> None:
    time = Clock()
    with time.installed():
        old = make_logins().begin(ADA, Role.VIEWER)
        (first,) = make_logins().listing()
        time.move(timedelta(minutes=31))
        with ThreadPoolExecutor(4) as threads:
            ids = list(threads.map(lambda _: make_logins().begin(ADA, Role.VIEWER, continues=old), range(4)))

        found = make_logins()
        assert all(found.find(id) for id in ids)
        assert {browser_of(id) for id in ids} == {browser_of(old)}
        assert [login.began_at for login in found.listing()] == [first.began_at]
        time.move(OVERLAP)
        assert len([id for id in ids if make_logins().find(id)]) == 1
        assert recorded(platform_database) == [("person.login", "ada@example.com")]


def test_a_logout_with_an_id_that_was_just_replaced_ends_the_session(make_logins: MakeLogins) -> None:
    logins = make_logins()
    old = logins.begin(ADA, Role.VIEWER)
    new, other = logins.begin(ADA, Role.VIEWER, continues=old), logins.begin(ADA, Role.VIEWER)

    logins.end(old)

    assert (logins.find(old), logins.find(new)) == (None, None)
    assert logins.find(other) is not None


def test_a_session_from_before_ids_were_replaced_goes_on(make_logins: MakeLogins, platform_database: Database) -> None:
    now, logins = clock.now(), make_logins()
    digest = hashlib.sha256(b"plain").hexdigest()
    with platform_database.transaction() as session:
        session.add(PersonSession(digest=digest, person="bob", role="viewer", began_at=now, confirmed_at=now))

    assert logins.find("plain") is not None
    new = logins.begin(BOB, Role.VIEWER, continues="plain")

    assert browser_of(new) == "plain"
    assert logins.find(new) is not None
    assert len(logins.listing()) == 1


def test_ids_that_were_replaced_are_deleted(make_logins: MakeLogins, platform_database: Database) -> None:
    logins, time = make_logins(), Clock()
    with time.installed():
        id = logins.begin(ADA, Role.VIEWER)
        for _ in range(5):
            time.move(timedelta(minutes=30))
            id = logins.begin(ADA, Role.VIEWER, continues=id)
        with platform_database.reading() as session:
            assert len(session.scalars(select(PersonSession)).all()) == 2


def test_nobody_continues_the_session_of_somebody_else(make_logins: MakeLogins) -> None:
    logins = make_logins()
    adas = logins.begin(ADA, Role.ADMIN)
    bobs = logins.begin(BOB, Role.VIEWER, continues=adas)

    assert bobs != adas
    assert logins.find(adas) is None, "the browser has another session now"
    login = logins.find(bobs)
    assert login is not None
    assert (login.person, login.role) == ("bob", Role.VIEWER)
    assert logins.begin(ADA, Role.ADMIN, continues="unknown") != "unknown"


def test_another_role_holds_in_all_sessions_and_none_ends_them(
    make_logins: MakeLogins, platform_database: Database
) -> None:
    logins = make_logins()
    one, other, bobs = logins.begin(ADA, Role.ADMIN), logins.begin(ADA, Role.ADMIN), logins.begin(BOB, Role.VIEWER)
    logins.begin(ADA, Role.VIEWER, continues=one)

    for id in (one, other):
        login = logins.find(id)
        assert login is not None
        assert login.role is Role.VIEWER
    logins.refuse(ADA)
    assert (logins.find(one), logins.find(other), logins.find(bobs) is None) == (None, None, False)
    assert recorded(platform_database)[3:] == [("person.role", "ada@example.com"), ("person.refuse", "ada@example.com")]


def test_old_sessions_are_deleted_some_at_a_time(make_logins: MakeLogins, platform_database: Database) -> None:
    logins = make_logins()
    for _ in range(3):
        logins.begin(ADA, Role.VIEWER)
    tomorrow = clock.now() + timedelta(days=1)

    with platform_database.transaction() as session:
        assert person_sessions.delete_old(session, before=clock.now() - timedelta(days=1), limit=10) == 0
        assert person_sessions.delete_old(session, before=tomorrow, limit=2) == 2
        assert person_sessions.delete_old(session, before=tomorrow, limit=2) == 1


def test_a_session_ends_after_its_hours_also_if_the_provider_confirms_it(make_logins: MakeLogins) -> None:
    logins, time = make_logins(session_hours=2, session_check_minutes=90), Clock()
    with time.installed():
        first = logins.begin(ADA, Role.VIEWER)
        time.move(timedelta(minutes=70))
        second = logins.begin(ADA, Role.VIEWER, continues=first)
        assert logins.find(second) is not None
        time.move(timedelta(minutes=49))
        assert logins.find(second) is not None
        time.move(timedelta(minutes=2))

        assert logins.find(second) is None
        assert logins.listing() == []
