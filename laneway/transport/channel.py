"""The kombu channel: exchanges and queues on top, the engine below."""

from __future__ import annotations

import itertools
import json
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Any, cast

from kombu.transport import virtual

from laneway.engine.engine import Delivery
from laneway.engine.errors import TaskCancelled
from laneway.engine.keys import bindings, fanout, key
from laneway.engine.message import Message
from laneway.engine.round_robin import RoundRobin
from laneway.transport.codec import durability_of, from_delivery, not_after_of, to_message

if TYPE_CHECKING:
    from laneway.transport.lease_keeper import LeaseKeeper
    from laneway.transport.transport import Transport

logger = logging.getLogger(__name__)
MAX_FETCH = 256
FETCH_SECONDS = 0.05
"""The longest a fetch is put off while less than half of what a channel may hold is free and tasks wait here."""
EVENTS = "celeryev"
"""Celery's exchange for what its programs tell of themselves: there, nobody waits for the server's answer."""
_tags = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Collected:
    """A message and the queue that it is for."""

    queue: str
    message: Message


class QoS(virtual.QoS):
    """What the channel has handed out and is not settled; it can be settled when the channel is closed, too."""

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self.held: dict[str, Delivery] = {}
        self._leases: LeaseKeeper = channel.connection.leases

    def room(self) -> int:
        """How many more messages the channel may hold."""
        if not self.can_consume() or self._leases.congested:
            return 0
        if "can_consume" in self.__dict__:  # Celery's worker_disable_prefetch asks before each message
            return 1
        estimate = self.can_consume_max_estimate()
        room = MAX_FETCH if estimate is None else min(estimate, MAX_FETCH)
        kept, prefetch = self._leases.kept, self.prefetch_count or 0
        if kept and self._leases.prefetch and prefetch:
            room = max(0, min(room, self._leases.prefetch - kept - len(self.held)))
        elif prefetch and not kept:
            self._leases.prefetch = prefetch  # Celery has another one for a while after a cut
        return room

    def ack(self, delivery_tag: str) -> None:
        """End the message."""
        delivery = self.held.pop(delivery_tag, None)
        super().ack(delivery_tag)
        if delivery is not None:
            self._leases.ack(delivery)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give it back to its old place, counted; or keep it as a dead letter."""
        delivery = self.held.pop(delivery_tag, None)
        super().ack(delivery_tag)
        if delivery is None:
            return
        if requeue:
            self._leases.release([delivery], counted=True)
        else:
            self._leases.bury(delivery, reason="rejected")

    def bury(self, delivery_tag: str, error: str) -> None:
        """Keep what nobody can read as a dead letter."""
        delivery = self.held.pop(delivery_tag, None)
        super().ack(delivery_tag)
        if delivery is not None:
            self._leases.bury(delivery, reason="malformed", error=error)

    def lost(self, delivery_tag: str) -> bool:
        """True if the message must not be started, because its lease is over; it is forgotten then."""
        delivery = self.held.get(delivery_tag)
        if delivery is None or self._leases.valid(delivery):
            return False
        self.held.pop(delivery_tag, None)
        super().ack(delivery_tag)
        logger.warning("The lease on message %s was over before it started: it is not run", delivery.id)
        self._leases.release([delivery], counted=False)
        return True

    def restore_unacked(self) -> list[Any]:
        """Give everything back; or, if a worker's connection broke, what its pool lets go of."""
        self._flush()
        messages = dict(self._delivered or {})
        if self._delivered is not None:
            self._delivered.clear()
        transport: Transport | None = self.channel.connection
        if transport is None:
            return []
        if transport.is_cut:
            running = _running_task_ids()
            for tag, delivery in list(self.held.items()):
                if tag in messages:
                    started = delivery.stored.message.task_id in running
                    self._leases.keep(delivery, messages[tag], started=started)
            return []
        held, self.held = list(self.held.values()), {}
        self.channel.give_back(held)
        return []


