"""uvicorn's HTTP protocol with limits, so that no client can occupy the API by sending slowly, or nothing at all.

    uvicorn laneway.asgi:app --http laneway.api.limited_protocol:LimitedProtocol

- The head of a request must arrive within 10 s, and so must the body; a body gets a further second for each 64 KiB.
- A head has at most 64 KiB.
- A client that takes nothing of a response for 30 s is disconnected.
- The connections of a client, and of all clients, are limited (`connections.py`).
- There are no WebSockets.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from laneway.api.connections import Connections, most_connections
from laneway.platform.settings.connections import ConnectionSettings

MAX_HEAD: Final = 65_536
"""Bytes of a request's line and headers."""
BODY_RATE: Final = 65_536
"""Bytes of a body for which the client gets a further second."""
STUCK_SECONDS: Final = 30.0
"""Seconds after which a client that takes nothing of its response is disconnected."""

_servers: WeakKeyDictionary[ServerState, tuple[ConnectionSettings, Connections]] = WeakKeyDictionary()


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.ws_protocol_class = None
        self._settings, self._connections = _of_server(self.server_state)
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._is_counted = False
        self._head_bytes: int | None = 0
        """Bytes of an incomplete head; None: no head is expected now."""
        self._body_bytes, self._body_since = 0, 0.0
        self._refusal: HTTPStatus | None = None

    @property
    def address(self) -> str:
        """The IP address of the client; empty on a Unix socket."""
        return self.client[0] if self.client else ""

    def drop(self) -> None:
        """Close the connection now, to make room for another."""
        self._forget()
        self.transport.abort()

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._is_counted = self._connections.add(self)
        if not self._is_counted:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        return self._start_timer(self._settings.request_seconds, self._end_of_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_bytes is None and self._body_since == 0:  # the first bytes of a further request
            self._head_bytes = 0
            self._connections.wait(self)
            self._start_timer(self._settings.request_seconds, self._end_of_head)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(STUCK_SECONDS, self.drop)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        super().resume_writing()

    # --- callbacks of the parser

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError("the head of the request is too large")
        self._head_bytes, self._body_bytes, self._body_since = None, 0, monotonic()
        self._connections.work(self)
        super().on_headers_complete()
        self._start_timer(self._settings.request_seconds, self._end_of_body)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_since = 0
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed, or whose head was refused."""
        if self._refusal is not None:
            return self._refuse(self._refusal)
        return super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a client could fill the log."""

    # --- timers

    def _end_of_head(self) -> None:
        if self._head_bytes:
            return self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        return self.transport.close()  # it has sent nothing: a browser that keeps a connection ready

    def _end_of_body(self) -> None:
        """Close if the body is late. While the application does not read, the time does not count."""
        if self.flow.read_paused:
            self._body_since += self._settings.request_seconds
        left = self._body_since + self._settings.request_seconds + self._body_bytes / BODY_RATE - monotonic()
        if left > 0:
            return self._start_timer(left, self._end_of_body)
        if self.cycle.response_started:
            return self.transport.close()
        return self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _start_timer(self, seconds: float, call: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with a status and no content, and close."""
        self._stop_timer()
        wait = "retry-after: 5\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\n{wait}connection: close\r\n\r\n"
        self.transport.write(head.encode("ascii"))
        self.transport.close()

    def _forget(self) -> None:
        self._stop_timer()
        if self._stuck is not None:
            self._stuck.cancel()
        if self._is_counted:
            self._is_counted = False
            self._connections.remove(self)


def _of_server(state: ServerState) -> tuple[ConnectionSettings, Connections]:
    """The limits and the connections of a server."""
    if state not in _servers:
        settings = ConnectionSettings()  # pyright: ignore[reportCallIssue]
        most = most_connections(settings.max_connections)
        _servers[state] = settings, Connections(most=most, most_per_client=min(settings.max_per_client, most))
    return _servers[state]
