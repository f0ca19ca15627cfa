"""The scene of outbound webhooks: a receiver with an error, and one that is gone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from app.demo.receiver import ReceivedWebhook, Receiver, free_port, running_receiver
from app.demo.scenario import DemoFailed, DemoTask, Scenario
from app.development import webhook_secrets
from laneway.platform.db.queries import alerts
from laneway.platform.db.session import Database
from laneway.platform.webhooks.endpoint_rules import ALERT

DOCUMENT: Final = "opening-hours.html"
FIRST_STATUSES: Final = (500, 204, 410)
"""The receiver's first answers; after them it answers 204."""
PROCESSED: Final = "document.processed"
EVENT: Final = "demo.finished"
DESTINATIONS: Final = "/api/callbacks/destinations"


def outbound_webhooks(scenario: Scenario) -> None:
    """Outbound webhooks: signed, retried after an error, and held back from a receiver that is gone."""
    obstacle = scenario.store(DOCUMENT) or _loopback_obstacle(scenario)
    if obstacle:
        scenario.say(f"Left out: {obstacle}")
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    with _destination(scenario, url) as secret, running_receiver(secret, *FIRST_STATUSES, port=port) as receiver:
        scenario.say(f"A receiver listens on {receiver.url} (examples/outbound_webhooks/receiver.py). It is registered")
        scenario.say("as a destination, and verifies signatures with the secret that was made for it.")
        scenario.say("Its first answer, to the webhook of a document, is an error.")
        _show_retry(scenario, receiver)
        _show_disabled_receiver(scenario, receiver)


def _show_retry(scenario: Scenario, receiver: Receiver) -> None:
    """The first attempt is answered 500, the second 204."""
    body = {"document_id": DOCUMENT, "user_id": "demo", "file_name": DOCUMENT, "r2_key": DOCUMENT}
    handle = scenario.post("/api/documents/process", json=body | {"callback_url": receiver.url})
    scenario.wait([DemoTask(DOCUMENT, handle["task_id"])])
    scenario.wait_until(lambda: bool(receiver.lines), lambda: f"No webhook came to {receiver.url}.")
    id = _last_webhook(receiver).webhook_id
    scenario.wait([DemoTask("its webhook, retried after 5 s", id)])
    _expect(receiver, ReceivedWebhook(500, PROCESSED, id), ReceivedWebhook(204, PROCESSED, id))
    _show_received(scenario, receiver, since=0)
    scenario.run_command("laneway", "callbacks", "show", id)


def _show_disabled_receiver(scenario: Scenario, receiver: Receiver) -> None:
    """A webhook is answered 410, which disables the receiver. Once enabled again, it gets the same webhook again."""
    before = receiver.received
    scenario.say("Its next answer is 410: the receiver is gone for good.")
    payload = {"url": receiver.url, "event": EVENT, "data": {"run": scenario.run_id}}
    handle = scenario.post("/tasks", json={"name": "send_webhook_response_task", "payload": payload})
    task = DemoTask("a webhook", handle["task_id"])
    scenario.wait([task])
    gone, accepted = ReceivedWebhook(410, EVENT, task.task_id), ReceivedWebhook(204, EVENT, task.task_id)
    _expect(receiver, *before, gone)
    delivery = scenario.get(f"/api/callbacks/deliveries/{task.task_id}")["delivery"]
    _show_received(scenario, receiver, since=len(before))
    scenario.say("That disables the receiver and opens an alert (`laneway stats`) until it is enabled again:")
    alert = _open_alert(scenario, delivery["endpoint_id"])
    scenario.out.print(Padding(Text(alert, style="red"), (0, 0, 0, 2)))
    endpoint = _post_shown(scenario, f"/api/callbacks/endpoints/{delivery['endpoint_id']}/enable")
    scenario.say(f"{endpoint['url']} is {endpoint['state']}.")
    _post_shown(scenario, f"/api/callbacks/deliveries/{task.task_id}/replay")
    scenario.wait([task])
    _expect(receiver, *before, gone, accepted)
    _show_received(scenario, receiver, since=len(before) + 1)


def _post_shown(scenario: Scenario, path: str) -> dict[str, Any]:
    """Print and send a POST without a body, and return the response."""
    scenario.out.print(Text(f"  POST {path}", style="bold"))
    return scenario.post(path)


def _loopback_obstacle(scenario: Scenario) -> str:
    """Why webhooks cannot be sent to this machine; empty if they can."""
    settings = scenario.settings.outbound
    allowed = settings.allow_private or settings.allow_loopback
    if allowed or webhook_secrets.receivers_for_development(scenario.settings):
        return ""
    return "webhooks to this machine are not allowed (OUTBOUND_ALLOW_LOOPBACK; `make up` sets it in development)."


@contextmanager
def _destination(scenario: Scenario, url: str) -> Generator[str]:
    """Register the receiver while the block runs. Yields the secret that signs its webhooks."""
    name = f"demo-{scenario.run_id}"
    registered = scenario.post(DESTINATIONS, json={"name": name, "url": url})
    try:
        yield registered["secret"]
    finally:
        scenario.delete(f"{DESTINATIONS}/{name}")


def _last_webhook(receiver: Receiver) -> ReceivedWebhook:
    if not receiver.received:
        raise DemoFailed(f"The receiver has verified no webhook. Its output: {'; '.join(receiver.lines)}")
    return receiver.received[-1]


def _expect(receiver: Receiver, *webhooks: ReceivedWebhook) -> None:
    """Require that the receiver got exactly these webhooks in this order, each with a valid signature."""
    if receiver.received != list(webhooks):
        raise DemoFailed(f"The receiver should have got {list(webhooks)}. Its output: {'; '.join(receiver.lines)}")


def _show_received(scenario: Scenario, receiver: Receiver, *, since: int) -> None:
    """Print the webhooks that the receiver got, without the first `since`."""
    table = Table(
        "the receiver answered",
        "signature",
        "event",
        Column("webhook-id", overflow="fold"),
        box=None,
        header_style="bold",
    )
    for webhook in receiver.received[since:]:
        status = Text(str(webhook.status), style="green" if webhook.status < 300 else "yellow")
        table.add_row(status, "verified", webhook.event, webhook.webhook_id)
    scenario.out.print(table)


def _open_alert(scenario: Scenario, endpoint: str) -> str:
    """The message of the open alert about the receiver, which `laneway stats` shows."""
    database = Database(scenario.settings.storage.url)
    try:
        with database.reading() as session:
            rows = alerts.listing(session)
            messages = [alert.message for alert in rows if (alert.kind, alert.subject) == (ALERT, endpoint)]
    finally:
        database.close()
    if not messages:
        raise DemoFailed(f"No alert is open about the endpoint {endpoint}: see `laneway stats`.")
    return messages[0]
