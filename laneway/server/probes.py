"""Readiness probes: each checks a process from outside, as its users would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import httpx2
from celery.utils.nodenames import host_format
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from laneway.platform.clock import now
from laneway.platform.db.queries import workers
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.settings import Settings
from laneway.server.checks import reachable
from laneway.server.valkey import embedded_host, server_pid

Probe = Callable[[datetime], Awaitable[bool]]
"""Takes the time at which the process was started; returns whether it is ready; never raises."""

BEAT_LOCK = "redbeat::lock"
"""RedBeat's lock. The Beat process that holds it is the one that schedules."""

STANDBY_AFTER = timedelta(seconds=12)
"""A dead Beat's lock expires after 10 s. If the lock is still held after this time, our Beat is a standby."""


def broker_answers(settings: Settings) -> Probe:
    """Ready when the embedded Valkey answers PING, which it does once its data is loaded."""

    async def probe(_since: datetime) -> bool:
        host, redis = embedded_host(settings), settings.redis
        return await asyncio.to_thread(server_pid, host, redis.port, password=redis.password) is not None

    return probe


def http_answers(host: str, port: int, path: str) -> Probe:
    """Ready when a GET of the path returns 200."""
    url = f"{web_address(host, port)}{path}"

    async def probe(_since: datetime) -> bool:
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
                return (await client.get(url)).status_code == 200
        except httpx2.HTTPError:
            return False

    return probe


def worker_reports(settings: Settings, nodename: str) -> Probe:
    """Ready when the worker has written to the table of workers since its start; `%h` in its name is this host."""
    name = host_format(nodename)

    def last_report() -> datetime | None:
        database = Database(settings.storage.url)
        try:
            with database.reading() as session:
                return workers.last_report(session, name)
        except (DatabaseUnavailable, SQLAlchemyError):
            return None
        finally:
            database.close()

    async def probe(since: datetime) -> bool:
        seen_at = await asyncio.to_thread(last_report)
        return seen_at is not None and seen_at >= since

    return probe


def beat_holds_lock(settings: Settings) -> Probe:
    """Ready when the lock has changed hands since the start, or was held so long that its holder must be alive."""
    first_tokens: dict[datetime, bytes | None] = {}

    def lock_token() -> bytes | None:
        client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            settings.redis.schedules_url, socket_timeout=2, retry=Retry(NoBackoff(), 0)
        )
        try:
            return client.get(BEAT_LOCK)  # pyright: ignore[reportReturnType]
        except RedisError:
            return None
        finally:
            client.close()

    async def probe(since: datetime) -> bool:
        token = await asyncio.to_thread(lock_token)
        first_token = first_tokens.setdefault(since, token)
        return token is not None and (token != first_token or now() - since > STANDBY_AFTER)

    return probe


def web_address(host: str, port: int) -> str:
    """The web address of a server that listens on `host`, as seen from this machine."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
