"""Webhooks in development: generated secrets that are kept in the data folder, and receivers on this machine.

The demo needs them to sign its requests, and to receive webhooks. Only `laneway up` sets them, only for its own
processes, only in development, and only where nothing is configured. In production a source without a secret is
refused, and no webhook is sent to a private address. In both, a receiver must be a registered destination.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from app.core.settings import Settings
from laneway.platform.errors import ConfigError
from laneway.server.checks import make_folder
from laneway.server.errors import FolderUnusable

FILE: Final = "webhook-secrets.json"
SECRETS: Final = TypeAdapter(dict[str, str])


def _random_text() -> str:
    return secrets.token_urlsafe(24)


GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "FACEBOOK_APP_SECRET": _random_text,
    "FACEBOOK_VERIFY_TOKEN": _random_text,
    "GOOGLE_LEAD_KEY": _random_text,
}


def for_development(settings: Settings) -> dict[str, str]:
    """Environment variables for the secrets that are not configured; empty in production."""
    if settings.operation.environment != "development":
        return {}
    configured = settings.webhooks
    missing = [
        name
        for name, value in {
            "FACEBOOK_APP_SECRET": configured.facebook_app_secret,
            "FACEBOOK_VERIFY_TOKEN": configured.facebook_verify_token,
            "GOOGLE_LEAD_KEY": configured.google_lead_key,
        }.items()
        if value is None
    ]
    if not missing:
        return {}
    stored = _load_or_generate(make_folder(settings.storage.folder) / FILE)
    return {name: stored[name] for name in missing}


def receivers_for_development(settings: Settings) -> dict[str, str]:
    """The environment variable that allows webhooks to this machine, but to no other private address.

    Empty in production, if the settings configure private addresses themselves, and if other machines can call the API:
    they could make the platform call services on this machine.
    """
    configured = {"allow_private", "allow_loopback"} & settings.outbound.model_fields_set
    if settings.operation.environment != "development" or configured or not _is_loopback(settings.api.host):
        return {}
    return {"OUTBOUND_ALLOW_LOOPBACK": "true"}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _load_or_generate(path: Path) -> dict[str, str]:
    """Load the file's secrets, and generate and store those that it lacks."""
    try:
        stored = SECRETS.validate_json(path.read_bytes()) if path.exists() else {}
        missing = [name for name in GENERATORS if not stored.get(name)]
        if missing:
            stored |= {name: GENERATORS[name]() for name in missing}
            _write(path, stored)
    except OSError as error:
        raise FolderUnusable(str(path), error.strerror or type(error).__name__) from error
    except ValidationError as error:
        raise ConfigError(f"{path} cannot be read: delete it to get new secrets, or configure them.") from error
    return stored


def _write(path: Path, content: dict[str, str]) -> None:
    """Write a draft and rename it, so that nobody reads a partial file."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w") as handle:
        json.dump(content, handle)
    draft.replace(path)
