"""The scene of callbacks: a receiver in trouble, and one that wants no more."""

from __future__ import annotations

import base64
from typing import Any, Final

from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from app.demo.receiver import Receiver, Taken, running_receiver
from app.demo.scenario import Asked, DemoFailed, Stage
from app.development import webhook_secrets
from laneway.platform.db.queries import alerts
from laneway.platform.db.session import Database
from laneway.platform.settings.signing_key import STANDARD_PREFIX, signing_key
from laneway.platform.webhooks.endpoint_rules import ALERT

DOCUMENT: Final = "opening-hours.html"
TROUBLES: Final = (500, 204, 410)
"""The first answers of the receiver; from then on 204."""
PROCESSED: Final = "document.processed"
EVENT: Final = "demo.finished"


def outbound_webhooks(stage: Stage) -> None:
    """Callbacks: signed, sent again after an error, and held back from a receiver that wants no more."""
    missing = stage.store(DOCUMENT) or _closed(stage)
    if missing:
        stage.say(f"Left out: {missing}")
        return
    with running_receiver(_secret(stage), *TROUBLES) as receiver:
        stage.say(f"A receiver listens on {receiver.url} (examples/callbacks/receiver.py). It verifies signatures")
        stage.say("by the rules of Standard Webhooks; its first answer, to a callback about a document, is an error.")
        _tried_again(stage, receiver)
        _enabled_again(stage, receiver)


def _tried_again(stage: Stage, receiver: Receiver) -> None:
    """The first attempt is answered 500, the second 204."""
    body = {"document_id": DOCUMENT, "user_id": "demo", "file_name": DOCUMENT, "r2_key": DOCUMENT}
    handle = stage.post("/api/documents/process", json=body | {"callback_url": receiver.url})
    stage.wait([Asked(DOCUMENT, handle["task_id"])])
    stage.until(lambda: bool(receiver.said), lambda: f"Nothing came to {receiver.url}.")
    id = _last(receiver).webhook_id
    stage.wait([Asked("its callback, again after 5 s", id)])
    _expect(receiver, Taken(500, PROCESSED, id), Taken(204, PROCESSED, id))
    _tell(stage, receiver, since=0)
    stage.command("laneway", "callbacks", "show", id)


def _enabled_again(stage: Stage, receiver: Receiver) -> None:
    """A webhook is answered 410, which disables the receiver; enabled by hand, it gets the same webhook again."""
    before = receiver.taken
    stage.say("Its next answer is 410: no more, for good.")
    payload = {"url": receiver.url, "event": EVENT, "data": {"run": stage.mark}}
    sent = Asked(
        "a webhook",
        stage.post("/tasks", json={"name": "send_webhook_response_task", "payload": payload})["task_id"],
    )
    stage.wait([sent])
    gone, taken = Taken(410, EVENT, sent.task_id), Taken(204, EVENT, sent.task_id)
    _expect(receiver, *before, gone)
    delivery = stage.get(f"/api/callbacks/deliveries/{sent.task_id}")["delivery"]
    _tell(stage, receiver, since=len(before))
    stage.say("That disables the receiver, and opens an alert (`laneway stats`) until somebody enables it again:")
    stage.out.print(Padding(Text(_notice(stage, delivery["endpoint_id"]), style="red"), (0, 0, 0, 2)))
    endpoint = _told(stage, f"/api/callbacks/endpoints/{delivery['endpoint_id']}/enable")
    stage.say(f"{endpoint['url']} is {endpoint['state']}.")
    _told(stage, f"/api/callbacks/deliveries/{sent.task_id}/replay")
    stage.wait([sent])
    _expect(receiver, *before, gone, taken)
    _tell(stage, receiver, since=len(before) + 1)


def _told(stage: Stage, path: str) -> dict[str, Any]:
    """The answer to a POST without a body, which is shown."""
    stage.out.print(Text(f"  POST {path}", style="bold"))
    return stage.post(path)


def _closed(stage: Stage) -> str:
    """Why webhooks cannot come to this machine, if so."""
    given = stage.settings.outbound
    open_here = given.allow_private or given.allow_loopback
    if open_here or webhook_secrets.receivers_for_development(stage.settings):
        return ""
    return "webhooks to this machine are not allowed (OUTBOUND_ALLOW_LOOPBACK; `make up` sets it in development)."


def _secret(stage: Stage) -> str:
    """What the receiver verifies with: the platform's secret as Standard Webhooks writes it."""
    name = "OUTBOUND_WEBHOOK_SECRET"
    key = signing_key(stage.secret(name, stage.settings.outbound.secret), setting=name)
    return STANDARD_PREFIX + base64.b64encode(key).decode()


def _last(receiver: Receiver) -> Taken:
    if not receiver.taken:
        raise DemoFailed(f"The receiver verified nothing. It says: {'; '.join(receiver.said)}")
    return receiver.taken[-1]


def _expect(receiver: Receiver, *wanted: Taken) -> None:
    """Exactly these came, each with a signature that was verified, in this order."""
    if receiver.taken != list(wanted):
        raise DemoFailed(f"The receiver should have had {list(wanted)}. It says: {'; '.join(receiver.said)}")


def _tell(stage: Stage, receiver: Receiver, *, since: int) -> None:
    """What the receiver did, beginning behind the first `since` webhooks."""
    table = Table(
        "the receiver answered",
        "signature",
        "event",
        Column("webhook-id", overflow="fold"),
        box=None,
        header_style="bold",
    )
    for one in receiver.taken[since:]:
        answer = Text(str(one.status), style="green" if one.status < 300 else "yellow")
        table.add_row(answer, "verified", one.event, one.webhook_id)
    stage.out.print(table)


def _notice(stage: Stage, endpoint: str) -> str:
    """The open alert about the receiver, which `laneway stats` shows."""
    database = Database(stage.settings.storage.url)
    try:
        with database.reading() as session:
            found = [one.message for one in alerts.listing(session) if (one.kind, one.subject) == (ALERT, endpoint)]
    finally:
        database.close()
    if not found:
        raise DemoFailed(f"No alert is open about the endpoint {endpoint}: `laneway stats`.")
    return found[0]
