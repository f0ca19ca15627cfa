"""Secrets that the platform makes itself: each is generated once and kept in a file that only this user can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from laneway.platform.errors import ConfigError


def stored_secret(path: Path, *, instead: str) -> str:
    """The secret in the file; a new one, of 32 characters, if there is no file. Others lose their access to the file.

    `instead`: the setting that makes the file unnecessary, for the error. Raises ConfigError.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        secret = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"DATA_DIR cannot be used: {path}: {reason}.") from error
    if not secret:
        raise ConfigError(f"{path} is empty: delete the file to get a new secret, or set {instead}.")
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
