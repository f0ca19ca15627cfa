"""`python -m laneway.server.health PART`: is this container's part well? The probes of `up`; exit code 0 or 1.

It runs again and again in every container, so it imports only what the part's probe needs.
"""

from __future__ import annotations

import asyncio
import http.client
import sys
from datetime import timedelta

from laneway.platform.application import application
from laneway.platform.clock import now
from laneway.platform.errors import PlatformError
from laneway.platform.settings import Settings
from laneway.server.checks import reachable

RECENT = timedelta(seconds=60)
"""A worker that has not reported for so long is not well."""

TIMEOUT = 10
"""Seconds for a page to come."""

PARTS = ("worker", "bulk", "beat", "api", "flower")


def main() -> None:
    """Ask the part named on the command line."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in PARTS:
        sys.exit("usage: python -m laneway.server.health " + "|".join(PARTS))
    try:
        settings = application().load_settings()
    except PlatformError as error:
        sys.exit(str(error))
    if not well(name, settings):
        sys.exit(f"{name} is not well")


def well(name: str, settings: Settings) -> bool:
    """Whether a part works now."""
    if name == "api":
        return _answers(settings.api.host, settings.api.port, "/health/ready")
    if name == "flower":
        return _answers(settings.api.flower_host, settings.api.flower_port, "/healthcheck")
    return _probed(name, settings)


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(reachable(host), port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _probed(name: str, settings: Settings) -> bool:
    from laneway.server.processes import parts

    part = next(part for part in parts(settings) if part.name == name)

    async def ask() -> bool:
        return await part.ready(now() - RECENT)

    return asyncio.run(ask())


if __name__ == "__main__":
    main()
