"""Inbound webhooks: verify, store and queue each delivery; then parse it into events, and submit each event's task.

One transaction stores a delivery with its task; the sender gets 200 after that. One transaction stores an event with
its task. Requests with the same body are one delivery; events with the same id are one event.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from app.core.settings import WebhookSettings
from app.db.models import WebhookDelivery, WebhookEvent
from app.db.queries import webhooks as repository
from app.schemas.webhook import ParsedDelivery, ParsedEvent
from app.services.task_manager import TaskManager
from app.services.webhooks.parsing import decode_body, parse_facebook, parse_generic, parse_google, without_secret
from laneway.platform import clock
from laneway.platform.db.session import Database
from laneway.platform.errors import InvalidPayload, NotConfigured, NotFound
from laneway.platform.logging import logger
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.webhooks import signing

log = logger(__name__)

FACEBOOK, GOOGLE = "facebook", "google"
TASKS: Final[dict[str, str]] = {FACEBOOK: "process_facebook_webhook_task", GOOGLE: "process_google_webhook_task"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery that is stored and queued."""

    delivery_id: str
    task_id: str
    duplicate: bool


class Webhooks:
    """Accepts deliveries of webhooks, and processes them into events and tasks."""

    def __init__(self, database: Database, tasks: TaskManager, settings: WebhookSettings) -> None:
        self._database, self._tasks, self._settings = database, tasks, settings

    def verify_subscription(self, *, mode: str | None, token: str | None, challenge: str | None) -> str:
        """Verify a new Facebook subscription and return its challenge. Raises BadSignature, NotConfigured."""
        secret = self._settings.facebook_verify_token
        if secret is None:
            raise NotConfigured("The Facebook webhook", "FACEBOOK_VERIFY_TOKEN")
        signing.verify_token(token if mode == "subscribe" else None, secret, source=FACEBOOK)
        if not challenge:
            raise InvalidPayload("the Facebook verification", ["hub.challenge is missing"])
        return challenge

    def accept_facebook(self, body: bytes, *, signature: str | None) -> Receipt:
        """Verify the raw bytes, then store and queue the delivery. Raises BadSignature before anything is parsed."""
        secret = self._settings.facebook_app_secret
        if secret is None:
            raise NotConfigured("The Facebook webhook", "FACEBOOK_APP_SECRET")
        signing.verify_hub_signature(body, signature, secret, source=FACEBOOK)
        return self._accept(FACEBOOK, decode_body(body, source=FACEBOOK), raw_body=body)

    def accept_google(self, body: bytes) -> Receipt:
        """Verify the key in the body, remove it, then store and queue the delivery."""
        secret = self._settings.google_lead_key
        if secret is None:
            raise NotConfigured("The Google lead form", "GOOGLE_LEAD_KEY")
        content = decode_body(body, source=GOOGLE)
        token = content.get("google_key")
        signing.verify_token(token if isinstance(token, str) else None, secret, source=GOOGLE)
        return self._accept(GOOGLE, without_secret(content), raw_body=body)

    def accept_generic(self, source: str, body: bytes, *, headers: dict[str, str]) -> Receipt:
        """Verify the raw bytes with the source's own secret and header, then store and queue the delivery."""
        key = self._settings.secrets.get(source)
        if key is None:
            raise NotConfigured(f"The webhook source {source!r}", f"WEBHOOK_SECRETS (an entry for {source!r})")
        signing.verify_hub_signature(body, headers.get(key.header.lower()), key.secret, source=source)
        return self._accept(source, decode_body(body, source=source), raw_body=body)

    def process(self, delivery_id: str) -> dict[str, Any]:
        """Parse a stored delivery into events, and submit the follow-up task of each new event."""
        with self._database.reading() as session:
            delivery = repository.find(session, delivery_id)
        if delivery is None:
            raise NotFound("webhook delivery", delivery_id)
        try:
            parsed = _parse(delivery)
        except InvalidPayload:
            self._mark_processed(delivery_id)
            raise
        tasks = [task for event in parsed.events if (task := self._submit_follow_up(delivery, event))]
        self._mark_processed(delivery_id)
        for problem in parsed.problems:
            log.warning("part of a webhook could not be parsed", source=delivery.source, problem=problem)
        if parsed.problems and not parsed.events:
            raise InvalidPayload(f"the {delivery.source} webhook", parsed.problems[:5])
        return {
            "source": delivery.source,
            "events": len(parsed.events),
            "tasks": tasks,
            "problems": parsed.problems[:20],
        }

    def _accept(self, source: str, content: dict[str, Any], *, raw_body: bytes) -> Receipt:
        delivery_id = f"{source}:{hashlib.sha256(raw_body).hexdigest()[:40]}"
        task = TASKS.get(source, "process_generic_webhook_task")
        with self._tasks.transaction(bounded=True) as unit:
            repository.store(unit.session, delivery_id, source=source, body=content, now=clock.now())
            handle = unit.submit(task, {"delivery_id": delivery_id}, options=SubmitOptions(id=delivery_id))
        log.info("webhook accepted", source=source, delivery=delivery_id, duplicate=not handle.created)
        return Receipt(delivery_id, handle.task_id, duplicate=not handle.created)

    def _mark_processed(self, delivery_id: str) -> None:
        with self._database.transaction() as session:
            repository.mark_processed(session, delivery_id, now=clock.now())

    def _submit_follow_up(self, delivery: WebhookDelivery, event: ParsedEvent) -> str | None:
        """Submit the event's task and return its id; None if the event needs no task or has it already."""
        with self._tasks.transaction() as unit:
            stored = repository.add_event(
                unit.session,
                source=delivery.source,
                event_id=event.event_id,
                kind=event.kind,
                delivery_id=delivery.id,
                data=event.data,
                created_at=clock.now(),
            )
            if stored.task_id or event.is_test or event.interaction is None:
                return None
            id = _event_task_id(stored)
            handle = unit.submit(
                "process_manipulator_interaction_task", event.interaction, options=SubmitOptions(id=id)
            )
            repository.set_task(unit.session, stored.id, task_id=handle.task_id)
        return handle.task_id if handle.created else None


def _parse(delivery: WebhookDelivery) -> ParsedDelivery:
    if delivery.source == FACEBOOK:
        return parse_facebook(delivery.body)
    if delivery.source == GOOGLE:
        return parse_google(delivery.body)
    return parse_generic(delivery.source, delivery.body)


def _event_task_id(event: WebhookEvent) -> str:
    identity = f"{event.source}\n{event.event_id}"
    return f"event:{hashlib.sha256(identity.encode()).hexdigest()[:40]}"
