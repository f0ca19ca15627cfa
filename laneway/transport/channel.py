"""The kombu channel: kombu's exchanges and bindings on top of the engine's queues."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from queue import Empty
from typing import Any, Protocol, cast

from kombu.transport import virtual
from kombu.utils.json import dumps

from laneway.engine.elapsed import elapsed
from laneway.engine.engine import Batch, Delivery, Engine
from laneway.engine.errors import TaskCancelled
from laneway.engine.keys import Keyspace
from laneway.engine.lease import HandOn
from laneway.engine.round_robin import RoundRobin
from laneway.transport.binding import Binding
from laneway.transport.celery_worker import running_task_ids, running_tasks
from laneway.transport.codec import durability_of, from_delivery, not_after_of, to_message, version_of
from laneway.transport.lease_keeper import LeaseKeeper
from laneway.transport.poller import EVENTS, Poller
from laneway.transport.qos import QoS
from laneway.transport.signatures import REASON, NotSigned, Signer

logger = logging.getLogger(__name__)
FETCH_SECONDS = 0.05
"""The longest delay of a fetch while enough tasks wait in this worker (`Channel.fetch_due_at`)."""
_tags = itertools.count(1)


class Transport(Protocol):
    """What a channel needs of its transport."""

    engine: Engine
    lease_keeper: LeaseKeeper
    poller: Poller
    signer: Signer
    lease_ms: int
    poll_interval: float
    """Seconds between two fetches without a wakeup."""
    weights: Mapping[str, int]
    labels: Sequence[str]
    classes: Mapping[str, int] | None
    zero_goes_first: bool
    """True when priorities count as in kombu's Redis transport."""
    is_inherited: bool
    """True in a forked child of the process that made the connection."""
    fanouts: dict[str, str]
    """Queue → the broadcast exchange that it is bound to."""

    def command(self, *parts: bytes | str | int) -> Any:
        """Send one command; return its reply."""
        ...

    def send_without_reply(self, *parts: bytes | str | int) -> None:
        """Send a command whose reply nobody waits for."""
        ...

    def sent_together(self) -> AbstractContextManager[None]: ...

    def deliver(self, message: dict[str, Any], queue: str) -> None:
        """Hand a message to the consumer of this queue."""
        ...


class ReadMessage(virtual.Message):
    """A message that becomes a dead letter when it cannot be decoded. Celery would ack, and so lose, such a message."""

    unreadable = ""
    refusal: tuple[str, str] | None = None
    """Why the worker will reject it: the reason of the dead letter, and the text of its error."""

    def _decode(self) -> Any:
        try:
            return super()._decode()
        except Exception as error:
            self.unreadable = str(error) or type(error).__name__
            raise

    def ack(self, multiple: bool = False) -> None:
        """Ack the message; make it a dead letter instead if it could not be decoded."""
        if not self.acknowledged and (self.unreadable or self.errors):
            cast("Channel", self.channel).qos.bury(str(self.delivery_tag), self.unreadable or str(self.errors))
            self._state = "REJECTED"
        else:
            super().ack(multiple)

    def hand_on(self, how: HandOn) -> bool:
        """Hand the message on to another worker. False: that took too long, and it has become a dead letter."""
        if not cast("Channel", self.channel).qos.hand_on(str(self.delivery_tag), how):
            return False
        self._state = "REQUEUED"
        return True

    def reject(self, requeue: bool = False) -> None:
        """Return the message to its queue, or make it a dead letter that says why it was rejected."""
        if requeue or self.acknowledged or self.refusal is None:
            super().reject(requeue)
            return
        reason, error = self.refusal
        cast("Channel", self.channel).qos.bury(str(self.delivery_tag), error, reason=reason)
        self._state = "REJECTED"


