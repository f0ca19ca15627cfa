"""Checks that run before anything is started. Each problem is reported in one sentence."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings
from laneway.server.errors import FolderUnusable, PortRefused, PortTaken

REDIS_HINT = ", or set REDIS_URL to use the Valkey or Redis server that may be running there"

LAST_PORT = 65535


def check_ports(settings: Settings) -> None:
    """Check that every port that `up` needs is free.

    Raises PortTaken or PortRefused; ConfigError when two settings name the same port.
    """
    api, redis = settings.api, settings.redis
    needed = [(api.host, api.port, "API_PORT"), (api.flower_host, api.flower_port, "FLOWER_PORT")]
    if not redis.external:
        for _, port, setting in needed:
            if port == redis.port:
                raise ConfigError(f"{setting} and REDIS_PORT must differ: both are {port}.")
        needed.append((redis.host, redis.port, "REDIS_PORT"))
    for host, port, setting in needed:
        check_port(host, port, setting=setting)


def check_probe_ports(settings: Settings, ports: Iterable[int]) -> None:
    """Check that the ports at which `up` lets its processes answer probes are free, and those of nothing else.

    Raises PortTaken or PortRefused; ConfigError when another setting names one of them.
    """
    others = {settings.api.port: "API_PORT", settings.api.flower_port: "FLOWER_PORT"}
    if not settings.redis.external:
        others[settings.redis.port] = "REDIS_PORT"
    for port in ports:
        if port in others or port > LAST_PORT:
            reason = f"{others[port]} is {port}, too" if port in others else f"there is no port {port}"
            raise ConfigError(
                f"PROBE_PORT={settings.probes.port} is the first port of several, one for each worker and Beat, and "
                f"{reason}: set it to another one."
            )
        check_port(settings.probes.host, port, setting="PROBE_PORT")


def check_port(host: str, port: int, *, setting: str) -> None:
    """Check that a port is free to listen on. Raises PortTaken or PortRefused, which name the setting."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # The servers set this option, too: connections in TIME_WAIT do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except UnicodeError as error:
        raise PortRefused(host, port, setting, "this is not a host name") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, setting, REDIS_HINT if setting == "REDIS_PORT" else "") from error
        raise PortRefused(host, port, setting, error.strerror or type(error).__name__) from error


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def make_folder(folder: Path) -> Path:
    """Create a folder that only this user can read, unless it exists. Raises FolderUnusable if it is not writable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnusable(str(folder), error.strerror or type(error).__name__) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FolderUnusable(str(folder), "it cannot be written")
    return folder
