"""Waits for work on behalf of a connection's channels: bells, broadcasts, and what is due.

Each consuming channel has a wire on which a BZPOPMIN on its queues' bells stands; a ring says that a
fetch may bring something. What is only due later is fetched by the clock. A ring that comes while the
channel is full is given back, so that it wakes somebody else.
"""

from __future__ import annotations

import json
import logging
import select
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from laneway.engine.connection import RawConnection
from laneway.engine.keys import fanout
from laneway.engine.round_robin import RoundRobin

if TYPE_CHECKING:
    from laneway.transport.channel import Channel
    from laneway.transport.transport import Transport

logger = logging.getLogger(__name__)
BELL_SECONDS = 20
OVERDUE_SECONDS = 10


class WakeupListener:
    """One channel's ear: a wire with, most of the time, an unanswered BZPOPMIN on it."""

    def __init__(self, wire: RawConnection) -> None:
        self.wire = wire
        self.lanes: RoundRobin | None = None
        self._since = 0.0

    def listen(self, lanes: RoundRobin) -> None:
        """Ask, unless a question stands already."""
        if self.lanes is None:
            self.wire.send(("BZPOPMIN", *lanes.bells, BELL_SECONDS))
            self.lanes, self._since = lanes, time.monotonic()

    def heard(self) -> bytes | None:
        """Read the answer that has come: the bell that rang, or None."""
        reply = self.wire.receive()
        self.lanes = None
        return reply[0] if reply else None

    @property
    def overdue(self) -> bool:
        """True when the answer should have come long ago: the connection is dead."""
        return self.lanes is not None and time.monotonic() - self._since > BELL_SECONDS + OVERDUE_SECONDS


class Poller:
    """What a connection listens to. All of it happens in the thread that consumes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._bells: dict[Channel, WakeupListener] = {}
        self._listener: RawConnection | None = None
        self._exchanges: dict[str, str] = {}
        self._turn = 0

    def subscribe(self, exchange: str, queue: str) -> None:
        """Hear broadcasts to this exchange on behalf of this queue."""
        if self._listener is None or self._listener.closed:
            self._listener = RawConnection(self._transport.engine.runner.pool)
        self._exchanges[exchange] = queue
        self._listener.send(("SUBSCRIBE", fanout(exchange)))
        self._listener.receive()

    def unsubscribe(self, exchange: str) -> None:
        """Hear them no longer."""
        if self._exchanges.pop(exchange, None) and self._listener and not self._listener.closed:
            self._listener.send(("UNSUBSCRIBE", fanout(exchange)))

    def changed(self, channel: Channel) -> None:
        """The channel consumes other queues now: its standing question is about the wrong bells."""
        bell = self._bells.pop(channel, None)
        if bell:
            self._hang_up(bell.wire)

    def forget(self, channel: Channel) -> None:
        """The channel consumes nothing any more."""
        self.changed(channel)

    def close(self) -> None:
        """Close all wires."""
        for bell in self._bells.values():
            self._hang_up(bell.wire)
        self._bells.clear()
        if self._listener:
            self._hang_up(self._listener)
            self._listener = None

    def step(self) -> bool:
        """Deliver one message that may be had now, or listen for more; True if one was delivered."""
        channels = list(self._transport.channels or ())
        turn = self._turn % len(channels) if channels else 0
        for offset, channel in enumerate(channels[turn:] + channels[:turn], 1):
            if channel.deliver_pending():
                self._turn = turn + offset
                return True
            if not channel.lanes:
                continue
            if time.monotonic() >= channel.fetch_at() and channel.fetch() and channel.deliver_pending():
                self._turn = turn + offset
                return True
            if channel.lanes and channel.qos.room() > 0 and time.monotonic() < channel.look_at:
                self._bell(channel).listen(channel.lanes)
        return False

    def wires(self) -> dict[int, WakeupListener | RawConnection]:
        """What to wait for, by file descriptor."""
        found: dict[int, WakeupListener | RawConnection] = {
            bell.wire.fileno(): bell for bell in self._bells.values() if bell.lanes
        }
        if self._listener and not self._listener.closed:
            found[self._listener.fileno()] = self._listener
        return found

    def until_due(self, limit: float) -> float:
        """Seconds until the clock says that a fetch may bring something; at most `limit`."""
        now = time.monotonic()
        return max(0.0, min([limit, *(channel.fetch_at() - now for channel in self._transport.channels or ())]))

    def wait(self, timeout: float) -> bool:
        """Wait for a ring or a broadcast; True if a broadcast was delivered."""
        watch = select.poll()
        wires = self.wires()
        for descriptor in wires:
            watch.register(descriptor, select.POLLIN)
        delivered = False
        for descriptor, _ in watch.poll(timeout * 1000):
            delivered |= self.readable(descriptor)
        return delivered

    def readable(self, descriptor: int) -> bool:
        """Read what has come on this descriptor; True if a broadcast was delivered."""
        source = self.wires().get(descriptor)
        if isinstance(source, RawConnection):
            return self._broadcasts(source)
        if source is not None:
            self._rung(source)
        return False

    def check(self) -> None:
        """Replace the wires on which an answer is overdue."""
        for channel, bell in list(self._bells.items()):
            if bell.overdue:
                logger.warning("The broker does not answer on a waiting connection; it is replaced")
                self.changed(channel)

    def _rung(self, bell: WakeupListener) -> None:
        channel = next(channel for channel, mine in self._bells.items() if mine is bell)
        rang = bell.heard()
        if channel.qos.room() > 0:
            channel.look_at = 0.0
        elif rang:
            self._transport.command("ZADD", rang, 0, "1")

    def _broadcasts(self, wire: RawConnection) -> bool:
        delivered = False
        for kind, name, payload in _events(wire):
            exchange = name[len(fanout("")) :].decode()
            queue = self._exchanges.get(exchange)
            if kind != b"message" or queue is None:
                continue
            message: dict[str, Any] = json.loads(payload)
            self._transport._deliver(message, queue)
            delivered = True
        return delivered

    def _bell(self, channel: Channel) -> WakeupListener:
        bell = self._bells.get(channel)
        if bell is None or bell.wire.closed:
            bell = self._bells[channel] = WakeupListener(RawConnection(self._transport.engine.runner.pool))
        return bell

    def _hang_up(self, wire: RawConnection) -> None:
        if not wire.closed:
            self._transport.on_hang_up(wire.fileno())
            wire.close()


def _events(wire: RawConnection) -> Iterator[list[bytes]]:
    yield wire.receive()
    while wire.buffered:
        yield wire.receive()
