"""Webhook secrets for development: made once, kept in the data folder, so that the demo can sign what it posts.

Only `laneway up` hands them to the parts that it starts, only in development, and only for settings that are empty.
In production a source without a secret stays refused.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from app.core.config import Settings
from app.dev.checks import make_folder

FILE = "webhook-secrets.json"


def for_development(settings: Settings) -> dict[str, str]:
    """Environment variables for the secrets that are not set; none in production."""
    if settings.operation.environment != "development":
        return {}
    given = settings.webhooks
    missing = [name for name, value in {
        "FACEBOOK_APP_SECRET": given.facebook_app_secret,
        "FACEBOOK_VERIFY_TOKEN": given.facebook_verify_token,
        "GOOGLE_LEAD_KEY": given.google_lead_key,
    }.items() if value is None]  # fmt: skip
    if not missing:
        return {}
    kept = _kept(make_folder(settings.storage.folder) / FILE)
    return {name: kept[name] for name in missing}


def _kept(path: Path) -> dict[str, str]:
    if not path.exists():
        names = ("FACEBOOK_APP_SECRET", "FACEBOOK_VERIFY_TOKEN", "GOOGLE_LEAD_KEY")
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as handle:
            json.dump({name: secrets.token_urlsafe(24) for name in names}, handle)
    return json.loads(path.read_text())
