"""The API of an application: routers, one form of error, limits, and what happens at start and stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType
from typing import Any, Final

from fastapi import FastAPI

from laneway.api import docs_page, errors, openapi
from laneway.api.access import Authentication
from laneway.api.command_socket import answering_commands
from laneway.api.direct_submit import DirectSubmit
from laneway.api.host_check import HostCheck
from laneway.api.lifespan import serving
from laneway.api.middleware import BodyLimit, HeadAsGet, RequestContext
from laneway.api.request_spans import request_telemetry
from laneway.api.routers import (
    alerts,
    audit_log,
    batches,
    bulk_tasks,
    dead_letters,
    destinations,
    events,
    health,
    limits,
    login,
    maintenance,
    metrics,
    outbound_webhooks,
    queues,
    schedules,
    sessions,
    tasks,
    tokens,
    workflows,
)
from laneway.api.waiting import WaitingRequests
from laneway.platform.db.migrate import upgrade
from laneway.platform.logging import configure_logging
from laneway.platform.platform import Platform

ROUTERS: Final = (
    *(tasks, batches, bulk_tasks, events, queues, limits, maintenance, schedules, dead_letters, workflows),
    *(outbound_webhooks, destinations, alerts, audit_log, health, metrics, login, sessions, tokens),
)
"""The library's modules with routers, in the order of the OpenAPI document."""


def make_api(
    platform: Platform,
    routers: Sequence[ModuleType],
    *,
    title: str,
    description: str = "",
    version: str = "0.1.0",
    at_start: Callable[[Any], object] = lambda _platform: None,
) -> FastAPI:
    """Make the ASGI application of a platform. `at_start` gets the platform before the first request.

    At its start it upgrades the tables. It raises ForeignBroker then for the broker of another installation.
    """

    app = FastAPI(
        title=title,
        version=version,
        description=description,
        lifespan=_lifespan(at_start),
        redirect_slashes=False,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,  # FastAPI's page loads its script from elsewhere, and is blank without a network
        telemetry=request_telemetry(platform.settings.tracing),
    )
    app.state.services = platform
    app.state.waiting = WaitingRequests(platform.settings.connections)
    errors.install(app)
    app.add_middleware(DirectSubmit, api=app)
    app.add_middleware(Authentication, api=app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, limit=platform.settings.api.max_body_bytes)
    app.add_middleware(HostCheck, api=app)
    app.add_middleware(RequestContext)
    app.state.navigation = [entry for module in routers for entry in getattr(module, "navigation", ())]
    for module in routers:
        app.include_router(module.router)
    openapi.install(app)
    docs_page.install(app)
    return app


def _lifespan(at_start: Callable[[Any], object]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What happens before the first request and after the last one."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        platform: Platform = app.state.services
        configure_logging(platform.settings.operation)
        upgrade(platform.settings.storage.url, platform.migrations)
        platform.installation.check_broker()
        _ = platform.workflow_definitions  # a broken one is logged now, not when somebody needs it
        at_start(platform)
        async with serving(platform), answering_commands(app):
            yield

    return lifespan
