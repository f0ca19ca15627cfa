"""Settings of the API's connections: how many there may be, and how long a request may take to arrive."""

from __future__ import annotations

from pydantic import Field

from laneway.platform.settings.base import Group


class ConnectionSettings(Group):
    """Limits of one process of the API. A client is an IP address; behind a proxy, that is the address of the proxy."""

    max_connections: int = Field(1000, alias="API_MAX_CONNECTIONS", ge=16, le=100_000)
    """The most open connections. It is lower where the process may not open so many files."""
    max_per_client: int = Field(200, alias="API_MAX_CONNECTIONS_PER_CLIENT", ge=4, le=100_000)
    """The most open connections of one client."""
    request_seconds: float = Field(10, alias="API_REQUEST_TIMEOUT_SECONDS", gt=0, le=300)
    """Seconds in which the head of a request must arrive, and seconds in which its body must. A body gets a further
    second for each 64 KiB.
    """
    max_waiting: int = Field(200, alias="API_MAX_STREAMS", ge=1, le=10_000)
    """The most event streams and requests that wait for the end of a task. Above it they are answered 429."""
    max_waiting_per_client: int = Field(50, alias="API_MAX_STREAMS_PER_CLIENT", ge=1, le=10_000)
    """The most of these of one client."""
