"""Flower's login. Flower always needs one: a password that is not set is generated once and kept in the data folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings
from laneway.server.checks import make_folder
from laneway.server.errors import FolderUnusable

FILE = "flower-password"


def login(settings: Settings) -> str:
    """`user:password`, as Flower's `basic_auth` takes it. Raises ConfigError or FolderUnusable."""
    return f"{settings.api.flower_user}:{_password(settings)}"


def login_hint(settings: Settings) -> str:
    """Where a person finds the login; the text does not contain the password."""
    source = "FLOWER_PASSWORD" if settings.api.flower_password else str(settings.storage.folder / FILE)
    return f"user {settings.api.flower_user}, password in {source}"


def _password(settings: Settings) -> str:
    configured = settings.api.flower_password
    if configured is None:
        return _stored_password(make_folder(settings.storage.folder) / FILE)
    if not configured.get_secret_value().isascii():
        raise ConfigError("FLOWER_PASSWORD must consist of ASCII characters: Flower cannot compare others.")
    return configured.get_secret_value()


def _stored_password(path: Path) -> str:
    try:
        if not path.exists():
            _create_password(path)
        password = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FolderUnusable(str(path), getattr(error, "strerror", None) or "it is not text") from error
    if not password:
        raise ConfigError(f"{path} is empty: delete the file to get a new password, or set FLOWER_PASSWORD.")
    return password


def _create_password(path: Path) -> None:
    """Write a password to a draft and link the draft to the path.

    So only the first process sets the password, and no process reads a half-written file.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(18) + "\n")
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first, and its password is used
    finally:
        draft.unlink()
