"""The transports under test: sets a Celery app up for each, and reads from the server which messages it holds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import redis
from celery import Celery
from redis.sentinel import Sentinel

import laneway
from benchmarks.chaos.limited import LIMIT, MOST_RUNNING
from benchmarks.chaos.plan import PRIMARY, Plan
from laneway.engine import Durability, Engine, Flow, LimitUse, MessageState, NamedLimit
from laneway.engine.errors import EngineError

QUEUE = "chaos"
SEPARATOR = "\x06\x16"
"""kombu's separator between a queue's name and a priority."""


def configure(app: Celery, plan: Plan) -> None:
    """Set the app's broker and result backend."""
    app.conf.update(broker_url=plan.url(0), result_backend=plan.url(1))
    if plan.is_pair:
        app.conf.broker_transport_options = app.conf.result_backend_transport_options = {"master_name": PRIMARY}
    if plan.transport == "kombu":
        app.conf.broker_transport_options = {"visibility_timeout": plan.visibility}
    else:
        laneway.install(app, lease=plan.lease)


def set_limit(plan: Plan) -> None:
    """Set the limit that some of the tasks share."""
    if plan.transport == "laneway":
        engine = _engine(plan, socket_timeout=5)
        engine.set_named_limit(LIMIT, NamedLimit(max_running=MOST_RUNNING))
        engine.close()


def headers(plan: Plan, *, key: str | None, limited: bool) -> dict[str, Any]:
    """The message's headers: key, limit, and many deliveries, because the director kills workers and no task does."""
    if plan.transport == "kombu":
        return {}
    durability = Durability.REPLICA if plan.is_pair else Durability.MEMORY
    flow = Flow(limits=(LimitUse(LIMIT),)) if limited else None
    return laneway.message_options(key=key, max_deliveries=1000, durability=durability, flow=flow)


def left(plan: Plan) -> int:
    """The number of messages that the server holds, in any state. Raises RedisError or ServerLost."""
    if plan.transport == "laneway":
        engine = _engine(plan, socket_timeout=5)
        try:
            stats = engine.stats([QUEUE])[0]
        finally:
            engine.close()
        return stats.waiting + stats.leased + stats.dead
    with _client(plan, socket_timeout=5) as client:
        queues = [QUEUE, *(f"{QUEUE}{SEPARATOR}{step}" for step in (3, 6, 9))]
        return sum(_number(client.llen(name)) for name in queues) + _number(client.hlen("unacked"))


def leased_by(plan: Plan, pid: int) -> list[str]:
    """The ids of the tasks that a worker process holds, begun or not. Empty for stock kombu, which records none."""
    if plan.transport == "kombu":
        return []
    engine = _engine(plan, socket_timeout=2)
    try:
        ids = [one.stored.message.task_id for one in engine.peek(QUEUE, MessageState.LEASED, limit=500)]
        found = [engine.find(QUEUE, id) for id in ids]
    except EngineError:
        return []
    finally:
        engine.close()
    return [id for id, one in zip(ids, found, strict=True) if one and (one.owner or "").endswith(f":{pid}")]


def held(plan: Plan, task_ids: list[str]) -> dict[str, str]:
    """Task id → the keys of the broker's database that contain it. Such a task is stuck there, not gone."""
    found: dict[str, str] = {}
    with _client(plan, socket_timeout=10) as client:
        raw: Any = client
        names_found: Iterator[bytes] = raw.scan_iter(count=1000)
        contents = [(name, item) for name in names_found for item in _items(client, name)]
    for task_id in task_ids:
        forms = (task_id.encode(), uuid.UUID(task_id).bytes)
        names = {name.decode("utf-8", "replace") for name, item in contents if any(form in item for form in forms)}
        if names:
            found[task_id] = ", ".join(sorted(names))
    return found


def _engine(plan: Plan, *, socket_timeout: float) -> Engine:
    named: dict[str, Any] = {"master_name": PRIMARY} if plan.is_pair else {}
    return Engine.from_url(plan.url(0), socket_timeout=socket_timeout, **named)


def _client(plan: Plan, *, socket_timeout: float) -> redis.Redis:
    if not plan.is_pair:
        return redis.Redis(port=plan.port, socket_timeout=socket_timeout)
    sentinel: Any = Sentinel([("127.0.0.1", plan.port)])
    return sentinel.master_for(PRIMARY, socket_timeout=socket_timeout)


def _items(client: redis.Redis, name: bytes) -> Iterator[bytes]:
    raw: Any = client
    match client.type(name):
        case b"list":
            yield from raw.lrange(name, 0, -1)
        case b"hash":
            for field, value in raw.hgetall(name).items():
                yield field + value
        case b"zset":
            yield from raw.zrange(name, 0, -1)
        case b"set":
            yield from raw.smembers(name)
        case _:
            return


def _number(reply: Any) -> int:
    return int(reply)
