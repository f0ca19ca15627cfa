"""Settings of the probes: where workers and Beat say how they are."""

from __future__ import annotations

from pydantic import Field, field_validator

from laneway.platform.settings.base import Group, Port

LEAST_CANARY_SECONDS = 10


class ProbeSettings(Group):
    """Where a worker and Beat answer HTTP probes, and how often a canary is sent through each queue."""

    host: str = Field("127.0.0.1", alias="PROBE_HOST")
    """The address at which workers and Beat answer probes. They answer everybody who reaches it."""
    port: Port | None = Field(None, alias="PROBE_PORT")
    """The port at which a worker or Beat answers `GET /health/live` and `GET /health/ready`. Each process of a machine
    needs a port of its own; `laneway up` gives its processes this one and the next ones. Default: there are no probes.
    """
    canary_seconds: int = Field(60, alias="CANARY_SECONDS", ge=0, le=3600)
    """Seconds between two canaries of a queue: small tasks whose latency is a metric, and which open an alert when they
    are late (`ALERT_CANARY_SECONDS`). 0: there are no canaries; otherwise at least 10.
    """

    @field_validator("canary_seconds")
    @classmethod
    def _not_too_often(cls, value: int) -> int:
        if 0 < value < LEAST_CANARY_SECONDS:
            raise ValueError(f"it must be at least {LEAST_CANARY_SECONDS}, or 0 for no canaries")
        return value
