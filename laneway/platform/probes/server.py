"""A small HTTP server in a thread, which says whether its process lives and is ready.

It answers everybody, so it says nothing that is secret, whatever the `Host` of the request. It is bounded: few requests
at once, each short and within a few seconds. A forked child closes its copy of the socket: the port is free when the
process ends, whatever its children do. The threads do not hold up the end of the process.
"""

from __future__ import annotations

import json
import os
import socket
import weakref
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Thread
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from laneway.platform.errors import ConfigError

Problems = Callable[[], Sequence[str]]
"""Says what is wrong, in sentences; nothing: all is well."""

LIVE_NAMES: Final = frozenset({"live", "livez", "liveness", "alive", "health", "healthz", "healthcheck", "ping", ""})
"""Last parts of paths that ask whether the process lives."""
READY_NAMES: Final = frozenset({"ready", "readyz", "readiness"})
"""Last parts of paths that ask whether it is ready."""
REQUEST_SECONDS: Final = 3.0
"""Seconds in which a request must arrive."""
MAX_HEAD: Final = 8192
"""Bytes of a request."""
HEAD_ENDS: Final = (b"\r\n\r\n", b"\n\n")
"""A request without a body ends so. Another one is not answered."""
MAX_REQUESTS: Final = 8
"""Requests that are answered at once; others are closed."""


class ProbeServer(ThreadingTCPServer):
    """Listens for probes. Raises ConfigError, which names the settings, if it cannot."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, *, live: Problems, ready: Problems) -> None:
        self.live, self.ready = live, ready
        self._room = BoundedSemaphore(MAX_REQUESTS)
        try:
            self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__((str(address[0]), port), _ProbeHandler)
        except OSError as error:
            raise ConfigError(
                f"Probes cannot be answered at PROBE_HOST={host}, PROBE_PORT={port}: {error.strerror or error}. Each "
                "process needs a free port of its own."
            ) from error
        _servers.add(self)

    def start(self) -> None:
        """Answer from now on, in a thread."""
        Thread(target=self.serve_forever, name="laneway-probes", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a request in a thread of its own, if there is room."""
        if not self._room.acquire(blocking=False):
            return self.shutdown_request(request)
        try:
            return super().process_request(request, client_address)
        except BaseException:  # the system gives no thread
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request, and make room for the next one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that sends something else or goes away."""


class _ProbeHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ProbeServer  # pyright: ignore[reportIncompatibleVariableOverride]
    error_message_format = "%(message)s\n"
    error_content_type = "text/plain"

    def handle(self) -> None:
        head = self._read_head()
        if head.endswith(HEAD_ENDS):
            self.rfile = BytesIO(head)
            self.handle_one_request()

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.rstrip("/").rpartition("/")[2]
        if name in LIVE_NAMES:
            self._answer("live", self.server.live())
        elif name in READY_NAMES:
            self._answer("ready", self.server.ready())
        else:
            self._send(HTTPStatus.NOT_FOUND, {"detail": "Ask for /health/live or /health/ready."})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes ask every few seconds."""

    def version_string(self) -> str:
        return "laneway"

    def _read_head(self) -> bytes:
        head, ends = b"", monotonic() + REQUEST_SECONDS
        while not head.endswith(HEAD_ENDS) and len(head) < MAX_HEAD:
            self.connection.settimeout(max(0.01, ends - monotonic()))
            more = self.connection.recv(MAX_HEAD - len(head))
            if not more:
                break
            head += more
        self.connection.settimeout(REQUEST_SECONDS)
        return head

    def _answer(self, word: str, problems: Sequence[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        self._send(status, {"status": f"not {word}" if problems else word, "problems": list(problems)})

    def _send(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_servers: weakref.WeakSet[ProbeServer] = weakref.WeakSet()


def _close_copies() -> None:
    """Close the sockets that a forked child has inherited."""
    for server in tuple(_servers):
        server.socket.close()


os.register_at_fork(after_in_child=_close_copies)
