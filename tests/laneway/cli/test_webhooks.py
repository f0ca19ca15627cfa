"""`laneway callbacks`: the log of deliveries, replays, and the receivers."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from laneway.platform.db.models import OutboundDelivery, OutboundEndpoint
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.receiving import DeliveryHarness
from tests.fixtures.shell import Shell


@pytest.fixture
def desk(laneway: Shell) -> DeliveryHarness:
    database = laneway.site.services.database
    with database.transaction() as session:
        for table in (OutboundDelivery, OutboundEndpoint):
            session.execute(delete(table))
    return DeliveryHarness(database)


def test_empty_lists_are_shown_as_none(laneway: Shell, desk: DeliveryHarness) -> None:
    assert desk.endpoints() == []
    assert laneway("callbacks", "list").out == "None.\n"
    assert laneway("callbacks", "endpoints").out == "None.\n"


def test_deliveries_are_listed_and_shown(laneway: Shell, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(500, {}, "[/broken]"))
    desk.failure(http_peer.url + "/h?token=hidden")
    listed, data = laneway("callbacks", "list"), laneway("callbacks", "list", "--state", "scheduled", "--json").json()

    assert (listed.code, "order.paid" in listed.out, "scheduled" in listed.out) == (0, True, True)
    assert [(delivery["delivery_id"], delivery["status"], delivery["attempts"]) for delivery in data] == [
        ("d-1", 500, 1)
    ]
    assert laneway("callbacks", "list", "--state", "completed", "--json").json() == []
    shown, details = laneway("callbacks", "show", "d-1"), laneway("callbacks", "show", "d-1", "--json").json()
    assert "[/broken]" in shown.out and '"type":"order.paid"' in shown.out and "hidden" not in shown.out
    assert [attempt["answer"] for attempt in details["attempts"]] == ["[/broken]"]
    unknown = laneway("callbacks", "show", "none")
    assert (unknown.code, unknown.err) == (1, "No delivery 'none' is known here.\n")


def test_a_receivers_response_cannot_command_the_terminal(
    laneway: Shell, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(500, {}, "\x1b]0;mine\x07\x1b[31m\x9b2J\r\nline\r\n"))
    desk.failure(http_peer.url)

    shown = laneway("callbacks", "show", "d-1").out
    assert "mine" in shown and "J line" in shown, "a response is one line of the table"
    assert not any(character in shown for character in "\x1b\x07\x9b\r")


def test_deliveries_are_replayed_by_id_and_by_range(laneway: Shell, desk: DeliveryHarness, http_peer: HttpPeer) -> None:
    http_peer.always = HttpReply(500)
    for number in (1, 2, 3, 4):
        desk.failure(http_peer.url, id=f"d-{number}", attempt=8)
    endpoint = desk.endpoint().id

    one = laneway("callbacks", "replay", "d-1")
    assert (one.code, one.out, laneway.state("d-1")) == (0, "1 of 1 delivery queued again.\n", "pending")
    again = laneway("callbacks", "replay", "d-1", "none", "d-4")
    assert (again.code, again.out, laneway.state("d-4")) == (1, "1 of 3 deliveries queued again.\n", "pending")
    assert "pending" in again.err and "'none'" in again.err
    plan = laneway("callbacks", "replay", "--endpoint", endpoint, "--dry-run")
    assert (plan.code, plan.out) == (0, "2 deliveries would be sent again.\nd-2\nd-3\n")
    data = laneway("callbacks", "replay", "--since", "2020-01-01", "--json").json()
    assert (data["matched"], data["done"], data["samples"]) == (2, 2, ["d-2", "d-3"])
    nothing = laneway("callbacks", "replay", "--endpoint", endpoint)
    assert (nothing.code, nothing.out) == (1, "0 of 0 deliveries queued again.\n")
    for invalid in ((), ("d-1", "--endpoint", endpoint)):
        assert laneway("callbacks", "replay", *invalid).code == 2


def test_receivers_are_disabled_and_enabled_and_their_alert_is_shown_in_stats(
    laneway: Shell, desk: DeliveryHarness, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(410))
    desk.failure(http_peer.url + "/h")
    (endpoint,) = laneway("callbacks", "endpoints", "--state", "disabled", "--json").json()
    assert (endpoint["reason"], endpoint["url"]) == ("gone", http_peer.url + "/h")
    assert endpoint["endpoint_id"] in laneway("callbacks", "endpoints").out
    assert f"no more webhooks go to {http_peer.url}/h" in " ".join(laneway("stats").out.split())

    enabled = laneway("callbacks", "enable", endpoint["endpoint_id"])
    assert (enabled.code, enabled.out) == (0, f"{http_peer.url}/h is enabled.\n")
    assert "no more webhooks" not in laneway("stats").out
    disabled = laneway("callbacks", "disable", endpoint["endpoint_id"], "--json").json()
    assert (disabled["state"], disabled["reason"]) == ("disabled", "operator")
    assert laneway("callbacks", "enable", "none").code == 1
