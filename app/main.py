"""The API: `uvicorn app.main:app`."""

from __future__ import annotations

from fastapi import FastAPI

from app.api.routers import analytics, chat, conversations, documents, leads, webhook_events, webhooks
from app.console import application
from app.core.celery_app import celery_app
from app.core.settings import Settings, settings
from app.services.container import Services
from laneway.api.app import ROUTERS, make_api
from laneway.console import library
from laneway.platform.celery_app import load_tasks_or_exit

DESCRIPTION = (
    "Conversations, webhooks, documents, leads and workflows as background tasks. Errors are RFC 9457 problems."
)

DOMAINS = (conversations, webhooks, webhook_events, analytics, documents, leads, chat)
"""The application's modules with routers, in the order of the OpenAPI document."""


def create_app(config: Settings) -> FastAPI:
    """Make the ASGI application with these settings. At its start it upgrades the database's schema."""
    load_tasks_or_exit(celery_app)
    return make_api(
        Services(config, celery_app),
        (*DOMAINS, *ROUTERS, *library.CONSOLE, *application.CONSOLE, library.LAST),
        title="Laneway",
        description=DESCRIPTION,
        at_start=_log_problems,
    )


def _log_problems(services: Services) -> None:
    """Log now what is wrong with the file of webhook events, not when one arrives."""
    services.webhook_events.mapping()


app = create_app(settings())
