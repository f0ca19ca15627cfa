"""Destinations: each receiver has a secret of its own, and nothing is sent where no destination is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from laneway.platform.db.session import Database
from laneway.platform.errors import NotFound
from laneway.platform.settings import OutboundSettings
from laneway.platform.settings.destinations import KEY_FILE, DestinationSettings
from laneway.platform.webhooks.destinations import (
    BadDestination,
    DestinationExists,
    Destinations,
    UnknownDestination,
    covering_urls,
)
from laneway.platform.webhooks.egress import ForbiddenAddress
from laneway.platform.webhooks.outbound_webhooks import OutboundWebhooks
from laneway.platform.webhooks.secret_box import SecretBox, SecretUnreadable
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.receiving import webhook

A_DAY = timedelta(days=1)
KEY, OTHER_KEY = "the key of the tests", "another key of the tests"


def destinations_on(database: Database, *keys: str, **outbound: object) -> Destinations:
    settings = OutboundSettings(_env_file=None, allow_loopback=True, **outbound)  # pyright: ignore
    return Destinations(database, settings, SecretBox(lambda: keys or (KEY,)))


@pytest.fixture
def destinations(platform: Platform) -> Destinations:
    return destinations_on(platform.database)


@pytest.fixture
def peers() -> Iterator[tuple[HttpPeer, HttpPeer]]:
    with HttpPeer() as first, HttpPeer() as second:
        yield first, second


def deliver(platform: Platform, destinations: Destinations, url: str, *, id: str = "d-1") -> None:
    """Make one attempt at a delivery."""
    settings = OutboundSettings(_env_file=None, allow_loopback=True)  # pyright: ignore
    outbound = OutboundWebhooks(platform.database, settings, destinations, slots=2)
    outbound.deliver(webhook(url, data={"chosen": "by the caller"}), delivery_id=id, attempt=1)


def verifier(secret: str):
    """Make a receiver's answer: 204 for a valid signature, else 401."""

    def answer(request: HttpRequest) -> HttpReply:
        try:
            Webhook(secret).verify(request.body, request.headers)
        except WebhookVerificationError:
            return HttpReply(401)
        return HttpReply(204)

    return answer


def test_what_is_captured_at_one_destination_is_refused_by_another(
    platform: Platform, destinations: Destinations, peers: tuple[HttpPeer, HttpPeer]
) -> None:
    own, other = peers
    own.always = verifier(destinations.register("own", own.url + "/").secret)
    other.always = verifier(destinations.register("other", other.url + "/").secret)
    deliver(platform, destinations, own.url + "/hook")
    deliver(platform, destinations, other.url + "/hook", id="d-2")
    captured = own.requests[0]

    assert verifier_status(own, captured) == 204
    assert verifier_status(other, captured) == 401
    assert verifier_status(other, other.requests[0]) == 204


def verifier_status(peer: HttpPeer, request: HttpRequest) -> int:
    """What the receiver answers to this request, byte for byte."""
    assert callable(peer.always)
    return peer.always(request).status


def test_nothing_is_sent_to_a_loopback_port_that_is_not_registered(
    platform: Platform, destinations: Destinations, peers: tuple[HttpPeer, HttpPeer]
) -> None:
    registered, other = peers
    destinations.register("peer", registered.url + "/hook")
    deliver(platform, destinations, registered.url + "/hook?query=any")

    for url in (other.url + "/hook", registered.url + "/other", registered.url + "/hook/below", other.at("localhost")):
        with pytest.raises(UnknownDestination, match="laneway callbacks register"):
            deliver(platform, destinations, url, id="d-2")
    assert (len(registered.requests), other.requests) == (1, [])


def test_the_receiver_of_the_settings_has_the_secret_of_the_settings(platform: Platform) -> None:
    own = {"url": "https://hooks.example/own", "secret": SecretStr("sixteen letters!")}
    destinations = destinations_on(platform.database, **own)

    assert destinations.keys("https://HOOKS.example:443/own?a=1") == [b"sixteen letters!"]
    with pytest.raises(UnknownDestination):
        destinations.keys("https://hooks.example/other")
    with pytest.raises(BadDestination, match="OUTBOUND_WEBHOOK_URL"):
        destinations.register("own", "https://hooks.example/own")


def test_both_secrets_sign_until_the_overlap_is_over(destinations: Destinations, movable_clock: MovableClock) -> None:
    url = "https://shop.example/hooks/"
    first = destinations.register("shop", url).secret
    (old,) = destinations.keys(url)
    second = destinations.rotate("shop", overlap=A_DAY).secret

    assert len({first, second}) == 2
    new, still = destinations.keys(url + "orders")
    assert (still, new != old) == (old, True)
    movable_clock.forward(A_DAY.total_seconds() + 1)
    assert destinations.keys(url) == [new]


def test_a_rotation_without_overlap_ends_the_old_secret_at_once(destinations: Destinations) -> None:
    destinations.register("shop", "https://shop.example/")
    before = destinations.keys("https://shop.example/")
    destinations.rotate("shop", overlap=A_DAY)
    destinations.rotate("shop", overlap=timedelta(0))

    assert len(now := destinations.keys("https://shop.example/")) == 1
    assert now != before
    assert destinations.show("shop").previous_secret is None, "it is not kept"


def test_a_second_rotation_keeps_one_old_secret(destinations: Destinations) -> None:
    destinations.register("shop", "https://shop.example/")
    (first,) = destinations.keys("https://shop.example/")
    destinations.rotate("shop", overlap=A_DAY)
    destinations.rotate("shop", overlap=A_DAY)

    assert len(keys := destinations.keys("https://shop.example/")) == 2
    assert first not in keys


