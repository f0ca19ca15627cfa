"""The application's API with the task that is measured: `uvicorn benchmarks.peers.platform_api:app`."""

from __future__ import annotations

from app.core.settings import settings
from app.main import create_app
from benchmarks.pipeline_app import celery_app

__all__ = ["app", "celery_app"]

app = create_app(settings())
