"""Servers that a test starts itself: with a socket file, with TLS, of an older version, watched by Sentinels."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from laneway.server.valkey import find_binary
from tests.fixtures.valkey import free_port
from tests.laneway.worker.workers import wait_for

SENTINEL = """port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor main 127.0.0.1 {master} 1
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 3000
"""


@contextmanager
def server(folder: Path, *options: str, binary: Path | None = None) -> Generator[int]:
    """Run a server; yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(binary or find_binary()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with process([*command, "--save", "", *options], folder / "log"):
        wait_for(lambda: _replies_to_ping(port), seconds=10)
        yield port


@contextmanager
def process(command: Sequence[str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a process, and kill it in the end."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)


@dataclass(frozen=True)
class WatchedPair:
    """The ports of two Sentinels and of the replica. After `kill_master` the replica becomes the master."""

    sentinels: list[int]
    replica: int
    kill_master: Callable[[], None]


@contextmanager
def watched_pair(folder: Path) -> Generator[WatchedPair]:
    """Run a master, a replica, and Sentinels that call the master `main`. One Sentinel is enough to fail over."""
    with ExitStack() as stack:
        replica = stack.enter_context(server(folder / "replica"))
        master_stack = stack.enter_context(ExitStack())
        master = master_stack.enter_context(server(folder / "master"))
        with redis.Redis(port=replica) as client:
            client.replicaof("127.0.0.1", str(master))
            wait_for(lambda: client.info("replication")["master_link_status"] == "up")
        ports = [free_port(), free_port()]
        for port in ports:
            file = folder / f"sentinel{port}.conf"
            file.write_text(SENTINEL.format(port=port, folder=folder, master=master))
            command = [str(find_binary()), str(file), "--sentinel"]
            stack.enter_context(process(command, folder / f"sentinel{port}.log"))
            wait_for(lambda port=port: _knows_replica(port))
        yield WatchedPair(ports, replica, master_stack.close)


@contextmanager
def tls_front(port: int, cert: str, key: str) -> Generator[int]:
    """Put TLS in front of a server that has none; yields the port on which connections are decrypted and relayed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while not stopped.is_set():
            with suppress(OSError):
                client, _ = listener.accept()
                threads.append(threading.Thread(target=_relay_tls, args=(client, context, port, stopped)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()
        for thread in threads:
            thread.join()


def redis_binary() -> Path | None:
    """The binary of Redis itself; None when it is not installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def _relay_tls(plain: socket.socket, context: ssl.SSLContext, port: int, stopped: threading.Event) -> None:
    with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
        _relay(client, port, stopped)


def _relay(client: ssl.SSLSocket, port: int, stopped: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port)) as upstream:
        while not stopped.is_set():
            ready = [client] if client.pending() else select.select([client, upstream], [], [], 0.2)[0]
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                (upstream if source is client else client).sendall(data)


def _replies_to_ping(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return bool(client.ping())


def _knows_replica(port: int) -> bool:
    with redis.Redis(port=port, decode_responses=True) as client:
        masters: Any = client.sentinel_masters()
        return int(masters["main"]["num-slaves"]) > 0