class ReadMessage(virtual.Message):
    """A message that remembers whether it could be read: Celery acknowledges those that cannot."""

    unreadable = ""

    def _decode(self) -> Any:
        try:
            return super()._decode()
        except Exception as error:
            self.unreadable = str(error) or type(error).__name__
            raise

    def ack(self, multiple: bool = False) -> None:
        """End the message; keep it as a dead letter if it was not readable."""
        if not self.acknowledged and (self.unreadable or self.errors):
            cast("Channel", self.channel).qos.bury(str(self.delivery_tag), self.unreadable or str(self.errors))
            self._state = "REJECTED"
        else:
            super().ack(multiple)


class Channel(virtual.Channel):
    """Exchanges and bindings as kombu's virtual channels have them; queues are the engine's."""

    QoS = QoS
    Message = ReadMessage
    supports_fanout = True
    body_encoding = None
    connection: Any  # a Transport; None once kombu has closed the channel

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.pending: deque[tuple[Delivery, str]] = deque()
        self.look_at = self._fetched_at = 0.0
        self.lanes: RoundRobin | None = None
        self._no_ack: set[str] = set()
        self._expiring: set[str] = set()
        self.collected: list[Collected] | None = None
        self.auto_delete: set[str] = set()

    @property
    def qos(self) -> QoS:
        """What is handed out and not settled."""
        made = cast("QoS | None", self._qos)
        if made is None:
            made = self._qos = QoS(self)
        return made

    # --- producing

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        try:
            made = to_message(message)
            durability, not_after = durability_of(message), not_after_of(message)
            if self.collected is not None:
                self.collected.append(Collected(queue, made))
                return
            self.connection.engine.put(queue, made, durability=durability, not_after=not_after)
        except TaskCancelled as error:
            logger.info("%s", error)

    @contextmanager
    def collecting(self) -> Generator[list[Collected]]:
        """What is published meanwhile is not queued, but collected: for `Engine.put_many`."""
        self.collected = collected = []
        try:
            yield collected
        finally:
            self.collected = None

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **_: Any) -> None:
        del routing_key
        say = self.connection.tell if exchange == EVENTS else self.connection.command
        say("PUBLISH", fanout(exchange), json.dumps(message))

    # --- queues and bindings

    def _new_queue(self, queue: str, auto_delete: bool = False, **kwargs: Any) -> None:
        arguments: dict[str, Any] = kwargs.get("arguments") or {}
        expires = arguments.get("x-expires")
        if auto_delete:
            self.auto_delete.add(queue)
        if expires and queue not in self._expiring:
            self._expiring.add(queue)
            self.connection.engine.expire(queue, int(expires))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if self.typeof(exchange).type == "fanout":
            self.connection.fanouts[queue] = exchange
            return
        self.connection.command("SADD", bindings(exchange), json.dumps([routing_key or "", pattern or "", queue]))

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """Who is bound to the exchange, by everyone's declarations."""
        members: list[bytes] = self.connection.command("SMEMBERS", bindings(exchange))
        return [tuple(json.loads(member)) for member in members]

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_: Any, **__: Any) -> None:
        member = json.dumps([routing_key or "", pattern or "", queue])
        self.connection.leases.flush()  # after it they would find nothing, as if they came too late
        self.connection.command("SREM", bindings(exchange), member)
        self.connection.engine.delete(queue)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        names = [key(queue, name) for name in ("messages", "limits", "counters")]
        return self.connection.command("EXISTS", *names) > 0

    def _size(self, queue: str) -> int:
        return self.connection.engine.stats([queue])[0].waiting

    def _purge(self, queue: str) -> int:
        return self.connection.engine.purge(queue)

    # --- consuming

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> None:
        """Begin to hand out this queue's messages."""
        if no_ack:
            self._no_ack.add(queue)
        super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue in self.connection.fanouts:
            self.connection.poller.subscribe(self.connection.fanouts[queue], queue)
        self._relane()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Hand out no more of it; what was fetched and not yet handed out goes back."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None or self.connection is None:
            return
        if queue in self.connection.fanouts:
            self.connection.poller.unsubscribe(self.connection.fanouts[queue])
        self._no_ack.discard(queue)
        self.give_back([delivery for delivery, _ in self.pending if delivery.queue == queue])
        self.pending = deque(entry for entry in self.pending if entry[0].queue != queue)
        self._relane()

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:
        """One message, or None."""
        try:
            raw = self._get(queue, no_ack=no_ack)
        except Empty:
            return None
        message = self.Message(raw, channel=self)
        if not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def _get(self, queue: str, timeout: float | None = None, *, no_ack: bool = False) -> dict[str, Any]:
        del timeout
        transport, asked = self.connection, time.monotonic()
        deliveries = transport.engine.fetch(RoundRobin({queue: 1}), 1, lease_ms=transport.lease_ms).deliveries
        if not deliveries:
            raise Empty
        transport.leases.hold(deliveries[0], since=asked)
        return self._hand_out(deliveries[0], no_ack=no_ack)

    def fetch_at(self) -> float:
        """When to fetch next (monotonic seconds; infinite: not before there is room).

        At once when half is free or fewer tasks wait here than run; else a little later, and more at a time.
        """
        free, held = self.qos.room(), len(self.qos.held)
        room = free - len(self.pending)
        if not self.lanes or room <= 0:
            return math.inf
        if 2 * room >= free + held or held + len(self.pending) <= 2 * _running_tasks():
            return self.look_at
        return max(self.look_at, self._fetched_at + FETCH_SECONDS)

    def fetch(self) -> bool:
        """Fetch what there is room for into `pending`; True if there was anything."""
        room = self.qos.room() - len(self.pending)
        if not self.lanes or room <= 0:
            return False
        transport = self.connection
        transport.leases.flush()
        asked = self._fetched_at = time.monotonic()
        batch = transport.engine.fetch(
            self.lanes, room, lease_ms=transport.lease_ms, horizon_ms=int(transport.horizon * 1000)
        )
        wait = transport.horizon if batch.wait is None else min(batch.wait, transport.horizon)
        self.look_at = time.monotonic() + wait
        for delivery in batch.deliveries:
            transport.leases.hold(delivery, since=asked)
            self.pending.append((delivery, delivery.queue))
        return bool(batch.deliveries)

    def deliver_pending(self) -> bool:
        """Hand one fetched message to its consumer: what it acknowledges goes out before the next; True if any was."""
        while self.pending:
            delivery, queue = self.pending.popleft()
            if not self.connection.leases.valid(delivery):
                logger.warning("The lease on message %s was over before it was handed out", delivery.id)
                self.connection.leases.release([delivery], counted=False)
                continue
            try:
                raw = self._hand_out(delivery, no_ack=queue in self._no_ack)
            except ValueError as error:
                self._bury_unreadable(delivery, error)
                continue
            self.connection._deliver(raw, queue)
            return True
        return False

    def close(self) -> None:
        """Stop consuming and give back what is held."""
        if not self.closed and self.connection is not None:
            self.give_back([delivery for delivery, _ in self.pending])
            self.pending.clear()
            self.connection.poller.forget(self)
        super().close()

    def give_back(self, deliveries: list[Delivery]) -> None:
        """Release: uncounted what never started. If the server is away that is done when it is back."""
        running = _running_task_ids()
        for counted in (True, False):
            part = [d for d in deliveries if (d.stored.message.task_id in running) is counted]
            self.connection.leases.release(part, counted=counted)

    def _hand_out(self, delivery: Delivery, *, no_ack: bool) -> dict[str, Any]:
        tag = f"{next(_tags)}"
        raw = from_delivery(delivery, tag)
        if no_ack:
            self.connection.leases.ack(delivery)
        else:
            self.qos.held[tag] = delivery
        return raw

    def _bury_unreadable(self, delivery: Delivery, error: ValueError) -> None:
        logger.error("Message %s cannot be read and becomes a dead letter: %s", delivery.id, error)
        self.connection.leases.bury(delivery, reason="malformed", error=str(error))

    def _relane(self) -> None:
        transport = self.connection
        queues = [queue for queue in dict.fromkeys(self._active_queues) if queue not in transport.fanouts]
        self.lanes = RoundRobin({queue: transport.weights.get(queue, 1) for queue in queues}) if queues else None
        self.look_at = 0.0
        transport.poller.changed(self)


def _running_tasks() -> int:
    state = sys.modules.get("celery.worker.state")
    return len(state.active_requests) if state else 0


def _running_task_ids() -> set[str]:
    """Tasks that this process, if it is a Celery worker, has started."""
    state = sys.modules.get("celery.worker.state")
    return {request.id for request in state.active_requests} if state else set()
