"""Tokens: made, checked, rotated, revoked."""

from __future__ import annotations

import re
from datetime import timedelta
from threading import Thread

import pytest
from sqlalchemy import select

from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.errors import InvalidToken, NotAuthenticated, TokenExists, TokenRevoked, UnknownToken
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_form import PREFIX, SCANNER_PATTERN, is_well_formed, make_token
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.access.tokens import CACHE_SECONDS, USED_SECONDS, Tokens, state_of
from laneway.platform.db.models import AccessToken
from laneway.platform.db.session import Database
from tests.fixtures.platform import MovableClock
from tests.fixtures.waiting import wait_until

DAY = timedelta(days=1)
READER = TokenRights(scopes=frozenset({Scope.READ}))


@pytest.fixture
def tokens(platform_database: Database) -> Tokens:
    """The tokens of an empty database."""
    return Tokens(platform_database)


def test_a_token_has_a_form_that_scanners_know() -> None:
    made = {make_token() for _ in range(50)}

    assert len(made) == 50
    for token in made:
        assert token.startswith(PREFIX)
        assert re.fullmatch(SCANNER_PATTERN, token)
        assert is_well_formed(token)
        for wrong in (
            token[:-1],
            token + "x",
            token[::-1],
            token.replace(PREFIX, "laneway-"),
            f" {token}",
            f"{token}\n",
        ):
            assert not is_well_formed(wrong)
        swapped = token[:10] + token[11] + token[10] + token[12:]
        assert swapped == token or not is_well_formed(swapped)


def test_a_token_stands_for_its_rights(tokens: Tokens) -> None:
    rights = TokenRights(
        scopes=frozenset({Scope.READ, "tasks:submit:generate_weekly_report", "leads"}),
        queues=frozenset({"analytics"}),
        names=frozenset({"generate_weekly_report"}),
        tenant="acme",
    )
    made = tokens.create("dashboard", rights, expires=DAY)

    assert tokens.check(made.token) == Caller(
        kind="token",
        name="dashboard",
        scopes=rights.scopes,
        queues=rights.queues,
        names=rights.names,
        tenant="acme",
    )


def test_the_database_does_not_have_the_token(tokens: Tokens, platform_database: Database) -> None:
    with acting_as(Caller(kind="command", name="ada")):
        made = tokens.create("shop", READER, expires=None)
    with platform_database.reading() as session:
        row = session.scalars(select(AccessToken)).one()

    stored = " ".join(str(value) for value in vars(row).values())
    assert made.token not in stored
    assert made.token.removeprefix(PREFIX)[:12] not in stored
    assert (row.created_by, row.expires_at) == ("ada", None)


def test_what_no_token_can_have_is_refused(tokens: Tokens) -> None:
    for name, rights, expires, problem in (
        ("Shop", READER, DAY, "a name has"),
        ("", READER, DAY, "a name has"),
        ("a", TokenRights(scopes=frozenset()), DAY, "at least one scope"),
        ("a", TokenRights(scopes=frozenset({"task:read"})), DAY, "did you mean 'tasks:read'"),
        ("a", TokenRights(scopes=frozenset({"tasks:submit:nothing"})), DAY, "no task is registered as 'nothing'"),
        ("a", TokenRights(scopes=frozenset({Scope.READ}), queues=frozenset({"cmr"})), DAY, "did you mean 'crm'"),
        ("a", TokenRights(scopes=frozenset({Scope.READ}), queues=frozenset()), DAY, "no queue or to no task"),
        ("a", TokenRights(scopes=frozenset({Scope.READ}), names=frozenset({"x"})), DAY, "no task is registered"),
        ("a", TokenRights(scopes=frozenset({Scope.READ}), tenant="a:b"), DAY, "a tenant has"),
        ("a", READER, timedelta(), "must expire"),
        ("a", READER, timedelta(days=100_000), "must expire"),
    ):
        with pytest.raises(InvalidToken, match=re.escape(problem)):
            tokens.create(name, rights, expires=expires)
    tokens.create("a", READER, expires=DAY)
    with pytest.raises(TokenExists):
        tokens.create("a", READER, expires=DAY)
    assert [row.name for row in tokens.listing()] == ["a"]


