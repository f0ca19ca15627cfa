"""The API and the console of the current project: `uvicorn laneway.asgi:app`."""

from __future__ import annotations

import sys

from fastapi import FastAPI

from laneway.api.app import ROUTERS, make_api
from laneway.console.library import CONSOLE, LAST
from laneway.platform.application import application
from laneway.platform.errors import ConfigError


def create_app() -> FastAPI:
    """Make the API of the project's application: the library's routes and pages. Raises ConfigError."""
    found = application()
    platform = found.make_platform(found.load_settings())
    return make_api(platform, (*ROUTERS, *CONSOLE, LAST), title=found.name)


def _load_app() -> FastAPI:
    try:
        return create_app()
    except ConfigError as error:
        sys.exit(str(error))  # the user gets one readable text instead of a traceback


app = _load_app()
