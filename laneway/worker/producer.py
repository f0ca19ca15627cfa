"""A faster path from `apply_async` to the engine: `Celery(..., amqp="laneway.worker.producer:AMQP")`.

Most of the cost of a submission is preparation by Celery and kombu that a plain task message does not need: copies of
queues and exchanges to look up whether they are declared, a retry policy, a delivery tag. This path builds the same
message and puts it through the same channel. Every special submission takes Celery's own path: other transports and
producers, exchanges and routing keys, other serializers than JSON, compression, receivers of `before_task_publish`,
options that are not listed here. A submission that fails because the broker is away takes Celery's path too, because
that one retries.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import signals
from celery.app import amqp, routes
from celery.utils.nodenames import anon_nodename
from kombu import pools, serialization
from kombu.common import maybe_declare
from kombu.entity import Queue, maybe_delivery_mode
from kombu.messaging import Producer

from laneway._masking import masked_repr
from laneway.engine.errors import ServerLost
from laneway.transport.channel import Channel
from laneway.transport.transport import Transport

_PLAIN = frozenset({"queue", "headers", "priority", "serializer", "expiration", "retry", "retry_policy"})
_JSON = (None, "json")
_UNSET = frozenset({"routing_key", "exchange", "delivery_mode", "compression", "immediate", "mandatory"})
"""Options that Celery passes as None when a task has some option of its own."""
_EMPTY_CALL: tuple[Any, ...] = ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
_dumps = serialization.dumps
_EMPTY_BODY = _dumps(_EMPTY_CALL, serializer="json")
"""A call without arguments, already serialized."""
_FREQUENT_SETTINGS = ("task_always_eager", "task_send_sent_event", "broker_pool_acquire_timeout")
SMALL_POOL = 2
"""A pool of at most this many connections keeps no producer ready, because others may need its connection."""


class AMQP(amqp.AMQP):
    """The class of `app.amqp`."""

    def as_task_v2(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Build Celery's message. Empty arguments get a constant description, which saves a costly call."""
        if not args:
            options.setdefault("argsrepr", "()")
        if not kwargs:
            options.setdefault("kwargsrepr", "{}")
        options["origin"] = options.get("origin") or _origin()
        message = super().as_task_v2(task_id, name, args, kwargs, *rest, **options)
        if message.sent_event:  # only with `task_send_sent_event`
            message.sent_event.update({key: masked_repr(str(message.sent_event[key])) for key in ("args", "kwargs")})
        return message

    def Router(self, queues: Any = None, create_missing: Any = None) -> Any:
        """Make Celery's router, with a faster path for a task without a route."""
        router = super().Router(queues, create_missing)
        return _Router(router.routes, router.queues, router.create_missing, app=router.app)

    def _create_task_sender(self) -> Callable[..., Any]:
        conf = self.app.conf
        _copy_to_front(conf)
        celery_send: Callable[..., Any] = super()._create_task_sender()
        if conf.task_serializer != "json" or conf.task_compression:
            return celery_send
        return _Sender(self, celery_send).send

    @property
    def producer_pool(self) -> Any:
        """Celery's pool of producers; on the engine's transport, a pool that keeps a producer ready."""
        if self._producer_pool is None:
            connection = self.app.connection_for_write()
            if not isinstance(connection.transport, Transport):
                return super().producer_pool
            self._producer_pool = _producers[connection]
            self._producer_pool.limit = self.app.pool.limit
        return self._producer_pool


def _copy_to_front(conf: Any) -> None:
    """Copy settings that each submission reads to the front. Celery finds defaults only after eight failed look-ups."""
    for name in _FREQUENT_SETTINGS:
        if name not in conf.changes:
            conf[name] = conf[name]


_origins: dict[int, str] = {}


def _origin() -> str:
    """The name of this process as the sender of a task."""
    pid = os.getpid()
    if pid not in _origins:
        _origins.clear()
        _origins[pid] = anon_nodename()
    return _origins[pid]


class _Router(routes.Router):
    def route(self, options: Any, name: str, args: Any = (), kwargs: Any = None, task_type: Any = None) -> Any:
        """Return the options with the queue as an object, and without those that are None."""
        app: Any = self.app
        queue: Any = None
        if not self.routes and options.get("queue") is None:
            with suppress(KeyError):
                queue = self.queues[app.conf.task_default_queue]
        if queue is None:
            return super().route(options, name, args, kwargs, task_type)
        routed = {key: value for key, value in options.items() if value is not None}
        routed["queue"] = queue
        return routed


