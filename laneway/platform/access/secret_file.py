"""Secrets that nobody has set: generated once, and kept in a file of the data folder that only its owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from laneway.platform.errors import ConfigError


class SecretFileUnusable(ConfigError):
    """The file of a generated secret cannot be read or written."""

    template = "{path} cannot be used: {reason}. It keeps a secret; or set {setting}."
    path: str
    reason: str
    setting: str


def stored_secret(path: Path, *, setting: str) -> str:
    """The secret in this file; a new one if there is no file. `setting`: the variable that sets the secret instead.

    Processes that start at the same time agree on one secret. Raises SecretFileUnusable.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path)
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretFileUnusable(str(path), getattr(error, "strerror", None) or "it is not text", setting) from error
    if not secret:
        raise SecretFileUnusable(str(path), "it is empty: delete it to get a new secret", setting)
    return secret


def _create(path: Path) -> None:
    """Write a secret to a draft and link the draft to the path.

    So only the first process sets the secret, and no process reads a half-written file.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first, and its secret is used
    finally:
        draft.unlink()
