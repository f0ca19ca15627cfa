"""The API of an application, served on a free loopback port by a thread of this process."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Final

import uvicorn

START_SECONDS: Final = 10
STOP_SECONDS: Final = 5
POLL_SECONDS: Final = 0.01


class ApiServer:
    """Serves an ASGI application. Its lifespan is not run: a test has no relay that works behind its back."""

    def __init__(self, app: Any) -> None:
        """Start, and wait until it listens. Raises RuntimeError."""
        self.app = app
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="api", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("The API of the application did not start.")
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        self._socket.close()
