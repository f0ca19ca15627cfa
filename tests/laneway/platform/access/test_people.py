"""Who a request's person is: by a session's cookie, or by the header of a trusted proxy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from itsdangerous import URLSafeTimedSerializer

from app.core.settings import Settings, load_settings
from laneway.platform.access.people import SESSION_KEY_FILE, People
from laneway.platform.access.roles import SCOPES, Person, Role, Roles
from laneway.platform.access.scopes import Scope
from laneway.platform.access.sessions import LOGIN_SECONDS
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError
from laneway.platform.settings.people import PeopleSettings
from tests.fixtures.platform import Environment

MakePeople = Callable[..., People]
PROVIDER = {"OIDC_ISSUER": "https://login.example", "OIDC_CLIENT_ID": "us", "OIDC_CLIENT_SECRET": "not-empty"}
ROLES = {"ROLE_VIEWERS": "staff", "ROLE_OPERATORS": "ops, Ada@example.com", "ROLE_ADMINS": "root@example.com"}
PROXY = {
    "PROXY_ADDRESSES": "10.1.0.0/16, ::1",
    "PROXY_USER_HEADER": "X-User",
    "PROXY_GROUPS_HEADER": "X-Groups",
    **ROLES,
}


@pytest.fixture
def settings(environment: Environment, tmp_path: Path) -> Callable[..., Settings]:
    """Settings with these variables."""

    def make(**given: str) -> Settings:
        environment(DATA_DIR=str(tmp_path / "data"), **given)
        return load_settings()

    return make


@pytest.fixture
def make_people(settings: Callable[..., Settings], platform_database: Database) -> MakePeople:
    return lambda **given: People(settings(**given), platform_database)


def begin(people: People, email: str = "ada@example.com", role: Role = Role.OPERATOR) -> str:
    """The cookie of a new session."""
    return people.sessions.cookie_for(people.logins.begin(Person(email, email), role))


def by_session(people: People, cookie: str | None) -> str | None:
    """Whom a cookie names."""
    found = people.find(cookie=cookie, address="192.0.2.1", headers=lambda _: [])
    return found.caller.name if found else None


def by_proxy(people: People, address: str | None, **headers: list[str]) -> tuple[str, frozenset[str]] | None:
    """Whom the headers of a proxy at this address name, and what that person may do."""
    given = {name.replace("_", "-").lower(): values for name, values in headers.items()}
    found = people.find(cookie=None, address=address, headers=lambda name: given.get(name.lower(), []))
    return (found.caller.name, found.caller.scopes) if found else None


def test_the_most_powerful_role_counts_and_nobody_has_one_by_chance() -> None:
    roles = Roles(PeopleSettings(viewers="staff,ada@example.com", operators="ops", admins="root@example.com"))
    nobody = Person("eve@example.com", "eve@example.com", frozenset({"Staff", "root@example.com", ""}))

    assert roles.role_of(Person("x", "ADA@example.com")) is Role.VIEWER
    assert roles.role_of(Person("x", "ada@example.com", frozenset({"ops"}))) is Role.OPERATOR
    assert roles.role_of(Person("x", "root@example.com", frozenset({"staff"}))) is Role.ADMIN
    assert roles.role_of(Person("root@example.com", None)) is None
    assert roles.role_of(nobody) is None


def test_viewers_read_and_only_admins_manage_and_delete() -> None:
    assert SCOPES[Role.VIEWER] == {Scope.READ}
    assert not SCOPES[Role.OPERATOR] & {Scope.ADMIN, Scope.DELETE}
    roles = Roles(PeopleSettings(viewer_scopes="reports", operator_scopes="reports, orders"))
    assert roles.scopes_of(Role.VIEWER) == {Scope.READ, "reports"}
    assert roles.scopes_of(Role.OPERATOR) == SCOPES[Role.OPERATOR] | {"reports", "orders"}


def test_a_session_names_its_person_until_it_is_too_old(make_people: MakePeople) -> None:
    people = make_people(**PROVIDER, **ROLES, SESSION_HOURS="720")
    cookie = begin(people)

    assert by_session(people, cookie) == "ada@example.com"
    people.sessions.seconds = -1
    assert by_session(people, cookie) is None


def test_nobody_but_the_platform_makes_a_cookie(make_people: MakePeople, tmp_path: Path) -> None:
    people = make_people(**PROVIDER, **ROLES)
    cookie = begin(people)
    body, rest = cookie.split(".", 1)
    forged = URLSafeTimedSerializer("laneway", salt="laneway.session").dumps(people.session_of(cookie))
    other_kind = people.sessions.csrf_token("id")

    assert by_session(people, cookie) == "ada@example.com"
    for wrong in (
        None,
        "",
        "x",
        "." * 50,
        cookie[:-1],
        f"{body[:-2]}AA.{rest}",
        forged,
        other_kind,
        cookie + "A" * 5000,
    ):
        assert by_session(people, wrong) is None, wrong
    (tmp_path / "data" / SESSION_KEY_FILE).unlink()
    assert by_session(make_people(), cookie) is None


def test_sessions_outlive_the_rotation_of_their_secret(make_people: MakePeople) -> None:
    people = make_people(**PROVIDER, **ROLES, SESSION_SECRET="first-secret-of-this-test")
    cookie = begin(people)

    second = "second-secret-of-this-test"
    rotated = make_people(SESSION_SECRET=second, SESSION_SECRET_PREVIOUS="first-secret-of-this-test")
    assert by_session(rotated, cookie) == "ada@example.com"
    new = begin(rotated)
    ended = make_people(SESSION_SECRET=second, SESSION_SECRET_PREVIOUS="")
    assert (by_session(ended, cookie), by_session(ended, new)) == (None, "ada@example.com")


def test_a_signed_value_of_one_kind_is_none_of_another(make_people: MakePeople) -> None:
    sessions = make_people(**PROVIDER, **ROLES).sessions
    read = (sessions.read, sessions.noted_login, lambda text: sessions.is_csrf_token(text, "id") or None)
    made = (sessions.cookie_for("id"), sessions.note_login({"state": "s"}), sessions.csrf_token("id"))

    found = [[reads(text) is not None for text in made] for reads in read]

    assert found == [[True, False, False], [False, True, False], [False, False, True]]


def test_a_login_takes_ten_minutes_at_most(make_people: MakePeople, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = make_people(**PROVIDER, **ROLES).sessions
    now, noted = time.time(), sessions.note_login({"state": "s"})
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + LOGIN_SECONDS - 5)
    assert sessions.noted_login(noted) == {"state": "s"}
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + LOGIN_SECONDS + 5)
    assert sessions.noted_login(noted) is None


def test_a_csrf_token_is_good_for_its_own_session_only(make_people: MakePeople) -> None:
    sessions = make_people(**PROVIDER, **ROLES).sessions
    token = sessions.csrf_token("session-1")

    assert sessions.is_csrf_token(token, "session-1")
    for wrong, subject in ((token, "session-2"), (token[:-1], "session-1"), (None, "session-1"), ("", "session-1")):
        assert not sessions.is_csrf_token(wrong, subject)
    assert sessions.noted_login(token) is None


def test_a_proxy_is_believed_at_its_address_only(make_people: MakePeople) -> None:
    people = make_people(**PROXY)

    for address in ("10.1.2.3", "::1", "::ffff:10.1.2.3"):
        assert by_proxy(people, address, X_User=["ada@example.com"]) == ("ada@example.com", SCOPES[Role.OPERATOR])
    for address in ("10.2.0.1", "127.0.0.1", "::ffff:127.0.0.1", "::2", None, "", "localhost"):
        assert by_proxy(people, address, X_User=["ada@example.com"]) is None, address


def test_a_proxy_gives_roles_by_groups_and_an_ambiguous_header_names_nobody(make_people: MakePeople) -> None:
    people = make_people(**PROXY)
    proxy = "10.1.0.1"

    assert by_proxy(people, proxy, X_User=["bob"], X_Groups=["all, ops"]) == ("bob", SCOPES[Role.OPERATOR])
    assert by_proxy(people, proxy, X_User=["bob"], X_Groups=["staff", "ops"]) is None
    assert by_proxy(people, proxy, X_User=["bob"]) is None
    for names in ([], [""], ["ada@example.com", "root@example.com"], ["ada@example.com\x7f"], ["a" * 201]):
        assert by_proxy(people, proxy, X_User=names, X_Groups=["ops"]) is None, names


def test_without_a_provider_or_a_proxy_nobody_is_known(make_people: MakePeople) -> None:
    people = make_people()
    cookie = begin(make_people(**PROVIDER, **ROLES))

    assert by_session(people, cookie) is None
    assert by_proxy(people, "127.0.0.1", X_User=["ada@example.com"]) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"OIDC_ISSUER": "https://login.example"}, "OIDC_ISSUER needs OIDC_CLIENT_ID and OIDC_CLIENT_SECRET"),
        ({**PROVIDER}, "nobody could log in"),
        ({**PROVIDER, **ROLES, "OIDC_ISSUER": "http://login.example"}, "OIDC_ISSUER must start with https://"),
        ({"PUBLIC_URL": "https://ada:secret@host"}, "PUBLIC_URL must be an address"),
        ({"PROXY_USER_HEADER": "X-User", **ROLES}, "PROXY_USER_HEADER needs PROXY_ADDRESSES"),
        ({**PROXY, "PROXY_ADDRESSES": "10.0.0.1/8"}, "PROXY_ADDRESSES: 10.0.0.1/8 has host bits set"),
        ({**PROXY, "PROXY_GROUPS_HEADER": "X: y"}, "PROXY_GROUPS_HEADER is not the name of a header"),
        ({"SESSION_SECRET": "short"}, "SESSION_SECRET must have at least 16 bytes"),
    ],
)
def test_settings_that_would_leave_a_door_open_or_shut_are_refused(
    settings: Callable[..., Settings], given: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(**given)

    assert problem in str(refused.value)
    assert "secret@host" not in str(refused.value)
