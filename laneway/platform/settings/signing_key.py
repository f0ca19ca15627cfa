"""Makes the signing key of a configured secret. The settings use it to check the secret, and the sender to sign."""

from __future__ import annotations

import base64
import binascii

from pydantic import SecretStr

STANDARD_PREFIX = "whsec_"


def signing_key(secret: SecretStr, *, setting: str) -> bytes:
    """Return the key that signs outbound webhooks.

    A secret that starts with `whsec_` is base64 after that prefix, as Standard Webhooks defines it. Any other secret
    is used unchanged, as UTF-8, even if it looks like base64; its receivers configure `whsec_` + base64(secret).
    Raises ValueError, which names the setting, when a `whsec_` secret is not base64 or the key is empty.
    """
    text = secret.get_secret_value()
    if not text.startswith(STANDARD_PREFIX):
        key = text.encode()
    else:
        encoded = text.removeprefix(STANDARD_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            raise ValueError(f"{setting} starts with whsec_ but is not base64 after it") from None
    if not key:
        raise ValueError(f"{setting} is empty")
    return key
