"""Inbound webhooks: verify, store and queue each delivery. Its task reads the events (`events.py`).

One transaction stores a delivery with its task; the sender gets 200 after that. Requests with the same body are one
delivery.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from app.core.settings import WebhookSettings
from app.core.settings.webhooks import SourceSecret
from app.db.queries import webhooks as repository
from app.services.task_manager import TaskManager
from app.services.webhooks.parsing import FACEBOOK, GOOGLE, Body, decode_body, without_secret
from laneway.platform import clock
from laneway.platform.errors import BadSignature, InvalidPayload
from laneway.platform.logging import logger
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.webhooks import signing

log = logger(__name__)

REFUSAL: Final = "its signature or key is missing or not the right one"
"""What every sender is told whose request cannot be verified, so that nobody learns which sources have a secret."""
TASKS: Final[dict[str, str]] = {FACEBOOK: "process_facebook_webhook_task", GOOGLE: "process_google_webhook_task"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery that is stored and queued."""

    delivery_id: str
    task_id: str
    duplicate: bool


class Webhooks:
    """Accepts deliveries of webhooks."""

    def __init__(self, tasks: TaskManager, settings: WebhookSettings) -> None:
        self._tasks, self._settings = tasks, settings

    def verify_subscription(self, *, mode: str | None, token: str | None, challenge: str | None) -> str:
        """Verify a new Facebook subscription and return its challenge. Raises BadSignature."""
        secret = _known(self._settings.facebook_verify_token, "FACEBOOK_VERIFY_TOKEN")
        with _refusals_alike(FACEBOOK):
            signing.verify_token(token if mode == "subscribe" else None, secret, source=FACEBOOK)
        if not challenge:
            raise InvalidPayload("the Facebook verification", ["hub.challenge is missing"])
        return challenge

    def accept_facebook(self, body: bytes, *, signature: str | None) -> Receipt:
        """Verify the raw bytes, then store and queue the delivery. Raises BadSignature before anything is parsed."""
        secret = _known(self._settings.facebook_app_secret, "FACEBOOK_APP_SECRET")
        previous = self._settings.facebook_app_secret_previous
        with _refusals_alike(FACEBOOK):
            signing.verify_hub_signature(body, signature, secret, source=FACEBOOK, previous=previous)
        return self._accept(FACEBOOK, decode_body(body, source=FACEBOOK), raw_body=body)

    def accept_google(self, body: bytes) -> Receipt:
        """Verify the key in the body, remove it, then store and queue the delivery."""
        secret = _known(self._settings.google_lead_key, "GOOGLE_LEAD_KEY")
        content = decode_body(body, source=GOOGLE)
        if isinstance(content, list):
            raise InvalidPayload(f"the {GOOGLE} webhook", ["the body is not a JSON object"])
        previous = self._settings.google_lead_key_previous
        with _refusals_alike(GOOGLE):
            signing.verify_token(content.get("google_key"), secret, source=GOOGLE, previous=previous)
        return self._accept(GOOGLE, without_secret(content), raw_body=body)

    def accept_generic(self, source: str, body: bytes, *, headers: dict[str, str]) -> Receipt:
        """Verify the raw bytes with the source's own secret and header, then store and queue the delivery."""
        key = self._settings.secrets.get(source)
        secret = _known(key.secret if key else None, f"WEBHOOK_SECRETS (an entry for {source!r})")
        with _refusals_alike(source):
            signed = body if key is None else _signed_bytes(body, key, headers, source=source)
            signature = headers.get(key.header.lower() if key else "")
            previous = key.previous if key else None
            signing.verify_hub_signature(signed, signature, secret, source=source, previous=previous)
        return self._accept(source, decode_body(body, source=source), raw_body=body)

    def _accept(self, source: str, content: Body, *, raw_body: bytes) -> Receipt:
        delivery_id = f"{source}:{hashlib.sha256(raw_body).hexdigest()[:40]}"
        task = TASKS.get(source, "process_generic_webhook_task")
        with self._tasks.transaction(bounded=True) as unit:
            repository.store(unit.session, delivery_id, source=source, body=content, now=clock.now())
            handle = unit.submit(task, {"delivery_id": delivery_id}, options=SubmitOptions(id=delivery_id))
        log.info("webhook accepted", source=source, delivery=delivery_id, duplicate=not handle.created)
        return Receipt(delivery_id, handle.task_id, duplicate=not handle.created)


def _signed_bytes(body: bytes, key: SourceSecret, headers: dict[str, str], *, source: str) -> bytes:
    """What a source signs: the raw body, or its time and the raw body. Raises BadSignature for a time far away."""
    if key.timestamp_header is None:
        return body
    timestamp = headers.get(key.timestamp_header.lower())
    return signing.timestamped(body, timestamp, tolerance=key.tolerance, source=source, at=clock.now())


def _known(secret: SecretStr | None, setting: str) -> SecretStr:
    """The secret; one that nobody knows for a source that has none. The log says which setting is missing."""
    if secret is None:
        log.warning("webhook of a source without a secret", setting=setting)
    return secret or SecretStr(secrets.token_hex(32))


@contextmanager
def _refusals_alike(source: str) -> Generator[None]:
    """Raise one BadSignature for each reason, and log the reason."""
    try:
        yield
    except BadSignature as error:
        log.warning("webhook refused", source=source, reason=error.reason)
        raise BadSignature(source, REFUSAL) from None