class _ProducerPool(pools.ProducerPool):
    """Keeps the last producer on its connection: detaching and attaching it is most of the cost of `acquire`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ready: deque[Any] = deque()
        super().__init__(*args, **kwargs)

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """Return the producer that is ready, if its connection is alive, or another one."""
        while self._ready and not self._closed:
            try:
                producer = self._ready.pop()
            except IndexError:  # another thread took it
                break
            if _is_alive(producer):
                return producer
            super().release(producer)
        return super().acquire(block=block, timeout=timeout)

    def release(self, resource: Any) -> None:
        """Keep the producer ready, unless a thread may be waiting for it or for its connection."""
        nobody_waits = _has_spare(self) and _has_spare(self.connections)
        if nobody_waits and not self._ready and not self._closed and _is_alive(resource):
            self._ready.append(resource)
        else:
            super().release(resource)


class _Producers(pools.Producers):
    def create(self, connection: Any, limit: Any) -> _ProducerPool:
        return _ProducerPool(pools.connections[connection], limit=limit)


_producers = pools.register_group(_Producers(limit=pools.use_global_limit))


def _has_spare(pool: Any) -> bool:
    return bool(pool.limit) and len(pool._dirty) < pool.limit and pool.limit > SMALL_POOL


def _is_alive(producer: Any) -> bool:
    channel = producer._channel
    return type(channel) is Channel and channel.connection is not None and producer.__connection__.connected


class _Sender:
    """Sends plain task messages by the faster path, all others by Celery's own."""

    def __init__(self, app_amqp: AMQP, celery_send: Callable[..., Any]) -> None:
        conf = app_amqp.app.conf
        self._amqp, self._celery_send = app_amqp, celery_send
        self._delivery_mode: Any = conf.task_default_delivery_mode
        self._retry = bool(conf.task_publish_retry)
        self._retry_policy: dict[str, Any] = dict(conf.task_publish_retry_policy)

    def send(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
        """Send a message, with the arguments of `AMQP.send_task_message`."""
        queue: Any = options.get("queue")
        if not (_is_plain(producer, options) and _is_direct(queue)):
            return self._celery_send(producer, name, message, **options)
        try:
            channel = producer.channel
            if type(channel) is not Channel or channel.connection is None:
                return self._celery_send(producer, name, message, **options)
            self._put(channel, queue, message, options)
        except ServerLost:
            if not options.get("retry", self._retry):
                raise
            return self._celery_send(producer, name, message, **options)
        self._announce(producer, name, message, queue.name, options)
        return None

    def _put(self, channel: Channel, queue: Any, message: Any, options: dict[str, Any]) -> None:
        if options.get("headers"):
            message.headers.update(options["headers"])
        content_type, encoding, body = (
            _EMPTY_BODY if message.body == _EMPTY_CALL else _dumps(message.body, serializer="json")
        )
        mode = maybe_delivery_mode(queue.exchange.delivery_mode or self._delivery_mode)
        properties: dict[str, Any] = {
            **message.properties,
            "delivery_mode": mode,
            "priority": options.get("priority") or 0,
            "delivery_info": {"exchange": "", "routing_key": queue.name},
        }
        if options.get("expiration") is not None:
            properties["expiration"] = str(int(options["expiration"] * 1000))
        if not queue.can_cache_declaration or hash(queue) not in channel.connection.client.declared_entities:
            maybe_declare(queue, channel)
        channel._put(  # pyright: ignore[reportPrivateUsage] - kombu's own name for it
            queue.name,
            {
                "body": body,
                "content-type": content_type,
                "content-encoding": encoding,
                "headers": message.headers,
                "properties": properties,
            },
        )

    def _announce(self, producer: Any, name: str, message: Any, queue: str, options: dict[str, Any]) -> None:
        """Send the signal `after_task_publish` and, if the message asks for it, the event `task-sent`."""
        delivery_info: dict[str, Any] = {"exchange": "", "routing_key": queue}
        if signals.after_task_publish.receivers:
            signals.after_task_publish.send(sender=name, body=message.body, headers=message.headers, **delivery_info)
        if not message.sent_event:
            return
        message.sent_event.update(delivery_info, queue=queue)
        dispatcher = self._amqp._event_dispatcher
        if dispatcher.serializer == "json" and dispatcher.exchange.type == "fanout":
            with suppress(ServerLost):
                publish_task_sent(producer.channel, dispatcher, message.sent_event)
                return
        policy: dict[str, Any] = self._retry_policy | (options.get("retry_policy") or {})
        dispatcher.publish(
            "task-sent", message.sent_event, producer, retry=options.get("retry", self._retry), retry_policy=policy
        )


def publish_task_sent(channel: Channel, dispatcher: Any, fields: dict[str, Any]) -> None:
    """Publish the event `task-sent` as the dispatcher would, through this channel."""
    exchange, routing_key = dispatcher.exchange.name, "task.sent"
    event = dispatcher._prepare_event("task-sent", fields)
    content_type, encoding, body = _dumps(event, serializer="json")
    message: dict[str, Any] = {
        "body": body,
        "content-type": content_type,
        "content-encoding": encoding,
        "headers": dispatcher.headers,
        "properties": {
            "delivery_mode": dispatcher.delivery_mode,
            "priority": 0,
            "body_encoding": None,
            "delivery_info": {"exchange": exchange, "routing_key": routing_key},
            "delivery_tag": channel._next_delivery_tag(),
        },
    }
    channel._put_fanout(exchange, message, routing_key)  # pyright: ignore[reportPrivateUsage] - kombu's own name


def _is_direct(queue: Any) -> bool:
    return isinstance(queue, Queue) and getattr(queue.exchange, "type", None) == "direct"


def _is_plain(producer: Any, options: dict[str, Any]) -> bool:
    for key, value in options.items():
        if key not in _PLAIN and (value is not None or key not in _UNSET):
            return False
    return (
        options.get("serializer") in _JSON
        and type(producer) is Producer
        and not producer.compression
        and not getattr(producer.exchange, "name", "")
        and getattr(producer._batch_local, "current", None) is None
        and not signals.before_task_publish.receivers
        and not signals.task_sent.receivers
    )
