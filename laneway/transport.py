"""The kombu transport: `broker_transport = "laneway:Transport"`, while the broker's URL stays what it is.

Options (`broker_transport_options`): `lease` seconds (30) · `weights` {queue: 1-100} · `horizon` seconds
between two looks without a bell (1) · `master_name` for `sentinel://` · any of redis-py's connection settings
in `connection`.
"""

# kombu is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUntypedBaseClass=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import redis
from kombu.transport import virtual
from redis.exceptions import RedisError, ResponseError

from laneway.channel import Channel
from laneway.connecting import address_of, keep_transport, settings_of
from laneway.engine import Delivery, Engine
from laneway.errors import EngineError, ServerLost
from laneway.leases import Leases, shared_leases
from laneway.poller import Poller
from laneway.starting import check_leases_before_start

logger = logging.getLogger(__name__)
LEASE_SECONDS = 30.0
HORIZON_SECONDS = 1.0


class Alarm:
    """Ends the event loop's wait in time for the next tick.

    The loop decides how long to wait before it calls `on_tick`, so a timer set there is seen a round
    late; a byte in a pipe makes that round begin at once.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._at = 0.0
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        weakref.finalize(self, _close, self._read, self._write)
        loop.add_reader(self._read, self._rung)

    def set(self, seconds: float) -> None:
        """Make the loop tick again in at most so many seconds."""
        now = time.monotonic()
        if seconds and now < self._at <= now + seconds + 0.001:
            return
        self._at = now + seconds
        self._loop.add_reader(self._read, self._rung)  # the worker's reset of its loop forgets readers
        if seconds > 0:
            self._loop.call_later(seconds, _nothing)
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def stop(self) -> None:
        """The loop must not watch it any more."""
        self._loop.remove_reader(self._read)

    def _rung(self) -> None:
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
        self.leases = self._leases(url, settings)
        self.poller = Poller(self)
        self._loop: Any = None
        self._forget_loop: Callable[[], None] | None = None

    def _leases(self, url: str, settings: dict[str, Any]) -> Leases:
        def make() -> Leases:
            return Leases(Engine.from_url(url, **settings), lease_ms=self.lease_ms, on_cancelled=_revoke)

        return shared_leases((url, repr(settings), self.lease_ms), make)

    @property
    def is_cut(self) -> bool:
        """True for the consuming connection of a Celery worker that does not stop: what it closes, it makes anew."""
        state = sys.modules.get("celery.worker.state")
        if state is None or not (self._loop is not None or state.reserved_requests):
            return False
        return all(flag is None or flag is False for flag in (state.should_stop, state.should_terminate))

    def command(self, *parts: bytes | str | int) -> Any:
        """A command outside the scripts: bindings, broadcasts, the bell."""
        return self.engine.runner.on_wire(lambda wire, _: wire.call(*parts))

    def establish_connection(self) -> Any:
        """Check the server, and be ready."""
        self.engine.check()
        self.leases.users.add(self)
        check_leases_before_start()
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
        alarm = Alarm(loop)

        def on_tick() -> None:
            if not any(channel.pending for channel in self.channels or ()):
                self.leases.flush()  # otherwise the thread sends them, more at a time
            delivered = self.poller.step()
            for descriptor in self.poller.wires():
                loop.add_reader(descriptor, on_readable, descriptor)
            # what was delivered may have called call_soon (acks do), which waits for the next round
            alarm.set(0 if delivered else self.poller.until_due(self.horizon))

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


def _revoke(delivery: Delivery) -> None:
    """A held task was cancelled: if it has not started in this worker it never will."""
    state = sys.modules.get("celery.worker.state")
    task_id = delivery.stored.message.task_id
    logger.info("Task %s was cancelled while it was held here", task_id)
    if state:
        state.revoked.add(task_id)
