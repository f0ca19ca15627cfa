"""Flower's login. Flower always needs one: a password that is not set is generated once and kept in the data folder."""

from __future__ import annotations

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings
from laneway.platform.settings.stored_secret import stored_secret
from laneway.server.checks import make_folder

FILE = "flower-password"


def login(settings: Settings) -> str:
    """`user:password`, as Flower's `basic_auth` takes it. Raises ConfigError or FolderUnusable."""
    return f"{settings.api.flower_user}:{_password(settings)}"


def login_hint(settings: Settings) -> str:
    """Where a person finds the login; the text does not contain the password."""
    if settings.people.asks_people and settings.api.flower_password is None:
        return f"log in at {(settings.people.public_url or 'the API').rstrip('/')}"
    source = "FLOWER_PASSWORD" if settings.api.flower_password else str(settings.storage.folder / FILE)
    return f"user {settings.api.flower_user}, password in {source}"


def _password(settings: Settings) -> str:
    configured = settings.api.flower_password
    if configured is None:
        return stored_secret(make_folder(settings.storage.folder) / FILE, instead="FLOWER_PASSWORD")
    if not configured.get_secret_value().isascii():
        raise ConfigError("FLOWER_PASSWORD must consist of ASCII characters: Flower cannot compare others.")
    return configured.get_secret_value()
