"""Webhooks in development: secrets that are made once and kept in the data folder, and receivers on this machine.

So the demo can sign what it posts, and check what is posted to it. Only `laneway up` hands these settings to the parts
that it starts, only in development, and only where nothing is set. In production a source without a secret stays
refused, nothing is sent without a secret, and nothing to a private address.
"""

from __future__ import annotations

import base64
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
from laneway.platform.settings.signing_key import STANDARD_PREFIX
from laneway.server.checks import make_folder
from laneway.server.errors import FolderUnusable

FILE: Final = "webhook-secrets.json"
SECRETS: Final = TypeAdapter(dict[str, str])


def _word() -> str:
    return secrets.token_urlsafe(24)


def _standard() -> str:
    """As Standard Webhooks has it: 24 to 64 bytes in base64 behind `whsec_`."""
    return STANDARD_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


MADE_BY: Final[dict[str, Callable[[], str]]] = {
    "FACEBOOK_APP_SECRET": _word,
    "FACEBOOK_VERIFY_TOKEN": _word,
    "GOOGLE_LEAD_KEY": _word,
    "OUTBOUND_WEBHOOK_SECRET": _standard,
}


def for_development(settings: Settings) -> dict[str, str]:
    """Environment variables for the secrets that are not set; none in production."""
    if settings.operation.environment != "development":
        return {}
    given = settings.webhooks
    missing = [
        name
        for name, value in {
            "FACEBOOK_APP_SECRET": given.facebook_app_secret,
            "FACEBOOK_VERIFY_TOKEN": given.facebook_verify_token,
            "GOOGLE_LEAD_KEY": given.google_lead_key,
            "OUTBOUND_WEBHOOK_SECRET": settings.outbound.secret,
        }.items()
        if value is None
    ]
    if not missing:
        return {}
    kept = _kept(make_folder(settings.storage.folder) / FILE)
    return {name: kept[name] for name in missing}


def receivers_for_development(settings: Settings) -> dict[str, str]:
    """The environment variable that lets webhooks go to this machine, and to no other private address.

    None in production, none where the settings say anything themselves about private addresses, and none where others
    than this machine can call the API: they could have our own services called.
    """
    said = {"allow_private", "allow_loopback"} & settings.outbound.model_fields_set
    if settings.operation.environment != "development" or said or not _is_loopback(settings.api.host):
        return {}
    return {"OUTBOUND_ALLOW_LOOPBACK": "true"}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _kept(path: Path) -> dict[str, str]:
    """What the file holds; secrets that it lacks are made and added."""
    try:
        kept = SECRETS.validate_json(path.read_bytes()) if path.exists() else {}
        missing = [name for name in MADE_BY if not kept.get(name)]
        if missing:
            kept |= {name: MADE_BY[name]() for name in missing}
            _write(path, kept)
    except OSError as error:
        raise FolderUnusable(str(path), error.strerror or type(error).__name__) from error
    except ValidationError as error:
        raise ConfigError(f"{path} cannot be read: delete it and new secrets are made, or set them.") from error
    return kept


def _write(path: Path, kept: dict[str, str]) -> None:
    """Beside the path first and then in its place, so that no one reads half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w") as handle:
        json.dump(kept, handle)
    draft.replace(path)
