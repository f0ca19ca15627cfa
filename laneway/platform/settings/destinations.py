"""Settings of the destinations of outbound webhooks: the key that encrypts their secrets in the database."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from laneway.platform.settings.base import Group
from laneway.platform.settings.stored_secret import stored_secret

KEY_FILE = "outbound-key"
"""The file in `DATA_DIR` with the generated key."""
SHORTEST_KEY = 16


class DestinationSettings(Group):
    """The keys that encrypt the secrets of destinations."""

    key: SecretStr | None = Field(None, alias="OUTBOUND_KEY", min_length=SHORTEST_KEY)
    """Encrypts the secrets of destinations in the database. Every machine of the platform needs the same one. Default:
    a generated one, in `DATA_DIR/outbound-key`.
    """
    key_previous: SecretStr | None = Field(None, alias="OUTBOUND_KEY_PREVIOUS", min_length=SHORTEST_KEY)
    """The key before this one: it only decrypts, until `laneway callbacks reencrypt` has run."""

    @model_validator(mode="after")
    def _two_keys(self) -> DestinationSettings:
        if self.key_previous and not self.key:
            raise ValueError("OUTBOUND_KEY_PREVIOUS needs OUTBOUND_KEY, the one that replaces it")
        return self

    def keys(self, folder: Path) -> list[str]:
        """The keys, the current one first. `folder`: `DATA_DIR`. Raises ConfigError if its file cannot be used."""
        if self.key is None:
            return [stored_secret(folder / KEY_FILE, instead="OUTBOUND_KEY")]
        return [key.get_secret_value() for key in (self.key, self.key_previous) if key is not None]
