"""Servers of a test's own: with a socket file, with TLS, older ones, watched by Sentinels."""

# redis-py types its commands in part only.
# pyright: reportUnknownMemberType=false

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
    """A server on a free port, which it gives."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(binary or find_binary()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with process([*command, "--save", "", *options], folder / "log"):
        wait_for(lambda: _answers(port), seconds=10)
        yield port


@contextmanager
def process(command: Sequence[str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A process that is killed in the end."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)


@dataclass(frozen=True)
class WatchedPair:
    """The ports of two Sentinels and of the replica; `kill_master` makes a master of the replica."""

    sentinels: list[int]
    replica: int
    kill_master: Callable[[], None]


@contextmanager
def watched_pair(folder: Path) -> Generator[WatchedPair]:
    """A master, a replica, and Sentinels that call the master `main`; one of them is enough to fail over."""
    with ExitStack() as everything:
        replica = everything.enter_context(server(folder / "replica"))
        master_alone = everything.enter_context(ExitStack())
        master = master_alone.enter_context(server(folder / "master"))
        with redis.Redis(port=replica) as client:
            client.replicaof("127.0.0.1", str(master))
            wait_for(lambda: client.info("replication")["master_link_status"] == "up")
        ports = [free_port(), free_port()]
        for port in ports:
            file = folder / f"sentinel{port}.conf"
            file.write_text(SENTINEL.format(port=port, folder=folder, master=master))
            command = [str(find_binary()), str(file), "--sentinel"]
            everything.enter_context(process(command, folder / f"sentinel{port}.log"))
            wait_for(lambda port=port: _knows_replica(port))
        yield WatchedPair(ports, replica, master_alone.close)


@contextmanager
def tls_front(port: int, cert: str, key: str) -> Generator[int]:
    """TLS in front of a server that has none: a port on which connections are decrypted and passed on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while not over.is_set():
            with suppress(OSError):
                client, _ = listener.accept()
                threads.append(threading.Thread(target=_pass_on, args=(client, context, port, over)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for thread in threads:
            thread.join()


def redis_binary() -> Path | None:
    """Redis itself, if it is installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def _pass_on(plain: socket.socket, context: ssl.SSLContext, port: int, over: threading.Event) -> None:
    with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
        _relay(client, port, over)


def _relay(client: ssl.SSLSocket, port: int, over: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port)) as upstream:
        while not over.is_set():
            ready = [client] if client.pending() else select.select([client, upstream], [], [], 0.2)[0]
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                (upstream if source is client else client).sendall(data)


def _answers(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return bool(client.ping())


def _knows_replica(port: int) -> bool:
    with redis.Redis(port=port, decode_responses=True) as client:
        masters: Any = client.sentinel_masters()
        return int(masters["main"]["num-slaves"]) > 0
