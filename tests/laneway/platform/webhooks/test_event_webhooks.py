"""Events of tasks as signed webhooks: each once, none left out, and no loop."""

from __future__ import annotations

import json
from typing import Any

import pytest
from standardwebhooks import Webhook

from laneway.platform.errors import NotFound, QueueFull, UnknownQueue
from laneway.platform.settings import OutboundSettings
from laneway.platform.task_manager import TaskManager
from laneway.platform.webhooks.destinations import Destinations
from laneway.platform.webhooks.event_webhooks import EventWebhooks
from laneway.platform.webhooks.outbound_webhooks import OutboundWebhooks
from laneway.platform.webhooks.secret_box import SecretBox
from laneway.schemas.outbound_destination import EventSubscription
from laneway.schemas.outbound_webhook import OutboundWebhook
from tests.fixtures.http_peer import HttpPeer
from tests.fixtures.platform import Platform

DELIVERIES = "send_webhook_response_task"


def webhooks_on(platform: Platform) -> tuple[EventWebhooks, Destinations]:
    settings = OutboundSettings(_env_file=None, allow_loopback=True)  # pyright: ignore
    destinations = Destinations(platform.database, settings, SecretBox(lambda: ("the key of the tests",)))
    return EventWebhooks(platform.database, platform.tasks), destinations


def subscription(*kinds: str, **more: Any) -> EventSubscription:
    return EventSubscription.model_validate({"kinds": kinds, **more})


def deliveries(platform: Platform) -> list[dict[str, Any]]:
    """The payloads of the deliveries, in the order of their submission."""
    return [row.payload for row in platform.rows() if row.name == DELIVERIES]


def test_a_destination_gets_the_selected_events_signed(platform: Platform, http_peer: HttpPeer) -> None:
    webhooks, destinations = webhooks_on(platform)
    secret = destinations.register("shop", http_peer.url + "/hooks/").secret
    platform.chore("before")
    webhooks.subscribe("shop", subscription("begin", "end", queue="maintenance"))
    platform.chore("chore")
    platform.end(platform.start("maintenance"))
    platform.message("c-1")
    platform.recorder.catch_up()

    assert webhooks.send() == 2
    assert webhooks.send() == 0, "each event is sent once"
    found = deliveries(platform)
    assert [(each["event"], each["data"]["task_id"]) for each in found] == [
        ("task.begin", "before"),
        ("task.end", "before"),
    ]
    settings = OutboundSettings(_env_file=None, allow_loopback=True)  # pyright: ignore
    outbound = OutboundWebhooks(platform.database, settings, destinations, slots=2)
    outbound.deliver(OutboundWebhook.model_validate(found[1]), delivery_id="event:shop:1", attempt=1)
    request = http_peer.requests[0]
    Webhook(secret).verify(request.body, request.headers)
    body = json.loads(request.body)
    assert (request.path, body["type"]) == ("/hooks/", "task.end")
    assert (body["data"]["queue"], body["data"]["data"]["state"]) == ("maintenance", "completed")


def test_the_events_of_deliveries_are_not_sent(platform: Platform) -> None:
    webhooks, destinations = webhooks_on(platform)
    destinations.register("all", "https://all.example/")
    webhooks.subscribe("all", subscription("accepted", "put"))
    platform.chore()
    platform.webhook()
    platform.recorder.catch_up()

    assert webhooks.send() == 2
    platform.recorder.catch_up()
    assert webhooks.send() == 0, "a delivery causes no further one"


def test_a_crash_before_the_commit_repeats_and_a_full_queue_loses_nothing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks, destinations = webhooks_on(platform)
    destinations.register("shop", "https://shop.example/")
    webhooks.subscribe("shop", subscription("accepted"))
    for _ in range(3):
        platform.chore()
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr("laneway.platform.webhooks.event_webhooks.items_of", crash)
        webhooks.send()
    small = platform.settings.tasks.model_copy(update={"max_queue_size": 2})
    tasks = TaskManager(platform.database, platform.broker, platform.recorder, small)
    with pytest.raises(QueueFull):
        EventWebhooks(platform.database, tasks).send()
    assert deliveries(platform) == []

    assert webhooks.send() == 3
    assert len({each["data"]["id"] for each in deliveries(platform)}) == 3


def crash(_page: object) -> Any:
    raise RuntimeError("the worker dies here")


def test_more_events_than_one_transaction_takes_are_all_sent(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laneway.platform.webhooks.event_webhooks.MOST", 2)
    webhooks, destinations = webhooks_on(platform)
    for name in ("one", "two"):
        destinations.register(name, f"https://{name}.example/")
        webhooks.subscribe(name, subscription("accepted"))
    for _ in range(5):
        platform.chore()

    assert webhooks.send() == 10


def test_a_subscription_is_replaced_and_ended(platform: Platform) -> None:
    webhooks, destinations = webhooks_on(platform)
    destinations.register("shop", "https://shop.example/")
    webhooks.subscribe("shop", subscription("accepted", name="no_such_task"))
    platform.chore()
    assert webhooks.send() == 0
    webhooks.subscribe("shop", subscription("accepted"))
    webhooks.unsubscribe("shop")
    platform.chore()
    assert webhooks.send() == 0
    with pytest.raises(NotFound):
        webhooks.subscribe("nobody", subscription("end"))
    with pytest.raises(UnknownQueue):
        webhooks.subscribe("shop", subscription("end", queue="no-such-queue"))
    for wrong in ([], ["output"], ["ended"]):
        with pytest.raises(ValueError, match="kinds"):
            EventSubscription.model_validate({"kinds": wrong})
