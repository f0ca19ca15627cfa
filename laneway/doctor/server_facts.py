"""The facts about a Redis or Valkey server. What its login may not see is None."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from redis.exceptions import ResponseError

from laneway.engine.connection import Command, RawConnection
from laneway.engine.engine import Engine
from laneway.engine.errors import EngineError, LoginRefused, ServerLost
from laneway.engine.url import make_pool

PINGS: Final = 7
SLOW_SECONDS: Final = 3600
"""Slow commands of the last hour are shown."""
SLOW_ENTRIES: Final = 32
LOGIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowCommand:
    """A command that held the server: its name, and its milliseconds."""

    command: str
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server. `address`: without a login. `clock_offset`: seconds by which its clock is ahead of this machine's."""

    address: str
    is_local: bool
    """Whether it is on this machine, so that nothing crosses a network."""
    uses_tls: bool
    is_open: bool | None = None
    """Whether it takes commands without a login."""
    product: str | None = None
    version: str | None = None
    role: str | None = None
    is_cluster: bool | None = None
    eviction: str | None = None
    evicted_keys: int | None = None
    append_only: bool | None = None
    append_fsync: str | None = None
    append_write: str | None = None
    """`ok`, or `err`: the last write to the append-only file failed."""
    append_rewrite: str | None = None
    delayed_fsyncs: int | None = None
    snapshots: str | None = None
    """The setting `save`; empty: no snapshots."""
    last_snapshot: str | None = None
    uptime_seconds: int | None = None
    used_memory: int | None = None
    max_memory: int | None = None
    system_memory: int | None = None
    clients: int | None = None
    max_clients: int | None = None
    rejected_clients: int | None = None
    latency_ms: float | None = None
    clock_offset: float | None = None
    slow: tuple[SlowCommand, ...] | None = None
    denied: tuple[str, ...] | None = None
    """The commands that the engine needs and this login may not use."""
    refuses_writes: str = ""
    """Why it takes no writes now; empty: it does."""


def collect_server(engine: Engine, url: str) -> ServerFacts:
    """Ask a server. Raises EngineError when it cannot be reached or refuses the login."""
    return engine.runner.on_connection(lambda connection: _collect(connection, engine, url))


def _collect(connection: RawConnection, engine: Engine, url: str) -> ServerFacts:
    latency, offset = _clock(connection)
    info = _info(connection)
    parts = urlsplit(url.partition(";")[0])
    host = parts.hostname or ""
    denied, refuses = _denied(engine)
    unix = parts.scheme in ("unix", "socket", "redis+socket")
    return ServerFacts(
        address=parts.path if unix else f"{host or 'localhost'}:{parts.port or 6379}",
        is_local=unix or host in ("", "localhost", "::1") or host.startswith("127."),
        uses_tls=parts.scheme == "rediss",
        is_open=_is_open(engine),
        product="Valkey" if "valkey_version" in info else "Redis" if info else None,
        version=info.get("valkey_version") or info.get("redis_version"),
        role=info.get("role"),
        is_cluster=_flag(info, "cluster_enabled"),
        eviction=info.get("maxmemory_policy"),
        evicted_keys=_number(info, "evicted_keys"),
        append_only=_flag(info, "aof_enabled"),
        append_fsync=_setting(connection, "appendfsync"),
        append_write=info.get("aof_last_write_status"),
        append_rewrite=info.get("aof_last_bgrewrite_status"),
        delayed_fsyncs=_number(info, "aof_delayed_fsync"),
        snapshots=_setting(connection, "save"),
        last_snapshot=info.get("rdb_last_bgsave_status"),
        uptime_seconds=_number(info, "uptime_in_seconds"),
        used_memory=_number(info, "used_memory"),
        max_memory=_number(info, "maxmemory"),
        system_memory=_number(info, "total_system_memory"),
        clients=_number(info, "connected_clients"),
        max_clients=_number(info, "maxclients"),
        rejected_clients=_number(info, "rejected_connections"),
        latency_ms=latency,
        clock_offset=offset,
        slow=_slow(connection),
        denied=denied,
        refuses_writes=refuses,
    )


