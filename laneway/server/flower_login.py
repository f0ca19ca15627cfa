"""Flower's login: never without one. A password that nobody set is made once and kept in the data folder."""

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
    """`user:password` as Flower's `basic_auth` takes it. Raises ConfigError or FolderUnusable."""
    return f"{settings.api.flower_user}:{_password(settings)}"


def where(settings: Settings) -> str:
    """Where a person finds the login, without the password itself."""
    given = settings.api.flower_password
    place = "FLOWER_PASSWORD" if given else str(settings.storage.folder / FILE)
    return f"user {settings.api.flower_user}, password in {place}"


def _password(settings: Settings) -> str:
    given = settings.api.flower_password
    if given is None:
        return _kept(make_folder(settings.storage.folder) / FILE)
    if not given.get_secret_value().isascii():
        raise ConfigError("FLOWER_PASSWORD must consist of ASCII characters: Flower cannot compare others.")
    return given.get_secret_value()


def _kept(path: Path) -> str:
    try:
        if not path.exists():
            _make(path)
        password = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FolderUnusable(str(path), getattr(error, "strerror", None) or "it is not text") from error
    if not password:
        raise ConfigError(f"{path} is empty: delete it and a new password is made, or set FLOWER_PASSWORD.")
    return password


def _make(path: Path) -> None:
    """Write a new password beside the path and link it there: whoever links first decides, and no one reads half."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w") as handle:
            handle.write(secrets.token_urlsafe(18) + "\n")
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first: its password counts
    finally:
        draft.unlink()
