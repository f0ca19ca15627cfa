"""The group of settings for the key ring: what is signed with it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from laneway.platform.settings.base import Group, absolute


class KeySettings(Group):
    """Signatures of messages."""

    ring_file: Path | None = Field(None, alias="KEY_RING_FILE")
    """The file with the keys that sign messages; relative to the project's folder. `laneway keys create` makes it, and
    every process needs the same file.
    """
    signing: Literal["require", "sign", "off"] | None = Field(None, alias="MESSAGE_SIGNING")
    """`require`: messages and control commands that are not signed by us are refused. `sign`: they are
    signed, and nothing is refused. `off`: neither. Default: `require` with a key ring, else `off`; in production a
    process without a key ring does not start unless `off` is set.
    """

    @model_validator(mode="after")
    def _with_keys(self) -> KeySettings:
        if self.signing in ("require", "sign") and self.ring_file is None:
            raise ValueError(f"MESSAGE_SIGNING={self.signing} needs KEY_RING_FILE, the file of the keys")
        return self

    @property
    def ring_path(self) -> Path | None:
        """`KEY_RING_FILE`, absolute."""
        return None if self.ring_file is None else absolute(self.ring_file)

    @property
    def signs(self) -> bool:
        """Whether messages are signed."""
        return self.ring_file is not None and self.signing != "off"
