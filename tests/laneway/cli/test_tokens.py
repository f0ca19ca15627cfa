"""`laneway tokens`, and the command line with a token."""

from __future__ import annotations

import pytest

from laneway.platform.access.token_form import is_well_formed
from laneway.platform.access.tokens import Tokens
from tests.fixtures.shell import Shell


@pytest.fixture
def tokens(laneway: Shell) -> Tokens:
    """The tokens of the installation."""
    return Tokens(laneway.site.services.database)


def test_a_token_is_printed_alone_and_works(laneway: Shell, tokens: Tokens) -> None:
    made = laneway("tokens", "create", "cli-1", "--scope", "tasks:read", "--queue", "crm", "--expires", "30d")
    token = made.out.strip()

    assert (made.code, is_well_formed(token)) == (0, True), made.err
    assert "cannot be shown again" in made.err
    caller = tokens.check(token)
    assert (caller.scopes, caller.queues) == ({"tasks:read"}, {"crm"})
    listed = next(each for each in laneway("tokens", "list", "--json").json() if each["name"] == "cli-1")
    assert (listed["state"], listed["scopes"], listed["queues"]) == ("valid", ["tasks:read"], ["crm"])
    assert "digest" not in listed
    assert any(
        line.split()[:3] == ["cli-1", "valid", "tasks:read"] for line in laneway("tokens", "list").out.splitlines()
    )


def test_a_token_is_rotated_and_revoked(laneway: Shell, tokens: Tokens) -> None:
    first = laneway("tokens", "create", "cli-2", "--scope", "leads", "--never-expires", "--json").json()
    second = laneway("tokens", "rotate", "cli-2", "--overlap", "10m", "--json").json()

    assert (first["expires_at"], second["expires_at"]) == (None, None)
    assert second["overlap_until"] is not None
    assert tokens.check(first["token"]) == tokens.check(second["token"])
    assert laneway("tokens", "revoke", "cli-2").out == "Revoked: cli-2\n"
    assert laneway("tokens", "rotate", "cli-2").code != 0


def test_mistakes_are_one_sentence(laneway: Shell, tokens: Tokens) -> None:
    wrong = laneway("tokens", "create", "cli-3", "--scope", "task:read")
    unknown = laneway("tokens", "revoke", "cli-9")

    assert (wrong.code != 0, "did you mean 'tasks:read'" in wrong.err) == (True, True)
    assert (unknown.code != 0, "There is no token 'cli-9'" in unknown.err) == (True, True)
    assert "cli-3" not in {row.name for row in tokens.listing()}