def test_the_longest_address_that_covers_another_decides(destinations: Destinations) -> None:
    destinations.register("all", "https://shop.example/")
    destinations.register("orders", "https://shop.example/orders/")
    destinations.register("one", "https://shop.example/orders/7")
    keys = [destinations.keys(f"https://shop.example/{path}") for path in ("", "orders/", "orders/7")]

    assert len({each for (each,) in keys}) == 3
    for path, expected in (("leads", 0), ("orders", 0), ("orders/8", 1), ("orders/7/x", 1), ("orders/7?a=1", 2)):
        assert destinations.keys(f"https://shop.example/{path}") == keys[expected], path


def test_an_address_that_may_lead_out_of_its_folder_is_not_covered(destinations: Destinations) -> None:
    destinations.register("hooks", "https://shop.example/hooks/")
    for path in ("%2e%2e/admin", "a%2F..%2fadmin", "..%5cadmin", "a//b", "%2E./x", "../admin", "../x/%2e%2e/hooks/a"):
        with pytest.raises(UnknownDestination):
            destinations.require(f"https://shop.example/hooks/{path}")
    for other in (
        "https://shop.example.evil/hooks/a",
        "http://shop.example/hooks/a",
        "https://shop.example:444/hooks/a",
    ):
        with pytest.raises(UnknownDestination):
            destinations.require(other)
    with pytest.raises(ForbiddenAddress):
        destinations.require("https://shop.example@evil.example/hooks/a")
    destinations.require("https://shop.example/hooks/..a/b...c")


def test_covering_urls_are_few_for_a_deep_address() -> None:
    assert len(covering_urls("https://a.example/" + "x/" * 900)) <= 65


def test_a_destination_that_cannot_be_is_refused_with_its_reason(destinations: Destinations) -> None:
    destinations.register("shop", "https://shop.example/hook")
    for name, url, error in (
        ("a b", "https://a.example/", BadDestination),
        ("", "https://a.example/", BadDestination),
        ("a\n", "https://a.example/", BadDestination),
        ("a", "https://a.example/?x=1", BadDestination),
        ("a", "https://a.example/#x", BadDestination),
        ("a", "https://a.example/%2e%2e/", BadDestination),
        ("a", "https://a.example/" + "x" * 500, BadDestination),
        ("a", "https://user:word@a.example/", ForbiddenAddress),
        ("a", "ftp://a.example/", ForbiddenAddress),
        ("a", "https://SHOP.example:443/hook", DestinationExists),
        ("shop", "https://b.example/", DestinationExists),
    ):
        with pytest.raises(error):
            destinations.register(name, url)
    assert [each.name for each in destinations.page()] == ["shop"]


def test_a_removed_destination_gets_nothing(destinations: Destinations) -> None:
    destinations.register("shop", "https://shop.example/")
    destinations.remove("shop")

    with pytest.raises(UnknownDestination):
        destinations.keys("https://shop.example/")
    for unknown in ("shop", "\x00"):
        with pytest.raises(NotFound):
            destinations.remove(unknown)
        with pytest.raises(NotFound):
            destinations.rotate(unknown, overlap=A_DAY)


def test_secrets_are_encrypted_in_the_database(platform: Platform, destinations: Destinations) -> None:
    secrets = [destinations.register("shop", "https://shop.example/").secret]
    secrets.append(destinations.rotate("shop", overlap=A_DAY).secret)
    with platform.database.reading() as session:
        stored = str(session.execute(text("SELECT * FROM outbound_destinations")).all())

    assert "shop.example" in stored
    assert not any(secret in stored or secret.removeprefix("whsec_") in stored for secret in secrets)
    assert not any(secret in repr(destinations.show("shop")) for secret in secrets)


def test_another_key_reads_no_secret_and_says_what_to_do(platform: Platform, destinations: Destinations) -> None:
    destinations.register("shop", "https://shop.example/")
    with pytest.raises(SecretUnreadable, match="OUTBOUND_KEY") as failed:
        destinations_on(platform.database, OTHER_KEY).keys("https://shop.example/")

    assert failed.value.retryable


def test_rows_whose_secrets_were_exchanged_sign_nothing(platform: Platform, destinations: Destinations) -> None:
    destinations.register("shop", "https://shop.example/")
    destinations.register("bank", "https://bank.example/")
    with platform.database.transaction() as session:
        stolen = "(SELECT secret FROM outbound_destinations WHERE name = 'bank')"
        session.execute(text(f"UPDATE outbound_destinations SET secret = {stolen} WHERE name = 'shop'"))

    with pytest.raises(SecretUnreadable):
        destinations.keys("https://shop.example/")


def test_the_key_is_changed_in_three_steps(platform: Platform, destinations: Destinations) -> None:
    url = "https://shop.example/"
    destinations.register("shop", url)
    destinations.rotate("shop", overlap=A_DAY)
    keys = destinations.keys(url)
    both = destinations_on(platform.database, OTHER_KEY, KEY)

    assert both.keys(url) == keys
    with pytest.raises(SecretUnreadable):
        destinations_on(platform.database, OTHER_KEY).keys(url)
    assert both.reencrypt() == 1
    assert destinations_on(platform.database, OTHER_KEY).keys(url) == keys


def test_without_a_setting_the_key_is_a_file_that_only_the_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = DestinationSettings(_env_file=None).keys(folder)  # pyright: ignore

    assert DestinationSettings(_env_file=None).keys(folder) == first  # pyright: ignore
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    set_by_hand = DestinationSettings(_env_file=None, key=SecretStr(KEY), key_previous=SecretStr(OTHER_KEY))  # pyright: ignore
    assert set_by_hand.keys(tmp_path / "none") == [KEY, OTHER_KEY]
    assert not (tmp_path / "none").exists()