def _clock(connection: RawConnection) -> tuple[float, float]:
    """The milliseconds of the fastest round trip, and the offset of the server's clock by it.

    This program does other things meanwhile: the fastest one says most of the server and of the network.
    """
    trips: list[tuple[float, float]] = []
    for _ in range(PINGS):
        began, at = time.perf_counter(), time.time()
        seconds, micros = connection.call("TIME")
        trip = time.perf_counter() - began
        trips.append((trip, int(seconds) + int(micros) / 1e6 - at - trip / 2))
    trips.sort()
    return 1000 * trips[0][0], trips[0][1]


def _info(connection: RawConnection) -> dict[str, str]:
    try:
        text: bytes = connection.call("INFO", "everything")
    except ResponseError:
        return {}
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value.strip() for name, separator, value in pairs if separator}


def _number(info: Mapping[str, str], name: str) -> int | None:
    text = info.get(name, "")
    return int(text) if text.isdigit() else None


def _flag(info: Mapping[str, str], name: str) -> bool | None:
    return None if name not in info else info[name] == "1"


def _setting(connection: RawConnection, name: str) -> str | None:
    try:
        found: Any = connection.call("CONFIG", "GET", name)
    except ResponseError:
        return None
    return found[1].decode(errors="replace") if len(found) > 1 else None


def _slow(connection: RawConnection) -> tuple[SlowCommand, ...] | None:
    """The slow commands of the last hour, without their arguments: these may be payloads."""
    try:
        entries: Any = connection.call("SLOWLOG", "GET", SLOW_ENTRIES)
        now = int(connection.call("TIME")[0])
    except ResponseError:
        return None
    return tuple(
        SlowCommand(command=words[0].decode(errors="replace").upper()[:32], ms=micros / 1000)
        for _, at, micros, words, *_ in entries
        if now - at <= SLOW_SECONDS and words
    )


def _denied(engine: Engine) -> tuple[tuple[str, ...], str]:
    """The commands that the engine needs and that this login may not use; and why the server takes no writes, or "".

    The commands change nothing. They have a connection of their own, because a refusal closes it.
    """
    key = engine.keys.key("check", "limits")
    probes: tuple[Command, ...] = (
        ("HGET", key, "doctor"),
        ("EVAL", "return redis.call('EXISTS', KEYS[1])", 1, key),
        ("SCRIPT", "EXISTS", "0" * 40),
        ("PUBLISH", key, ""),
        ("INFO", "server"),
        ("HDEL", key, ""),
    )
    refused: list[str] = []
    connection = RawConnection(engine.runner.pool)
    try:
        for command in probes:
            try:
                connection.call(*command)
            except ResponseError as error:
                if "NOPERM" in str(error) or "no permissions" in str(error).lower():
                    refused.append(str(command[0]))
    except ServerLost as error:
        return tuple(refused), str(error)
    finally:
        connection.close()
    return tuple(refused), ""


def _is_open(engine: Engine) -> bool | None:
    """Whether the server takes commands without a login; None if that could not be tried."""
    settings = dict[str, Any](engine.runner.pool.connection_kwargs)
    if not {"username", "password"} & settings.keys() and settings.get("credential_provider") is None:
        return True  # this process has none, and the server took its commands
    without = {name: value for name, value in settings.items() if name not in ("username", "password")}
    pool = make_pool("redis://localhost")
    pool.connection_class = engine.runner.pool.connection_class
    pool.connection_kwargs = without | {"credential_provider": None, "socket_timeout": LOGIN_SECONDS}
    try:
        connection = RawConnection(pool)
    except LoginRefused:
        return False
    except EngineError:
        return None
    try:
        connection.call("PING")
    except ResponseError:
        return False
    except EngineError as error:
        return False if isinstance(error, LoginRefused) else None
    finally:
        connection.close()
    return True
