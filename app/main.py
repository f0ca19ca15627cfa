"""The API: `uvicorn app.main:app`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api.routers import analytics, chat, conversations, documents, leads, webhook_events, webhooks
from app.core.celery_app import celery_app
from app.core.settings import Settings, settings
from app.services.container import Services
from laneway.api import docs_page, errors, openapi
from laneway.api.lifespan import serving
from laneway.api.middleware import BodyLimit, HeadAsGet, RequestContext
from laneway.api.routers import dead_letters, health, outbound_webhooks, queues, tasks, workflows
from laneway.platform.celery_app import load_tasks_or_exit
from laneway.platform.db.migrate import upgrade
from laneway.platform.logging import configure_logging

DESCRIPTION = (
    "Conversations, webhooks, documents, leads and workflows as background tasks. Errors are RFC 9457 problems."
)

DOMAINS = (
    conversations,
    webhooks,
    webhook_events,
    outbound_webhooks,
    analytics,
    tasks,
    queues,
    dead_letters,
    documents,
    leads,
    health,
    chat,
    workflows,
)
"""The modules with the routers of the library and of the application, in the order of the OpenAPI document."""


def create_app(config: Settings) -> FastAPI:
    """Make the ASGI application with these settings. At its start it upgrades the database's schema."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        configure_logging(config.operation)
        upgrade(config.storage.url, Services.migrations)
        app.state.services.installation.check_broker()
        _ = app.state.services.workflow_definitions  # a broken one is logged now, not when somebody needs it
        app.state.services.webhook_events.mapping()  # logs now what is wrong with its file
        async with serving(app.state.services):
            yield

    app = FastAPI(
        title="Laneway",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,  # FastAPI's page loads its script from elsewhere, and is blank without a network
    )
    load_tasks_or_exit(celery_app)
    app.state.services = Services(config, celery_app)
    errors.install(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, limit=config.api.max_body_bytes)
    app.add_middleware(RequestContext)
    for domain in DOMAINS:
        app.include_router(domain.router)
    openapi.install(app)
    docs_page.install(app)
    return app


app = create_app(settings())
