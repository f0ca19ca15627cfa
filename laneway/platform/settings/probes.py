"""Settings of the probes: where workers and Beat say how they are."""

from __future__ import annotations

from pydantic import Field

from laneway.platform.settings.base import Group, Port


class ProbeSettings(Group):
    """Where a worker and Beat answer HTTP probes."""

    host: str = Field("127.0.0.1", alias="PROBE_HOST")
    """The address at which workers and Beat answer probes. They answer everybody who reaches it."""
    port: Port | None = Field(None, alias="PROBE_PORT")
    """The port at which a worker or Beat answers `GET /health/live` and `GET /health/ready`. Each process of a machine
    needs a port of its own; `laneway up` gives its processes this one and the next ones. Default: there are no probes.
    """