class Channel(virtual.Channel):
    """Exchanges and bindings of kombu's virtual channels, on the engine's queues."""

    QoS = QoS
    Message = ReadMessage
    supports_fanout = True
    body_encoding = None
    connection: Any  # a `Transport`; None once kombu has closed the channel

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.pending: deque[tuple[Delivery, str]] = deque()
        self.next_fetch_at = self._fetched_at = 0.0
        self._round_robin: RoundRobin | None = None
        self._queues_changed = False
        self._no_ack: set[str] = set()
        self._expiring: set[str] = set()
        self._broken: set[str] = set()

    @property
    def qos(self) -> QoS:
        """The messages that are handed out and not yet settled."""
        qos = cast("QoS | None", self._qos)
        if qos is None:
            qos = self._qos = QoS(self)
        return qos

    @property
    def _transport(self) -> Transport:
        return self.connection

    @property
    def _keys(self) -> Keyspace:
        return self._transport.engine.keys

    # --- producing

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        try:
            made = to_message(message, zero_goes_first=self._transport.zero_goes_first)
            made = self._transport.signer.sign(queue, made)
            durability, not_after, version = durability_of(message), not_after_of(message), version_of(message)
            self._transport.engine.put(queue, made, durability=durability, not_after=not_after, version=version)
        except TaskCancelled as error:
            logger.info("%s", error)

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **_: Any) -> None:
        del routing_key
        channel = self._keys.fanout(exchange)
        payload = self._transport.signer.sign_broadcast(exchange, dumps(message))
        if exchange == EVENTS:  # nobody waits for the server's reply to an event
            self._transport.send_without_reply("PUBLISH", channel, payload)
        else:  # a worker must not carry out a control command twice
            self._transport.engine.runner.call_once(channel, "PUBLISH", (), channel, payload)

    def sent_together(self) -> AbstractContextManager[None]:
        """Send the events that are published in this block at its end, in one round trip."""
        return self._transport.sent_together()

    # --- queues and bindings

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **options: Any) -> Mapping[str, Any]:
        """Add `x-expires` (ms) for a queue with `expires` (s), such as the queue of the replies to an `inspect`."""
        expires: float | None = options.get("expires")
        return {**arguments, "x-expires": int(expires * 1000)} if expires is not None else arguments

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        arguments: dict[str, Any] = kwargs.get("arguments") or {}
        expires = arguments.get("x-expires")
        if expires:  # at each declaration: the queue, and with it its binding, may be gone since the last one
            self._expiring.add(queue)
            self._transport.engine.expire(queue, int(expires))
            self._forget_bindings(queue)

    def _forget_bindings(self, queue: str) -> None:
        """Make kombu bind the queue again: it does not bind a queue that it has bound before."""
        for exchange in {binding.exchange for binding in self.state.queue_bindings(queue)}:
            table: list[tuple[str, str, str]] = self.state.exchanges[exchange].get("table", [])
            table[:] = [row for row in table if row[2] != queue]
        self.state.queue_bindings_delete(queue)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if self.typeof(exchange).type == "fanout":
            self._transport.fanouts[queue] = exchange
            return
        binding = Binding(routing_key or "", pattern or "", queue, expires=queue in self._expiring)
        self._transport.engine.runner.run("bind", [self._keys.bindings(exchange)], [binding.to_json()])

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """The bindings of the exchange that all processes have declared.

        A queue that expires when it is unused has this limit as long as it exists. When it is gone, so is its binding:
        else a reply to a process that was killed would make the queue anew, and for ever.
        """
        members: list[bytes] = self._transport.command("SMEMBERS", self._keys.bindings(exchange))
        bindings = {member: binding for member in members if (binding := Binding.from_json(member))}
        gone = [member for member, binding in bindings.items() if binding.expires and not self._exists(binding.queue)]
        if gone:
            self._transport.command("SREM", self._keys.bindings(exchange), *gone)
        return [binding.row for member, binding in bindings.items() if member not in gone]

    def _exists(self, queue: str) -> bool:
        return self._transport.command("HEXISTS", self._keys.key(queue, "limits"), "expires") > 0

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_: Any, **__: Any) -> None:
        members = [
            Binding(routing_key or "", pattern or "", queue, expires=expires).to_json() for expires in (False, True)
        ]
        self._transport.lease_keeper.flush()  # acks sent after the deletion would find no message and be logged as late
        self._transport.command("SREM", self._keys.bindings(exchange), *members)
        self._transport.engine.delete(queue)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        names = [self._keys.key(queue, name) for name in ("messages", "limits", "counters")]
        return self._transport.command("EXISTS", *names) > 0

    def _size(self, queue: str) -> int:
        return self._transport.engine.stats([queue])[0].waiting

    def _purge(self, queue: str) -> int:
        return self._transport.engine.purge(queue)

    # --- consuming

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> None:
        """Start to hand out this queue's messages."""
        if no_ack:
            self._no_ack.add(queue)
        super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue in self._transport.fanouts:
            self._transport.poller.subscribe(self._transport.fanouts[queue], queue)
        self._change_queues()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop handing out this consumer's queue; give back what was fetched and not yet handed out."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None or self.connection is None:
            return
        if queue in self._transport.fanouts:
            self._transport.poller.unsubscribe(self._transport.fanouts[queue])
        self._no_ack.discard(queue)
        self.give_back([delivery for delivery, _ in self.pending if delivery.queue == queue])
        self.pending = deque(entry for entry in self.pending if entry[0].queue != queue)
        self._change_queues()

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
        transport, sent_at = self._transport, elapsed()
        one_queue = RoundRobin({queue: 1}, labels=transport.labels)
        deliveries = transport.engine.fetch(one_queue, 1, lease_ms=transport.lease_ms).deliveries
        if not deliveries:
            raise Empty
        transport.lease_keeper.hold(deliveries[0], since=sent_at)
        try:
            return self._hand_out(deliveries[0], no_ack=no_ack)
        except NotSigned as error:
            self._bury_unreadable(deliveries[0], error)
            raise Empty from error

    @property
    def round_robin(self) -> RoundRobin | None:
        """The queues that the channel consumes; None when there are none."""
        if self._queues_changed:
            self._queues_changed = False
            own, fanouts = self._transport, self._transport.fanouts
            queues = [queue for queue in dict.fromkeys(self._active_queues) if queue not in fanouts]
            weights = {queue: own.weights.get(queue, 1) for queue in queues}
            classes = own.classes and {queue: own.classes.get(queue, 1) for queue in queues}
            self._round_robin = RoundRobin(weights, labels=own.labels, classes=classes) if queues else None
        return self._round_robin

    def wake(self, queue: str) -> None:
        """Fetch at once, because this queue has woken the channel."""
        self.next_fetch_at = 0.0
        if self.round_robin:
            self.round_robin.ring(queue)

    @property
    def fetch_due_at(self) -> float:
        """When to fetch next (monotonic seconds; infinite: not before there is room).

        At once when at least half of the room is free, or no more tasks wait here than run. Otherwise up to
        `FETCH_SECONDS` after the last fetch, so that one call brings more messages.
        """
        free, held = self.qos.room, len(self.qos.held)
        room = free - len(self.pending)
        if not self.round_robin or room <= 0:
            return math.inf
        if 2 * room >= free + held or held + len(self.pending) <= 2 * running_tasks():
            return self.next_fetch_at
        return max(self.next_fetch_at, self._fetched_at + FETCH_SECONDS)

    def fetch(self) -> bool:
        """Fetch messages into `pending`, as many as there is room for; True if there were any."""
        room = self.qos.room - len(self.pending)
        if not self.round_robin or room <= 0:
            return False
        transport = self._transport
        transport.lease_keeper.flush()
        sent_at, self._fetched_at = elapsed(), time.monotonic()
        batch = transport.engine.fetch(
            self.round_robin, room, lease_ms=transport.lease_ms, idle_poll_ms=int(transport.poll_interval * 1000)
        )
        self._report(batch)
        wait = transport.poll_interval if batch.wait is None else min(batch.wait, transport.poll_interval)
        self.next_fetch_at = time.monotonic() + wait
        for delivery in batch.deliveries:
            transport.lease_keeper.hold(delivery, since=sent_at)
            self.pending.append((delivery, delivery.queue))
        return bool(batch.deliveries)

    def _report(self, batch: Batch) -> None:
        """Log an error for each queue that cannot be read, once until it can be read again."""
        for queue in batch.broken.keys() - self._broken:
            logger.error("The queue %s delivers nothing: %s", queue, batch.broken[queue])
        if self._broken or batch.broken:
            self._broken = self._broken.difference(batch.queues).union(batch.broken)

    def deliver_pending(self) -> bool:
        """Hand one fetched message to its consumer; True if there was one. Its ack can be sent before the next one."""
        while self.pending:
            delivery, queue = self.pending.popleft()
            if not self._transport.lease_keeper.is_valid(delivery):
                logger.warning("The lease on message %s expired before the message was handed out", delivery.id)
                self._transport.lease_keeper.release([delivery], counted=False)
                continue
            try:
                raw = self._hand_out(delivery, no_ack=queue in self._no_ack)
            except ValueError as error:
                self._bury_unreadable(delivery, error)
                continue
            self._transport.deliver(raw, queue)
            return True
        return False

    def close(self) -> None:
        """Stop consuming and give back what is held. A forked child only drops its copy of the channel."""
        if self.connection is not None and self._transport.is_inherited:
            self.closed = True
            return
        if not self.closed and self.connection is not None:
            self.give_back([delivery for delivery, _ in self.pending])
            self.pending.clear()
            self._transport.poller.close_listeners(self)
        super().close()

    def give_back(self, deliveries: list[Delivery]) -> None:
        """Release these messages, uncounted if their tasks never started. A server that is away gets them later."""
        running = running_task_ids()
        for counted in (True, False):
            part = [d for d in deliveries if (d.stored.message.task_id in running) is counted]
            self._transport.lease_keeper.release(part, counted=counted)

    def _hand_out(self, delivery: Delivery, *, no_ack: bool) -> dict[str, Any]:
        tag = f"{next(_tags)}"
        transport = self._transport
        raw = from_delivery(delivery, tag, zero_goes_first=transport.zero_goes_first, signer=transport.signer)
        if no_ack:
            self._transport.lease_keeper.ack(delivery)
        else:
            self.qos.held[tag] = delivery
        return raw

    def _bury_unreadable(self, delivery: Delivery, error: ValueError) -> None:
        is_forged = isinstance(error, NotSigned)
        why = "is not signed by us" if is_forged else "cannot be read"
        logger.error("Message %s %s and becomes a dead letter: %s", delivery.id, why, error)
        self._transport.lease_keeper.bury(delivery, reason=REASON if is_forged else "malformed", error=str(error))

    def _change_queues(self) -> None:
        """Fetch from other queues from the next fetch on. A worker adds its queues one by one."""
        self._queues_changed, self.next_fetch_at = True, 0.0
        self._transport.poller.close_listeners(self)
