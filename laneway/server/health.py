"""`python -m laneway.server.health PROCESS`: reports by exit code (0 or 1) whether a container's process is healthy.

It uses the probes of `laneway up`, and those of the process itself if it answers them (`PROBE_PORT`).
"""

from __future__ import annotations

import http.client
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from laneway.platform.application import application
from laneway.platform.clock import now
from laneway.platform.errors import ConfigError, PlatformError
from laneway.server.checks import reachable

if TYPE_CHECKING:
    from laneway.platform.settings import Settings
    from laneway.server.processes import ManagedProcess

RECENT = timedelta(seconds=60)
"""A worker is unhealthy when its last report is older than this."""

TIMEOUT = 10
"""Seconds to wait for an HTTP response."""


def main() -> None:
    """Check the process named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m laneway.server.health PROCESS")
    name = sys.argv[1]
    try:
        healthy = is_healthy(name, application().load_settings())
    except PlatformError as error:
        sys.exit(str(error))
    if not healthy:
        sys.exit(f"{name} is not healthy")


def is_healthy(name: str, settings: Settings) -> bool:
    """Whether a process is healthy now. Raises ConfigError for a process that the application does not have."""
    if name == "api":
        return _responds(settings.api.host, settings.api.port, "/health/ready")
    if name == "flower":
        return _responds(settings.api.flower_host, settings.api.flower_port, "/healthcheck")
    from laneway.server.processes import processes  # it imports the broker's library and the database's

    known = {process.name: process for process in processes(settings)}
    if name not in known:
        raise ConfigError(f"There is no process {name!r}; there are {', '.join(known)}.")
    if settings.probes.port is not None:  # workers and Beat; of a container, so each has this port
        return _responds(settings.probes.host, settings.probes.port, "/health/live")
    return _probe_passes(known[name])


def _responds(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(reachable(host), port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _probe_passes(process: ManagedProcess) -> bool:
    import asyncio

    async def probe() -> bool:
        return await process.ready(now() - RECENT)

    return asyncio.run(probe())


if __name__ == "__main__":
    main()
