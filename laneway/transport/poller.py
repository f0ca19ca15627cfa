"""Waits for work on behalf of a connection's channels: wakeups, broadcasts, and messages that become due.

Each consuming channel has a connection for every 500 of its queues, on which a BZPOPMIN waits for a wakeup from them. A
wakeup means that a fetch may bring messages. A fetch for messages that become due later is timed by the clock. A wakeup
that comes while the channel is full is put back, so that it wakes another consumer.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from laneway.engine.connection import RawConnection
from laneway.engine.engine import Engine
from laneway.engine.keys import Keyspace
from laneway.engine.readable import wait_until_readable
from laneway.engine.round_robin import RoundRobin
from laneway.transport.codec import UNREADABLE, broadcast_message
from laneway.transport.signatures import NotSigned, Signer

logger = logging.getLogger(__name__)
BLOCK_SECONDS = 20
"""How long a BZPOPMIN waits on the server."""
EVENTS = "celeryev"
"""Celery's exchange for events of workers and tasks."""
KEYS_PER_LISTENER = 500
"""BZPOPMIN costs the server 0.3 us a key, at each wakeup again. So one command does not wait for all of many queues."""
LABEL_WAKEUP_MS = 60_000
"""The life of a wakeup for consumers with a label: longer than any of them waits before it fetches unasked."""
OVERDUE_SECONDS = 10
"""A connection is replaced when its BZPOPMIN is not answered this long after `BLOCK_SECONDS`."""


class QoS(Protocol):
    """How much a channel may hold."""

    @property
    def room(self) -> int:
        """How many more messages the channel may hold."""
        ...

    def remember_prefetch_count(self) -> None:
        """Remember the prefetch count for the next connection."""
        ...


class ConsumingChannel(Protocol):
    """What the poller needs of a channel."""

    next_fetch_at: float
    """When a fetch may bring messages (monotonic seconds)."""

    @property
    def round_robin(self) -> RoundRobin | None:
        """The queues that the channel consumes."""
        ...

    def wake(self, queue: str) -> None:
        """Fetch at once, because this queue has woken the channel."""
        ...

    @property
    def qos(self) -> QoS:
        """How much the channel may hold."""
        ...

    @property
    def fetch_due_at(self) -> float:
        """When to fetch next (monotonic seconds)."""
        ...

    def fetch(self) -> bool:
        """Fetch messages; True if there were any."""
        ...

    def deliver_pending(self) -> bool:
        """Hand one fetched message to its consumer; True if there was one."""
        ...


class Transport(Protocol):
    """What the poller needs of the transport that owns it."""

    engine: Engine
    signer: Signer

    @property
    def channels(self) -> Sequence[ConsumingChannel] | None:
        """The open channels."""
        ...

    def send_without_reply(self, *parts: bytes | str | int) -> None:
        """Send a command whose reply nobody waits for."""
        ...

    def deliver(self, message: dict[str, Any], queue: str) -> None:
        """Hand a message to the consumer of this queue."""
        ...

    def stop_watching(self, descriptor: int) -> None:
        """Take this descriptor out of the event loop: it is about to be closed."""
        ...


class WakeupListener:
    """A connection on which a channel waits for wakeups of some of its queues, most of the time in a BZPOPMIN."""

    def __init__(self, connection: RawConnection, channel: ConsumingChannel, keys: Mapping[bytes, str]) -> None:
        """`keys`: those on which the queues wake their consumers, with their queues."""
        self.connection, self.channel = connection, channel
        self.is_listening = False
        self._keys, self._queues, self._since = list(keys), keys, 0.0

    def listen(self) -> None:
        """Send a BZPOPMIN, unless one is still waiting."""
        if not self.is_listening:
            self.connection.send(("BZPOPMIN", *self._keys, BLOCK_SECONDS))
            self.is_listening, self._since = True, time.monotonic()

    def receive(self) -> bytes | None:
        """Read the reply that has come: the key of the wakeup, or None if the BZPOPMIN timed out.

        The server takes the first key that it can. So the others go before this one from now on.
        """
        reply = self.connection.receive()
        self.is_listening = False
        if not reply:
            return None
        rung = self._keys.index(reply[0])
        self._keys = self._keys[rung + 1 :] + self._keys[: rung + 1]
        return reply[0]

    def queue_of(self, wakeup: bytes) -> str:
        """The queue that wakes its consumers on this key."""
        return self._queues[wakeup]

    @property
    def is_overdue(self) -> bool:
        """True when the reply is long overdue, so the connection must be dead."""
        return self.is_listening and time.monotonic() - self._since > BLOCK_SECONDS + OVERDUE_SECONDS


