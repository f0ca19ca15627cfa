"""Encrypts the secrets of destinations for the database: Fernet of `cryptography`, with keys derived from the settings.

A signing secret cannot be stored as a digest, because the platform signs with it. So whoever reads only the database,
or a backup of it, gets no secret; whoever also has the key (`OUTBOUND_KEY`, or its file) does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

from laneway.platform.errors import PlatformError

if TYPE_CHECKING:  # `cryptography` is loaded at the first use
    from cryptography.fernet import MultiFernet

PURPOSE: Final = b"laneway: secrets of destinations"
KEY_BYTES: Final = 32


class SecretUnreadable(PlatformError):
    """A stored secret was encrypted with a key that this process does not have."""

    status, title, retryable = 503, "Secret unreadable", True

    template = (
        "The secret of the destination {name!r} cannot be decrypted: give this machine the OUTBOUND_KEY "
        "(or the file DATA_DIR/outbound-key) of the machine that stored it."
    )
    name: str


class SecretBox:
    """Encrypts and decrypts. The first key encrypts, every key decrypts."""

    def __init__(self, keys: Callable[[], Sequence[str]]) -> None:
        """`keys` is called at the first use."""
        self._keys = keys

    @cached_property
    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(_derived(key)) for key in self._keys()])

    def seal(self, secret: str, *, name: str) -> str:
        """Encrypt the secret of this destination. The name is encrypted with it, so that rows cannot be exchanged."""
        return self._fernet.encrypt(f"{name} {secret}".encode()).decode()

    def open(self, sealed: str, *, name: str) -> str:
        """Decrypt the secret of this destination. Raises SecretUnreadable."""
        from cryptography.fernet import InvalidToken

        try:
            owner, _, secret = self._fernet.decrypt(sealed).decode().partition(" ")
        except InvalidToken:
            raise SecretUnreadable(name) from None
        if owner != name:
            raise SecretUnreadable(name)
        return secret


def _derived(key: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=PURPOSE)
    return base64.urlsafe_b64encode(derivation.derive(key.encode()))
