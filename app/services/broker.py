"""The broker, behind the few things that the platform asks of it. Nothing else talks to Celery's transport."""

# The untyped edge of Celery and kombu.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false, reportPrivateUsage=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from amqp.exceptions import ChannelError, NotFound
from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from app.core.errors import BrokerUnavailable
from app.core.logging import URL_LOGIN
from app.db.models import TaskRun

LEDGER_HEADER = "laneway-ledger"
"""Marks messages whose task is in the ledger: one that is no longer there was withdrawn, and is not run."""

PAGE = 500
"""Messages that are read at once when a queue is looked into."""


class Broker:
    """Sends tasks, and looks into queues."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, run: TaskRun) -> None:
        """Hand one task to its queue. Raises BrokerUnavailable; the message may then be there all the same."""
        with _named_errors():
            self._app.send_task(
                run.name, kwargs=run.payload, task_id=run.id, queue=run.queue,
                priority=self._priority(run.priority), retry=False,
                # Without this, Celery would subscribe to the result of each task that it sends, and never stop;
                # the header then tells the worker to store the result all the same.
                ignore_result=True, headers={"ignore_result": False, LEDGER_HEADER: True},
            )  # fmt: skip

    def size(self, queue: str) -> int:
        """How many messages wait in a queue."""
        with _named_errors(), self._app.connection_for_write() as connection:
            try:
                return connection.default_channel.queue_declare(queue=queue, passive=True).message_count
            except (ChannelError, NotFound):
                return 0  # Redis has no empty queues: a queue without messages is not there

    def waiting_ids(self, queue: str) -> set[str] | None:
        """The task ids of the messages that wait in a queue; None where the broker cannot be looked into."""
        with _named_errors(), self._app.connection_for_write() as connection:
            if connection.transport.driver_type != "redis":
                return None
            channel: Any = connection.default_channel
            names = [channel._q_for_pri(queue, step) for step in channel.priority_steps]
            return {id for name in names for raw in _all(channel.client, name) if (id := _task_id(raw))}

    def ping(self) -> None:
        """Raise BrokerUnavailable unless the broker answers."""
        with _named_errors(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)

    @cached_property
    def _zero_goes_first(self) -> bool:
        return self._app.connection_for_write().get_transport_cls().driver_type == "redis"

    def _priority(self, priority: int) -> int:
        """Ours (3 goes first) in the transport's scale: in kombu's Redis transport 0 goes first, in AMQP 9."""
        return 9 - 3 * priority if self._zero_goes_first else 3 * priority


def _all(client: Any, name: str) -> Iterator[bytes]:
    """A list page by page; it grows at the head and shrinks at the tail, so that reading from the head misses none."""
    start = 0
    while page := client.lrange(name, start, start + PAGE - 1):
        yield from page
        start += PAGE


def _task_id(raw: bytes) -> str | None:
    try:
        return json.loads(raw)["headers"]["id"]
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def _named_errors() -> Generator[None]:
    try:
        yield
    except (KombuError, RedisError, OSError) as error:
        raise BrokerUnavailable(URL_LOGIN.sub("", str(error)) or type(error).__name__) from error
