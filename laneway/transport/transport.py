"""The kombu transport: `broker_transport = "laneway:Transport"`, which `laneway.install` sets. The broker's URL stays.

Options (`broker_transport_options`): `lease` seconds (30) · `weights` {queue: 1-100} · `classes` {queue: 1-255}, for a
strict order of queues (none) · `labels` of the worker, for tasks that need them (none) · `poll_interval`, seconds
between two fetches without a wakeup (1) · `cancel_signal`, which ends a running task that was cancelled (none: it runs
on) ·
`key_ring`, the file of the keys that sign messages (none: nothing is signed), and `signing`, `require` or `sign` ·
`global_keyprefix`, which comes before every key and channel (none) · `zero_goes_first`, to count priorities as kombu's
Redis transport does (false: 9 goes first) · `master_name` for `sentinel://` · redis-py's
connection settings in `connection`. A warning names every other option.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from celery.signals import worker_ready
from kombu.transport import virtual
from redis.exceptions import RedisError, ResponseError

from laneway.engine.connection import Command
from laneway.engine.engine import Engine
from laneway.engine.errors import EngineError, ServerLost
from laneway.transport import celery_worker
from laneway.transport.channel import Channel
from laneway.transport.connection_options import (
    address_of,
    keep_transport,
    lease_timeouts,
    settings_of,
    warn_of_unused,
)
from laneway.transport.event_loop import EventLoopDriver
from laneway.transport.lease_keeper import LeaseKeeper, shared_lease_keeper
from laneway.transport.poller import Poller
from laneway.transport.revocation import revoke_held
from laneway.transport.signatures import signer_of

logger = logging.getLogger(__name__)
LEASE_SECONDS = 30.0
POLL_SECONDS = 1.0
NOT_INSTALLED = (
    "This worker uses the engine's transport without laneway.install(app). A task may start after its lease has "
    "expired; the worker waits for a countdown or ETA a second time, by its own clock; a pool process that hangs is "
    "not replaced; a message that is no task call crashes the worker; and `inspect scheduled` does not list the tasks "
    "that wait in the broker. Call laneway.install(app) where the app is made."
)


class Transport(virtual.Transport):
    """One kombu connection: an engine, the keeper of its leases, and the channels."""

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
        self._pid = os.getpid()
        self._gathered: list[Command] | None = None
        """The commands of `sent_together`."""
        options: dict[str, Any] = client.transport_options
        self.lease_ms = int(float(options.get("lease", LEASE_SECONDS)) * 1000)
        self.poll_interval = float(options.get("poll_interval", POLL_SECONDS))
        self.weights: dict[str, int] = options.get("weights", {})
        self.classes: dict[str, int] | None = options.get("classes")
        self.labels: tuple[str, ...] = tuple(options.get("labels", ()))
        self.zero_goes_first = bool(options.get("zero_goes_first"))
        self.signer = signer_of(options)
        self.fanouts: dict[str, str] = {}
        keep_transport(client)
        warn_of_unused(options)
        url, settings = address_of(client), settings_of(client) | {"key_prefix": options.get("global_keyprefix", "")}
        self.engine = Engine.from_url(url, **settings)
        self.lease_keeper = self._lease_keeper(url, settings, options.get("cancel_signal"))
        self.poller = Poller(self)
        self._driver: EventLoopDriver | None = None

    def _lease_keeper(self, url: str, settings: dict[str, Any], signal: str | None) -> LeaseKeeper:
        def make() -> LeaseKeeper:
            on_cancelled = partial(revoke_held, signal=signal)
            own: dict[str, Any] = settings | lease_timeouts(settings, self.lease_ms / 1000)
            engine = Engine.from_url(url, **own)
            return LeaseKeeper(engine, lease_ms=self.lease_ms, on_cancelled=on_cancelled)

        return shared_lease_keeper((url, repr(settings), self.lease_ms, signal), make)

    @property
    def is_inherited(self) -> bool:
        """True in a forked child of the process that made this connection. The child must leave it to its parent."""
        return os.getpid() != self._pid

    @property
    def will_reconnect(self) -> bool:
        """True for the consuming connection of a worker that is not stopping. If it closes, the worker replaces it."""
        return (self._driver is not None or celery_worker.has_requests()) and not celery_worker.is_stopping()

    def command(self, *parts: bytes | str | int) -> Any:
        """Send a command outside the scripts (bindings, broadcasts, wakeups); return its reply."""
        return self.engine.runner.call(*parts)

    def send_without_reply(self, *parts: bytes | str | int) -> None:
        """Send a command whose reply nobody waits for."""
        if self._gathered is not None:
            self._gathered.append(parts)
            return
        self.engine.runner.on_connection(lambda connection: connection.post(parts))

    @contextmanager
    def sent_together(self) -> Generator[None]:
        """Send the commands of this block whose replies nobody waits for at once, at its end; one thread at a time."""
        gathered: list[Command] = []
        self._gathered = gathered
        try:
            yield
        finally:
            self._gathered = None
            if gathered:
                self.engine.runner.on_connection(lambda connection: connection.post(*gathered))

    def deliver(self, message: dict[str, Any], queue: str) -> None:
        """Hand a message to the consumer of this queue."""
        self._deliver(message, queue)

    def establish_connection(self) -> Any:
        """Connect and check the server."""
        self.engine.check()
        self.lease_keeper.attach(self)
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        """Give back what is held, send the last acks, and close. A forked child only drops its copy."""
        if self.is_inherited:
            self._drop_copy()
            return
        super().close_connection(connection)
        if self._driver:
            self._driver.stop()
        try:
            self.lease_keeper.detach(self)
        except EngineError as error:
            logger.warning("Some acks could not be sent; they are sent when the server is back: %s", error)
        self.poller.close()
        self.engine.close()

    def _collect(self, connection: Any) -> None:
        """Drop this connection: kombu calls this in a forked child, and in a worker that has lost the connection."""
        del connection
        if self.is_inherited:
            self._drop_copy()
        else:
            self.client._do_close_self()  # pyright: ignore[reportPrivateUsage] - what kombu does without this hook

    def _drop_copy(self) -> None:
        """Close the child's copies of the descriptors. The server and the parent's event loop do not notice."""
        self.channels.clear()
        self._avail_channels.clear()
        self.poller.drop_copy()
        self.engine.close()

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message; wait for it up to `timeout` seconds. Raises TimeoutError when none comes."""
        del connection
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.poller.step():
                return
            left = self.poll_interval if deadline is None else max(0.0, deadline - time.monotonic())
            if self.poller.wait(self.poller.seconds_until_due(min(left, self.poll_interval))):
                return
            self.poller.replace_dead_connections()
            if deadline is not None and time.monotonic() >= deadline:
                if self.poller.step():
                    return
                raise TimeoutError

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let Celery's event loop do the waiting."""
        del connection
        if self.lease_keeper.is_holding:  # gives back the messages of a lost connection that the worker has dropped
            gc.collect()
        self._driver = EventLoopDriver(loop, self.poller, poll_interval=self.poll_interval)

    def stop_watching(self, descriptor: int) -> None:
        """Take this descriptor out of the event loop: it is about to be closed."""
        if self._driver is not None:
            self._driver.stop_watching(descriptor)

    def driver_version(self) -> str:
        """The version of redis-py, which opens the connections."""
        return redis.__version__

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Let kombu mask the password: it does so when this raises NotImplementedError."""
        raise NotImplementedError


@worker_ready.connect(weak=False, dispatch_uid=__name__)
def _warn_if_not_installed(sender: Any, **_: Any) -> None:
    transport = getattr(getattr(sender, "connection", None), "transport", None)
    if isinstance(transport, Transport) and sender not in celery_worker.prepared_consumers:
        logger.warning(NOT_INSTALLED)
