"""`laneway callbacks register|rotate|remove|destinations|reencrypt`."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from laneway.platform.db.models import OutboundDestination
from tests.fixtures.shell import Shell


@pytest.fixture
def shell(laneway: Shell) -> Shell:
    """The command line of a platform without destinations."""
    with laneway.site.services.database.transaction() as session:
        session.execute(delete(OutboundDestination))
    return laneway


def test_a_destination_is_registered_rotated_and_removed(shell: Shell) -> None:
    assert shell("callbacks", "destinations").out == "None.\n"
    made = shell("callbacks", "register", "shop", "https://shop.example/hooks/")
    secret = made.out.splitlines()[-1]
    rotated = shell("callbacks", "rotate", "shop", "--overlap", "60", "--json").json()

    assert secret.startswith("whsec_") and rotated["secret"].startswith("whsec_") and rotated["secret"] != secret
    listed, data = shell("callbacks", "destinations"), shell("callbacks", "destinations", "--json").json()
    assert "https://shop.example/hooks/" in listed.out and "whsec_" not in listed.out
    assert [(each["name"], "secret" in each) for each in data] == [("shop", False)]
    assert shell("callbacks", "reencrypt").out == "Destinations encrypted again: 1\n"
    assert shell("callbacks", "remove", "shop").code == 0
    unknown = shell("callbacks", "rotate", "shop")
    assert (unknown.code, unknown.err) == (1, "No destination 'shop' is known here.\n")


def test_a_destination_that_cannot_be_is_refused_in_one_sentence(shell: Shell) -> None:
    refused = shell("callbacks", "register", "shop", "https://shop.example/?a=1")

    assert refused.code == 1 and "must have no query" in refused.err and refused.out == ""
