"""Where the platform is, and how to ask it: what both clients share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

from laneway.client.answers import checked_json
from laneway.client.calls import Call
from laneway.client.errors import Unreachable

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 5.0
STREAM_SILENCE_SECONDS = 60.0
"""An event stream without any sign of life for so long is connected again. The API sends one every 15 s."""
LONG_SECONDS = 20.0
"""So much longer a request that may take minutes may send nothing. The platform sends a space every 5 s."""
RECONNECT_SECONDS = 1.0
"""The pause before a stream is connected again that ended because the API stops."""


@dataclass(frozen=True)
class Connection:
    """The address of a platform, its token, and how long to wait."""

    url: str
    token: str | None = field(repr=False)
    timeout: float
    """Seconds until one request must be answered."""
    retry_seconds: float
    """For how long a request is repeated."""

    def options(self) -> dict[str, Any]:
        """The options of httpx2's client."""
        headers = {"Accept": "application/json", "User-Agent": "laneway-client"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        timeout = httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECT_SECONDS))
        return {"base_url": self.url, "headers": headers, "timeout": timeout}


def connection(url: str | None, token: str | None, timeout: float, retry_seconds: float) -> Connection:
    """Return the connection; what is not given is that of LANEWAY_URL and LANEWAY_TOKEN. Raises ValueError."""
    address = httpx2.URL(url or os.environ.get("LANEWAY_URL") or DEFAULT_URL)
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"the URL of a platform is http(s)://host[:port], not {str(address)!r}")
    token = token or os.environ.get("LANEWAY_TOKEN") or None
    return Connection(str(address).rstrip("/"), token, timeout, retry_seconds)


def request_options(call: Call[Any], timeout: float) -> dict[str, Any]:
    """The arguments of httpx2's `request`."""
    options: dict[str, Any] = {"json": call.body, "params": call.params}
    if waiting := call.waiting + (LONG_SECONDS if call.is_long else 0):
        options["timeout"] = httpx2.Timeout(timeout + waiting, connect=min(timeout, CONNECT_SECONDS))
    return options


def read_answer(call: Call[T], response: httpx2.Response) -> T:
    """Return the answer of a call. Raises a ClientError."""
    return call.read(checked_json(response.status_code, response.content, response.headers.get("Retry-After")))


def unreachable(connection: Connection, error: httpx2.HTTPError) -> Unreachable:
    """Return the error of a request without an answer."""
    what = "did not answer in time" if isinstance(error, httpx2.TimeoutException) else "cannot be reached"
    return Unreachable(f"The platform at {connection.url} {what}: {error or type(error).__name__}")
