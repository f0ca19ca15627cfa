"""Receivers, destinations and deliveries are shown without secrets."""

from __future__ import annotations

from datetime import UTC, datetime

from laneway.platform.db.models import OutboundAttempt, OutboundDelivery, OutboundDestination, OutboundEndpoint
from laneway.platform.webhooks.delivery_log import LoggedDelivery
from laneway.platform.webhooks.views import describe_destination, describe_details, describe_endpoint
from laneway.schemas.task import TaskState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS, SHOWN = "https://user:hunter2@x.example/a?token=hunter2", "https://x.example/a"
TOLD, SHOWN_TOLD = f"no answer of {ADDRESS}", f"no answer of {SHOWN}?token=[redacted]"


def test_a_receiver_and_a_destination_are_shown_without_secrets() -> None:
    endpoint = OutboundEndpoint(
        id="e-1", url=ADDRESS, state="enabled", consecutive_failures=1, last_error=TOLD, created_at=NOW, seen_at=NOW
    )
    destination = OutboundDestination(name="shop", url=ADDRESS, secret="sealed", created_at=NOW)

    assert (describe_endpoint(endpoint).url, describe_endpoint(endpoint).last_error) == (SHOWN, SHOWN_TOLD)
    assert describe_destination(destination).url == SHOWN
    assert "sealed" not in describe_destination(destination).model_dump_json()


def test_a_delivery_and_its_attempts_are_shown_without_secrets() -> None:
    delivery = OutboundDelivery(
        id="d-1", endpoint_id="e-1", url=ADDRESS, event="x", body="{}", state="failed", attempts=1, error=TOLD,
        occurred_at=NOW, touched_at=NOW, created_at=NOW,
    )  # fmt: skip
    attempt = OutboundAttempt(
        delivery_id="d-1", number=1, endpoint_id="e-1", started_at=NOW, error=TOLD, request_headers=["Host"]
    )

    details = describe_details(LoggedDelivery(delivery, TaskState.FAILED, [attempt]))

    assert (details.delivery.url, details.delivery.error) == (SHOWN, SHOWN_TOLD)
    assert [each.error for each in details.attempts] == [SHOWN_TOLD]
