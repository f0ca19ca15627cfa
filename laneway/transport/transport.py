"""The kombu transport: `broker_transport = "laneway:Transport"`, while the broker's URL stays what it is.

Options (`broker_transport_options`): `lease` seconds (30) · `weights` {queue: 1-100} · `horizon` seconds
between two looks without a bell (1) · `cancel_signal`, which ends a running task that was cancelled (none: it
goes on) · `master_name` for `sentinel://` · any of redis-py's connection settings
in `connection`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from kombu.transport import virtual
from redis.exceptions import RedisError, ResponseError

from laneway.engine.engine import Engine
from laneway.engine.errors import EngineError, ServerLost
from laneway.transport.channel import Channel
from laneway.transport.connection_options import address_of, keep_transport, settings_of
from laneway.transport.lease_keeper import LeaseKeeper, shared_leases
from laneway.transport.poller import Poller
from laneway.transport.revocation import on_cancelled, remember_consumers
from laneway.transport.write_through import writes_at_once
from laneway.worker.inspect import extend_inspect
from laneway.worker.lease_check import check_leases_before_start

logger = logging.getLogger(__name__)
LEASE_SECONDS = 30.0
HORIZON_SECONDS = 1.0
TURN = 32
"""Messages handed out in one turn of the event loop, which has pipes of the pool to serve as well."""


class Alarm:
    """Ends the event loop's wait in time for the next tick.

    The loop decides how long to wait before it calls `on_tick`, so a timer set there is seen a round
    late; a byte in a pipe makes that round begin at once.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._at, self._ringing = 0.0, False
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        weakref.finalize(self, _close, self._read, self._write)
        loop.add_reader(self._read, self._rung)

    def set(self, seconds: float) -> None:
        """Make the loop tick again in at most so many seconds; with 0 again and again, until it is set anew."""
        if self._read not in self._loop.readers:  # the worker's reset of its loop forgets them
            self._loop.add_reader(self._read, self._rung)
        now, rang, self._ringing = time.monotonic(), self._ringing, seconds <= 0
        if not seconds:
            if not rang:
                self._ring()
            return
        if not now < self._at <= now + seconds + 0.001:
            self._at = now + seconds
            self._loop.call_later(seconds, _nothing)
            self._ring()
        elif rang:
            self._rung()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def stop(self) -> None:
        """The loop must not watch it any more."""
        self._loop.remove_reader(self._read)

    def _rung(self) -> None:
        if self._ringing:
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)


def _nothing() -> None:
    """The timer only ends the loop's wait; the next tick looks."""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Transport(virtual.Transport):
    """One connection of kombu's: an engine, its leases, and the channels on it."""

    Channel = Channel
    can_parse_url = True
    default_port = 6379
    driver_type = "redis"  # Celery makes its event exchange a fanout for this type
    driver_name = "laneway"
    connection_errors = (ServerLost, OSError)
    channel_errors = (*virtual.Transport.channel_errors, ResponseError, RedisError)
    recoverable_connection_errors = (ServerLost, OSError)
    recoverable_channel_errors = ()
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        options: dict[str, Any] = client.transport_options
        self.lease_ms = int(float(options.get("lease", LEASE_SECONDS)) * 1000)
        self.horizon = float(options.get("horizon", HORIZON_SECONDS))
        self.weights: dict[str, int] = options.get("weights", {})
        self.fanouts: dict[str, str] = {}
        keep_transport(client)
        url, settings = address_of(client), settings_of(client)
        self.engine = Engine.from_url(url, **settings)
        self.leases = self._leases(url, settings, options.get("cancel_signal"))
        self.poller = Poller(self)
        self._loop: Any = None
        self._forget_loop: Callable[[], None] | None = None

    def _leases(self, url: str, settings: dict[str, Any], signal: str | None) -> LeaseKeeper:
        def make() -> LeaseKeeper:
            told = partial(on_cancelled, signal=signal)
            return LeaseKeeper(Engine.from_url(url, **settings), lease_ms=self.lease_ms, on_cancelled=told)

        return shared_leases((url, repr(settings), self.lease_ms, signal), make)

    @property
    def is_cut(self) -> bool:
        """True for the consuming connection of a Celery worker that does not stop: what it closes, it makes anew."""
        state = sys.modules.get("celery.worker.state")
        if state is None or not (self._loop is not None or state.reserved_requests):
            return False
        return all(flag is None or flag is False for flag in (state.should_stop, state.should_terminate))

    def command(self, *parts: bytes | str | int) -> Any:
        """A command outside the scripts: bindings, broadcasts, the bell."""
        return self.engine.runner.call(*parts)

    def tell(self, *parts: bytes | str | int) -> None:
        """A command whose answer nobody waits for."""
        self.engine.runner.on_connection(lambda wire, _: wire.post(parts))

    def establish_connection(self) -> Any:
        """Check the server, and be ready."""
        self.engine.check()
        self.leases.users.add(self)
        for prepare in (check_leases_before_start, remember_consumers, extend_inspect):  # if it is a worker
            prepare()
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        """Give back what is held, send what is left of the acks, close."""
        super().close_connection(connection)
        if self._forget_loop:
            self._forget_loop()
        try:
            self.leases.leave(self)
        except EngineError as error:
            logger.warning("Some acks could not be sent, they are sent when the server is there again: %s", error)
        self.poller.close()
        self.engine.close()

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver something, waiting up to `timeout` seconds for it; raises TimeoutError when nothing comes."""
        del connection
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.poller.step():
                return
            left = self.horizon if deadline is None else max(0.0, deadline - time.monotonic())
            if self.poller.wait(self.poller.until_due(min(left, self.horizon))):
                return
            self.poller.check()
            if deadline is not None and time.monotonic() >= deadline:
                if self.poller.step():
                    return
                raise TimeoutError

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let Celery's event loop do the waiting."""
        del connection
        self._loop = loop
        if self.leases.holds:  # over a connection that was lost: what the worker let go of goes back now
            gc.collect()
        alarm = Alarm(loop)

        def on_tick() -> None:
            more = self._take_turn(loop)
            for descriptor in self.poller.wires():
                if descriptor not in loop.readers:
                    loop.add_reader(descriptor, on_readable, descriptor)
            alarm.set(0 if more else self.poller.until_due(self.horizon))

        def on_readable(descriptor: int) -> None:
            if descriptor not in self.poller.wires():
                loop.remove_reader(descriptor)
                return
            self.poller.readable(descriptor)

        def forget() -> None:
            loop.on_tick.discard(on_tick)
            alarm.stop()

        self._forget_loop = forget
        loop.on_tick.add(on_tick)
        loop.call_repeatedly(10, self.poller.check)

    def _take_turn(self, loop: Any) -> bool:
        """Hand out messages until one has used `call_soon`, as acks do, for that waits for the next turn.

        So what a pool that blocks acknowledges goes out before its next task; others get many in one turn.
        True if the loop must go round at once: for what is left, or because the pool heard of new work too late
        in this round to write to its processes (Celery's prefork pool; `laneway.worker.prefork` writes at once).
        """
        for handed_out in range(TURN):
            if not self.poller.step():
                return handed_out > 0 and loop not in writes_at_once
            if loop._ready:
                break
        return True

    def on_hang_up(self, descriptor: int) -> None:
        """A wire is about to be closed: the event loop must not watch it any more."""
        if self._loop is not None:
            self._loop.remove_reader(descriptor)

    def driver_version(self) -> str:
        """redis-py's, which connects."""
        return redis.__version__

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """kombu's own way of hiding passwords."""
        raise NotImplementedError