class Poller:
    """The connections that a transport listens on. Only the consuming thread uses it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._listeners: dict[ConsumingChannel, list[WakeupListener]] = {}
        self._broadcasts: RawConnection | None = None
        self._queues: dict[str, str] = {}
        """Exchange → the queue that gets its broadcasts."""
        self._early: deque[list[bytes]] = deque()
        """Broadcasts that came while a subscription was being confirmed."""
        self._turn = 0

    @property
    def _keys(self) -> Keyspace:
        return self._transport.engine.keys

    def subscribe(self, exchange: str, queue: str) -> None:
        """Deliver broadcasts to this exchange to this queue."""
        if self._broadcasts is None or self._broadcasts.closed:
            self._broadcasts = RawConnection(self._transport.engine.runner.pool)
        self._queues[exchange] = queue
        self._broadcasts.send(("SUBSCRIBE", self._keys.fanout(exchange)))
        while (reply := self._broadcasts.receive())[:2] != [b"subscribe", self._keys.fanout(exchange)]:
            self._early.append(reply)

    def unsubscribe(self, exchange: str) -> None:
        """Stop delivering broadcasts to this exchange."""
        if self._queues.pop(exchange, None) and self._broadcasts and not self._broadcasts.closed:
            self._broadcasts.send(("UNSUBSCRIBE", self._keys.fanout(exchange)))

    def close_listeners(self, channel: ConsumingChannel) -> None:
        """Stop waiting for wakeups of the channel's queues. The next step starts again, with its current queues."""
        for listener in self._listeners.pop(channel, ()):
            self._close(listener.connection)

    def close(self) -> None:
        """Close all connections."""
        for channel in list(self._listeners):
            self.close_listeners(channel)
        if self._broadcasts:
            self._close(self._broadcasts)
            self._broadcasts = None

    def drop_copy(self) -> None:
        """Close a forked child's copies of the connections. The parent's event loop goes on watching its own."""
        for listener in self._all_listeners():
            listener.connection.close()
        if self._broadcasts:
            self._broadcasts.close()
        self._listeners, self._broadcasts = {}, None

    def step(self) -> bool:
        """Deliver one message that is available, or listen for wakeups; True if one was delivered."""
        if self._early and self._deliver_broadcast(self._early.popleft()):
            return True
        channels = list(self._transport.channels or ())
        turn = self._turn % len(channels) if channels else 0
        for offset, channel in enumerate(channels[turn:] + channels[:turn], 1):
            if channel.deliver_pending() or self._fetch_and_deliver(channel):
                self._turn = turn + offset
                return True
            if channel.round_robin and channel.qos.room > 0 and time.monotonic() < channel.next_fetch_at:
                self._listen(channel, channel.round_robin)
        return False

    def connections(self) -> dict[int, WakeupListener | RawConnection]:
        """The connections to wait for, by file descriptor."""
        found: dict[int, WakeupListener | RawConnection] = {
            listener.connection.fileno(): listener for listener in self._all_listeners() if listener.is_listening
        }
        if self._broadcasts and not self._broadcasts.closed:
            found[self._broadcasts.fileno()] = self._broadcasts
        return found

    def seconds_until_due(self, limit: float) -> float:
        """Seconds until a fetch is due by the clock; at most `limit`."""
        now = time.monotonic()
        return max(0.0, min([limit, *(channel.fetch_due_at - now for channel in self._transport.channels or ())]))

    def wait(self, timeout: float) -> bool:
        """Wait for a wakeup or a broadcast, `timeout` seconds at most; True if a broadcast was delivered."""
        delivered = False
        for descriptor in wait_until_readable(list(self.connections()), timeout):
            delivered |= self.read(descriptor)
        return delivered

    def read(self, descriptor: int) -> bool:
        """Read what has come on this descriptor; True if a broadcast was delivered."""
        source = self.connections().get(descriptor)
        if isinstance(source, RawConnection):
            return self._deliver_broadcasts(source)
        if source is not None:
            self._read_wakeup(source)
        return False

    def replace_dead_connections(self) -> None:
        """Close the connections on which a reply is overdue; the next step opens others."""
        for listener in self._all_listeners():
            if listener.is_overdue and not listener.connection.closed:
                logger.warning("The broker does not reply on a connection for wakeups; the connection is replaced")
                self.close_listeners(listener.channel)

    def _fetch_and_deliver(self, channel: ConsumingChannel) -> bool:
        if not channel.round_robin:
            return False
        channel.qos.remember_prefetch_count()
        return time.monotonic() >= channel.fetch_due_at and channel.fetch() and channel.deliver_pending()

    def _read_wakeup(self, listener: WakeupListener) -> None:
        wakeup = listener.receive()
        if wakeup is None:
            return
        if listener.channel.qos.room > 0:
            listener.channel.wake(listener.queue_of(wakeup))
        else:  # a server whose memory is full refuses that; consumers also fetch without a wakeup
            self._transport.send_without_reply("ZADD", wakeup, 0, "1")
            if wakeup != self._keys.wakeup(listener.queue_of(wakeup)):
                self._transport.send_without_reply("PEXPIRE", wakeup, LABEL_WAKEUP_MS)

    def _deliver_broadcasts(self, connection: RawConnection) -> bool:
        delivered = False
        for reply in _received(connection):
            delivered |= self._deliver_broadcast(reply)
        return delivered

    def _deliver_broadcast(self, reply: list[bytes]) -> bool:
        kind, name, payload = reply
        exchange = self._keys.exchange_of(name)
        queue = self._queues.get(exchange)
        if kind != b"message" or queue is None:
            return False
        try:
            self._transport.signer.check_broadcast(exchange, payload, receiver=queue)
            message = broadcast_message(payload)
        except NotSigned as error:
            logger.error("A broadcast on %s is not signed by us and is ignored: %s", name.decode(), error)
            return False
        except ValueError as error:
            logger.error("A broadcast on %s cannot be read and is ignored: %s", name.decode(), error)
            return False
        try:
            self._transport.deliver(message, queue)
        except UNREADABLE:
            if not _is_for_celery(exchange):
                raise
            logger.exception("Celery cannot handle a broadcast on %s; it is ignored", name.decode())
        return True

    def _listen(self, channel: ConsumingChannel, round_robin: RoundRobin) -> None:
        listeners = self._listeners.get(channel)
        if listeners is None or any(listener.connection.closed for listener in listeners):
            self.close_listeners(channel)
            keys, pool = list(round_robin.wakeups(self._keys).items()), self._transport.engine.runner.pool
            listeners = self._listeners[channel] = [
                WakeupListener(RawConnection(pool), channel, dict(keys[start : start + KEYS_PER_LISTENER]))
                for start in range(0, len(keys), KEYS_PER_LISTENER)
            ]
        for listener in listeners:
            listener.listen()

    def _all_listeners(self) -> list[WakeupListener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]

    def _close(self, connection: RawConnection) -> None:
        if not connection.closed:
            self._transport.stop_watching(connection.fileno())
            connection.close()


def _is_for_celery(exchange: str) -> bool:
    """True for Celery's own broadcasts. Its handlers trust every field, and an error in one would end the worker."""
    return exchange == EVENTS or exchange.endswith(".pidbox")


def _received(connection: RawConnection) -> Iterator[list[bytes]]:
    yield connection.receive()
    while connection.buffered:
        yield connection.receive()
