"""The demo's receiver: it runs as a process of its own, verifies signatures, and answers as the demo needs."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx2
import pytest
from standardwebhooks import Webhook

from app.demo.receiver import ReceivedWebhook, Receiver, running_receiver
from app.demo.scenario import DemoFailed
from tests.fixtures.waiting import wait_until

SECRET = "whsec_bGFuZXdheS1kZW1vLXJlY2VpdmVyLXNlY3JldCE="
BODY = '{"type": "demo.finished", "data": {}}'


def post(receiver: Receiver, id: str, *, secret: str = SECRET) -> int:
    now = datetime.now(UTC)
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, now, BODY),
    }
    return httpx2.post(receiver.url, content=BODY, headers=headers, trust_env=False).status_code


def test_the_first_webhooks_get_the_given_statuses_and_later_ones_204() -> None:
    with running_receiver(SECRET, 500) as receiver:
        assert [post(receiver, "msg_1"), post(receiver, "msg_1")] == [500, 204]
        wait_until(lambda: len(receiver.received) == 2, seconds=10)

        assert receiver.received == [
            ReceivedWebhook(500, "demo.finished", "msg_1"),
            ReceivedWebhook(204, "demo.finished", "msg_1"),
        ]


def test_a_webhook_with_a_wrong_signature_is_not_received() -> None:
    with running_receiver(SECRET) as receiver:
        assert post(receiver, "msg_1", secret="whsec_YW5vdGhlci1zZWNyZXQtb2YtMjQtYnl0ZXMh") == 401
        wait_until(lambda: len(receiver.lines) == 1, seconds=10)

        assert receiver.received == []


def test_a_receiver_that_cannot_be_started_is_reported() -> None:
    with pytest.raises(DemoFailed, match="could not be started"), running_receiver(""):
        pass
