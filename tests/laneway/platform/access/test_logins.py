"""Sessions are rows: they end by a logout, by an operator, by time, and when the provider takes the role away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from laneway.platform import clock
from laneway.platform.access import logins as module
from laneway.platform.access.logins import Logins
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

        assert logins.begin(ADA, Role.VIEWER, continues=id) == id
        assert logins.find(id) is not None
        time.move(timedelta(minutes=90))
        assert logins.begin(ADA, Role.VIEWER, continues=id) != id, "a session does not go on for ever"
        assert logins.find(id) is None


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
