"""Readiness probes: each checks a process from outside, as its users would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import httpx2
from celery.utils.nodenames import host_format
from sqlalchemy.exc import SQLAlchemyError

from laneway.platform.clock import now
from laneway.platform.db.queries import fleet_leases, schedules, workers
from laneway.platform.db.queries.fleet_leases import Holding
from laneway.platform.db.session import Database
from laneway.platform.errors import DatabaseUnavailable
from laneway.platform.settings import Settings
from laneway.server.checks import reachable
from laneway.server.valkey import embedded_host, server_pid

Probe = Callable[[datetime], Awaitable[bool]]
"""Takes the time at which the process was started; returns whether it is ready; never raises."""

STANDBY_AFTER = timedelta(seconds=12)
"""Our Beat takes a dead Beat's lease over within this time. If another one still holds it, our Beat is a standby."""


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


def beat_leads_or_waits(settings: Settings) -> Probe:
    """Ready when the lease has changed hands since the start, or another Beat has renewed it for a while."""
    first_seen: dict[datetime, Holding | None] = {}

    def holding() -> Holding | None:
        database = Database(settings.storage.url)
        try:
            with database.reading() as session:
                return fleet_leases.read(session, schedules.LEASE)
        except (DatabaseUnavailable, SQLAlchemyError):
            return None
        finally:
            database.close()

    async def probe(since: datetime) -> bool:
        found = await asyncio.to_thread(holding)
        first = first_seen.setdefault(since, found)
        if found is None:
            return False
        changed_hands = first is None or found.holder != first.holder
        return changed_hands or (found != first and now() - since > STANDBY_AFTER)

    return probe


def web_address(host: str, port: int) -> str:
    """The web address of a server that listens on `host`, as seen from this machine."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