def test_an_expired_token_is_refused(tokens: Tokens, movable_clock: MovableClock) -> None:
    made = tokens.create("short", READER, expires=timedelta(seconds=60))
    tokens.check(made.token)
    movable_clock.forward(61)

    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.check(made.token)
    assert state_of(tokens.listing()[0]) == "expired"


def test_a_rotated_token_overlaps_with_the_new_one(tokens: Tokens, movable_clock: MovableClock) -> None:
    first = tokens.create("shop", READER, expires=timedelta(days=30))
    tokens.check(first.token)
    movable_clock.forward(86_400)
    second = tokens.rotate("shop", overlap=timedelta(minutes=10))

    assert tokens.check(first.token) == tokens.check(second.token)
    assert second.row.expires_at is not None
    assert second.row.rotated_at is not None
    assert second.row.expires_at - second.row.rotated_at == timedelta(days=30)
    movable_clock.forward(601)
    tokens.check(second.token)
    with pytest.raises(NotAuthenticated, match="rotated"):
        tokens.check(first.token)
    third = tokens.rotate("shop", overlap=timedelta())
    with pytest.raises(NotAuthenticated, match="rotated"):
        tokens.check(second.token)
    tokens.check(third.token)


def test_an_overlap_does_not_outlive_the_token(tokens: Tokens, movable_clock: MovableClock) -> None:
    first = tokens.create("shop", READER, expires=timedelta(minutes=5))
    tokens.rotate("shop", overlap=timedelta(days=7))
    movable_clock.forward(301)

    with pytest.raises(NotAuthenticated):
        tokens.check(first.token)


def test_a_revoked_token_is_refused_here_at_once_and_elsewhere_soon(
    tokens: Tokens, platform_database: Database
) -> None:
    made, elsewhere = tokens.create("shop", READER, expires=DAY), Tokens(platform_database)
    elsewhere.check(made.token)
    tokens.revoke("shop")

    def is_refused() -> bool:
        try:
            elsewhere.check(made.token)
        except NotAuthenticated:
            return True
        return False

    with pytest.raises(NotAuthenticated, match="revoked"):
        tokens.check(made.token)
    wait_until(is_refused, seconds=CACHE_SECONDS + 5)
    with pytest.raises(TokenRevoked):
        tokens.rotate("shop", overlap=DAY)
    assert tokens.revoke("shop").revoked_at == tokens.listing()[0].revoked_at


def test_an_unknown_token_is_refused(tokens: Tokens) -> None:
    tokens.create("shop", READER, expires=DAY)

    for token in (make_token(), "", "laneway_", "x" * 10_000):
        with pytest.raises(NotAuthenticated):
            tokens.check(token)
    with pytest.raises(UnknownToken, match="did you mean 'shop'"):
        tokens.revoke("shopp")


def test_the_last_use_is_stored_rarely(tokens: Tokens, movable_clock: MovableClock) -> None:
    made = tokens.create("shop", READER, expires=DAY)
    assert tokens.listing()[0].used_at is None
    tokens.check(made.token)
    first = tokens.listing()[0].used_at
    movable_clock.forward(USED_SECONDS / 2)
    tokens.check(made.token)

    assert first is not None
    assert tokens.listing()[0].used_at == first
    movable_clock.forward(USED_SECONDS)
    tokens.check(made.token)
    assert tokens.listing()[0].used_at > first  # pyright: ignore[reportOptionalOperand]


def test_a_check_waits_for_no_writer(tokens: Tokens, platform_database: Database) -> None:
    made, ended = tokens.create("shop", READER, expires=DAY), list[Caller]()
    with platform_database.transaction() as session:
        session.execute(select(AccessToken).with_for_update()).all()
        checking = Thread(target=lambda: ended.append(tokens.check(made.token)))
        checking.start()
        checking.join(10)
        assert [caller.name for caller in ended] == ["shop"]


def test_a_temporary_token_leaves_nothing(tokens: Tokens, movable_clock: MovableClock) -> None:
    with tokens.temporary("demo", Scope.ADMIN) as token:
        assert tokens.check(token).may(Scope.READ)
    assert tokens.listing() == []
    tokens.create("temporary-killed", READER, expires=timedelta(hours=1))
    movable_clock.forward(3601)
    with tokens.temporary("demo", Scope.ADMIN):
        assert [row.name.rpartition("-")[0] for row in tokens.listing()] == ["temporary-demo"]
