"""A relay on loopback in front of the drill's broker. It can go silent, as a network does that drops all packets."""

from __future__ import annotations

import contextlib
import socket
from threading import Event, Thread
from typing import Final

BYTES: Final = 65_536
WAIT: Final = 5.0
"""Seconds for which a thread waits before it looks whether the relay is closed."""


class Relay:
    """Passes bytes on between clients and a server. While it is cut, nothing comes through; connections stay open."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passes, self._is_closed = Event(), False
        self._passes.set()
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, name="laneway-drill-relay", daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Pass nothing on until `heal`."""
        self._passes.clear()

    def heal(self) -> None:
        """Pass on again, also what was held back."""
        self._passes.set()

    def close(self) -> None:
        """Close everything."""
        self._is_closed = True
        self._passes.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._sockets.append(client)
        self._wait()
        with contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets.append(server)
            Thread(target=self._pass, args=(server, client), daemon=True).start()
            self._pass(client, server)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BYTES):
                self._wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _wait(self) -> None:
        while not self._passes.wait(WAIT) and not self._is_closed:
            continue
