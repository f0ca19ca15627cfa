"""Fixtures of the tests of `laneway up`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.settings import Settings, load_settings
from tests.fixtures.valkey import free_port, redis_urls, valkey

__all__ = ["redis_urls", "valkey"]

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeSettings:
    """Settings on free ports, from an environment without this machine's own variables."""
    for name in (
        "REDIS_URL",
        "REDIS_HOST",
        "CELERY_BROKER_URL",
        "CELERY_RESULT_BACKEND",
        "DATABASE_URL",
        "API_HOST",
        "FLOWER_HOST",
        "FLOWER_USER",
        "FLOWER_PASSWORD",
        "WORKER_CONCURRENCY",
        "ENVIRONMENT",
        "AUTHENTICATION",
        "FACEBOOK_APP_SECRET",
        "FACEBOOK_VERIFY_TOKEN",
        "GOOGLE_LEAD_KEY",
        "OUTBOUND_WEBHOOK_SECRET",
        "OUTBOUND_ALLOW_PRIVATE",
        "OUTBOUND_ALLOW_LOOPBACK",
    ):
        monkeypatch.setenv(name, "")  # an empty value counts as not set, and hides a developer's .env
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    for name in ("API_PORT", "FLOWER_PORT", "REDIS_PORT"):
        monkeypatch.setenv(name, str(free_port()))

    def make(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return make
