"""How each part shows that it is ready: asked from outside, the way its users would notice."""

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
from laneway.platform.db.models import Worker
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.settings import Settings
from laneway.server.checks import reachable
from laneway.server.valkey import embedded_host, server_at

Probe = Callable[[datetime], Awaitable[bool]]
"""Asked with the time at which the part was started; answers whether it is ready, and never raises."""

BEAT_LOCK = "redbeat::lock"
"""RedBeat's lock: its holder is the one that schedules."""

STANDBY_AFTER = timedelta(seconds=12)
"""A lock of a beat that died is gone after 10 s; an older one has a live holder, and we are its stand-by."""


def broker_answers(settings: Settings) -> Probe:
    """The embedded Valkey answers PING, so its data is loaded."""

    async def probe(_since: datetime) -> bool:
        return await asyncio.to_thread(server_at, embedded_host(settings), settings.redis.port) is not None

    return probe


def http_answers(host: str, port: int, path: str) -> Probe:
    """A GET of the path is answered with 200."""
    url = f"{address(host, port)}{path}"

    async def probe(_since: datetime) -> bool:
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
                return (await client.get(url)).status_code == 200
        except httpx2.HTTPError:
            return False

    return probe


def worker_reports(settings: Settings, nodename: str) -> Probe:
    """The worker has written to the table of workers since it was started; `%h` in its name is this host."""
    name = host_format(nodename)

    def seen() -> datetime | None:
        database = Database(settings.storage.url)
        try:
            with database.reading() as session:
                row = session.get(Worker, name)
                return row.seen_at if row else None
        except (DatabaseUnavailable, SQLAlchemyError):
            return None
        finally:
            database.close()

    async def probe(since: datetime) -> bool:
        seen_at = await asyncio.to_thread(seen)
        return seen_at is not None and seen_at >= since

    return probe


def beat_holds_lock(settings: Settings) -> Probe:
    """A beat took the lock after the start, or an older holder kept it for so long that it must be alive."""
    first: dict[datetime, bytes | None] = {}

    def holder() -> bytes | None:
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
        token = await asyncio.to_thread(holder)
        before = first.setdefault(since, token)
        return token is not None and (token != before or now() - since > STANDBY_AFTER)

    return probe


def address(host: str, port: int) -> str:
    """The web address of a server that listens there, as seen from this machine."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
