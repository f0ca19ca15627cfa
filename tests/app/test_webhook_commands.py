"""`laneway webhooks` lists, shows, counts and replays events, and shows the mapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from app.db.models import WebhookDelivery, WebhookEvent, WebhookMapping
from app.db.queries import webhooks as repository
from app.services.webhooks.events import WebhookEvents
from app.services.webhooks.mapping.current import CurrentMapping
from laneway.platform import clock
from tests.app.services.webhooks.test_mapping import MESSAGE_RULE, order
from tests.fixtures.platform import Environment
from tests.fixtures.shell import Shell


@pytest.fixture
def mapping(laneway: Shell, environment: Environment, tmp_path: Path) -> Iterator[Path]:
    """A mapping of its own, in an installation without events."""
    path = tmp_path / "mapping.yaml"
    path.write_text(MESSAGE_RULE)
    environment(WEBHOOK_MAPPING=str(path))
    with laneway.site.services.database.transaction() as session:
        for table in (WebhookEvent, WebhookDelivery, WebhookMapping):
            session.execute(delete(table))
    yield path


def deliver(laneway: Shell, mapping: Path, *bodies: dict[str, Any]) -> None:
    """Store one delivery per body and process it."""
    services = laneway.site.services
    events = WebhookEvents(services.database, services.tasks, CurrentMapping(services.database, mapping))
    for number, body in enumerate(bodies):
        with services.database.transaction() as session:
            repository.store(session, f"d{number}", source="shop", body=body, now=clock.now())
        events.process(f"d{number}")


def test_events_are_listed_shown_and_counted(laneway: Shell, mapping: Path) -> None:
    assert laneway("webhooks", "list").out.strip() == "None."
    deliver(laneway, mapping, order(), order(id="e2", order=None), {"id": "e3", "type": "stock.low", "customer": 5})

    (found,) = laneway("webhooks", "list", "--state", "quarantined", "--json").json()
    shown = laneway("webhooks", "show", str(found["id"]))
    table = laneway("webhooks", "list").out
    figures = laneway("webhooks", "stats").out

    assert "the event has no body.order" in shown.out
    assert '"total": 12' in shown.out
    assert all(word in table for word in ("order.paid", "stock.low", "unhandled", "the event has no body.order"))
    assert figures.splitlines()[0] == "1 handled, 1 unhandled, 1 quarantined, 0 discarded, 0 test"
    assert laneway("webhooks", "stats", "--json").json()["events"]["unhandled"] == 1
    unread = laneway("webhooks", "list", "--name", "stock.low", "--json").json()[0]
    assert "not read: customer: " in laneway("webhooks", "show", str(unread["id"])).out


def test_events_are_replayed_after_the_mapping_is_mended(laneway: Shell, mapping: Path) -> None:
    deliver(laneway, mapping, order(order=None), order(id="e2", type="stock.low"))
    (found,) = laneway("webhooks", "list", "--state", "quarantined", "--json").json()

    still = laneway("webhooks", "replay", str(found["id"]))
    assert (still.code, still.out.splitlines()[0]) == (1, "1 replayed, 0 of them have a task now.")

    mapping.write_text(MESSAGE_RULE.replace("${body.order}", "${event.id}").replace("order.*", "'*'"))
    mended = laneway("webhooks", "replay")
    assert (mended.code, mended.out.splitlines()[0]) == (0, "2 replayed, 2 of them have a task now.")
    assert laneway("webhooks", "replay", "--json").json()[0]["matched"] == 0


def test_events_are_discarded_by_number_or_by_options(laneway: Shell, mapping: Path) -> None:
    deliver(laneway, mapping, order(order=None), order(id="e2", type="stock.low"))
    (found,) = laneway("webhooks", "list", "--state", "quarantined", "--json").json()

    assert laneway("webhooks", "discard", str(found["id"])).out.splitlines()[0] == "1 discarded."
    assert laneway("webhooks", "discard", "--state", "unhandled").out.splitlines()[0] == "1 discarded."
    assert laneway("webhooks", "discard").code != 0
    assert laneway("webhooks", "stats").out.startswith("0 handled, 0 unhandled, 0 quarantined, 2 discarded")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("99",), "No webhook event '99' is known here."),
        (("1", "--source", "shop"), "either numbers of events"),
        (("--state", "handled"), "only quarantined and unhandled events"),
    ],
)
def test_a_replay_of_nothing_that_can_be_replayed_is_refused(
    laneway: Shell, mapping: Path, words: tuple[str, ...], told: str
) -> None:
    ran = laneway("webhooks", "replay", *words)

    assert ran.code != 0
    assert told in ran.err


def test_the_mapping_is_shown_and_a_broken_file_is_an_exit_code(laneway: Shell, mapping: Path) -> None:
    good = laneway("webhooks", "mapping")
    assert (good.code, "orders" in good.out) == (0, True)

    mapping.write_text(MESSAGE_RULE.replace("event: order.*", "evnt: order.*"))
    broken = laneway("webhooks", "mapping")

    assert broken.code == 1
    assert "line 5, rules.0.evnt" in broken.err
    assert "the last valid mapping is in force" in broken.out
    assert "orders" in broken.out
