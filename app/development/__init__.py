"""Defaults that `laneway up` adds on a development machine: secrets, the pipeline example, local webhook receivers."""

from __future__ import annotations

from app.core.settings import Settings
from app.development import pipeline_example, webhook_secrets


def environment(settings: Settings) -> dict[str, str]:
    """Environment variables for the processes of `laneway up`; empty in production."""
    return {
        **webhook_secrets.for_development(settings),
        **webhook_secrets.receivers_for_development(settings),
        **pipeline_example.for_development(settings),
    }
