"""Who sent this, and how others know that we did: signatures of webhooks, in both directions.

Inbound: Facebook signs the raw body with the app secret (`X-Hub-Signature-256: sha256=<hex>`, see "Validating
payloads" in Meta's webhook documentation), and generic sources do the same under a header of their own. Google lead
forms carry a key in the body instead. Every comparison takes the same time wherever the difference is.

Outbound: Standard Webhooks (https://www.standardwebhooks.com), by its own library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

from app.core.errors import BadSignature, ConfigError

HUB_PREFIX = "sha256="
STANDARD_PREFIX = "whsec_"


def verify_hub_signature(body: bytes, header: str | None, secret: SecretStr, *, source: str) -> None:
    """Check `sha256=<hex HMAC-SHA256 of the raw body>`. Raises BadSignature, which never shows what was expected."""
    key = _usable(secret, source)
    if not header:
        raise BadSignature(source, "it carries no signature")
    given = header.strip()
    if not given.startswith(HUB_PREFIX):
        raise BadSignature(source, "its signature does not start with sha256=")
    expected = hmac.new(key, body, hashlib.sha256).hexdigest()
    if not _same(given.removeprefix(HUB_PREFIX).lower(), expected):
        raise BadSignature(source, "its signature does not match its body")


def sign_hub(body: bytes, secret: SecretStr) -> str:
    """The header value that `verify_hub_signature` accepts: what Facebook and generic sources send."""
    return HUB_PREFIX + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def verify_token(given: object, expected: SecretStr, *, source: str) -> None:
    """Check a shared word, such as Google's `google_key` or Facebook's verify token. Raises BadSignature.

    `given` comes straight from a request, so it may be missing or of any type.
    """
    _usable(expected, source)
    if given is None or given == "":
        raise BadSignature(source, "it carries no key")
    if not isinstance(given, str) or not _same(given, expected.get_secret_value()):
        raise BadSignature(source, "its key is not the right one")


def outbound_key(secret: SecretStr) -> bytes:
    """The key that signs outbound webhooks.

    A secret that starts with `whsec_` is base64 after that prefix, as Standard Webhooks has it. Any other secret is
    taken as it is, as UTF-8, without guessing whether it might be base64: its receivers configure
    `whsec_` + base64(secret). Raises ConfigError when a `whsec_` secret is not base64, or nothing is left of it.
    """
    text = secret.get_secret_value()
    if not text.startswith(STANDARD_PREFIX):
        key = text.encode()
    else:
        encoded = text.removeprefix(STANDARD_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            raise ConfigError("OUTBOUND_WEBHOOK_SECRET starts with whsec_ but is not base64 after it") from None
    if not key:
        raise ConfigError("OUTBOUND_WEBHOOK_SECRET is empty")
    return key


def sign_outbound(body: str, key: bytes, *, message_id: str, at: datetime) -> dict[str, str]:
    """The three Standard Webhooks headers for one attempt; `message_id` stays the same when it is tried again."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(key).sign(msg_id=message_id, timestamp=at, data=body),
    }


def _usable(secret: SecretStr, source: str) -> bytes:
    key = secret.get_secret_value().encode()
    if not key:
        raise BadSignature(source, "no secret is configured to check it with")  # anyone can sign with an empty key
    return key


def _same(given: str, expected: str) -> bool:
    # As bytes: compare_digest refuses text beyond ASCII, and headers may hold any character.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
